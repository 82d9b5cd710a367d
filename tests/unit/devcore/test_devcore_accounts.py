"""Core's rules for money, by the stand-in's accounts. Each test names the section of the fact sheet that it holds to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.devcore_time import StillClock
from serai_devcore import EXAMPLE_PRODUCT, CoreError, Generation, WalletKey, acme_request
from serai_devcore.accounts import Accounts, payer
from serai_devcore.documents import job_document
from serai_devcore.jobs import JobBook
from serai_devcore.wire import Json, JsonObject

PRICE = EXAMPLE_PRODUCT.price_per_unit
PERSONAL = WalletKey("user:user", "example", "example-compute")


def accounts(generation: Generation = Generation.G2021, *, credit: int | None = 100 * PRICE) -> Accounts:
    """Jobs 1 (personal), 2 (project p), 3 (three replicas, personal)."""
    clock = StillClock()
    jobs = JobBook(generation, clock)
    one = acme_request()
    for job_id, request in {"1": one, "2": replace(one, project="p"), "3": replace(one, replicas=3)}.items():
        jobs.insert(job_document(request, job_id, 0, generation))
    made = Accounts(generation, clock, jobs, credit)
    made.add_product(EXAMPLE_PRODUCT)
    return made


def item(job_id: str, charge_id: str, units: int, **more: Json) -> JsonObject:
    return {"id": job_id, "chargeId": charge_id, "units": units} | more


def left(made: Accounts, key: WalletKey = PERSONAL) -> int:
    wallet = made.wallet(key)
    assert wallet is not None
    return wallet.left


def short(answer: JsonObject) -> Json:
    return answer["insufficientFunds"]


def refused(made: Accounts, items: list[JsonObject]) -> CoreError:
    with pytest.raises(CoreError) as caught:
        made.charge("example", items)
    return caught.value


def test_a_charge_is_periods_times_products_times_price() -> None:
    """2021 §2.2 Price; numberOfProducts is 1 when it is not sent; the product's cores do not count."""
    made = accounts()
    made.add_product(replace(EXAMPLE_PRODUCT, cpu=64))
    assert made.charge("example", [item("1", "a", 15), item("3", "b", 2, numberOfProducts=3)]) == {
        "insufficientFunds": [],
        "duplicateCharges": [],
    }
    assert left(made) == (100 - 15 - 6) * PRICE
    assert [c.charged for c in made.charges] == [15 * PRICE, 6 * PRICE]


def test_the_newest_price_counts() -> None:
    """2021 §2.2 Price: of the newest product version, not of the job's."""
    made = accounts()
    made.add_product(replace(EXAMPLE_PRODUCT, price_per_unit=7))
    made.charge("example", [item("1", "a", 10)])
    assert left(made) == 100 * PRICE - 70


def test_a_project_pays_for_its_jobs() -> None:
    """2021 §2.2 Payer."""
    made = accounts()
    made.charge("example", [item("2", "a", 1)])
    assert payer(made.jobs["2"]).owner == "project:p"
    assert (left(made), left(made, payer(made.jobs["2"]))) == (100 * PRICE, 99 * PRICE)


def test_a_charge_id_counts_once_and_its_repetition_looks_like_a_shortage() -> None:
    """2021 §0.2 #7, §2.2 Duplicate: not charged again, comes back inside insufficientFunds, duplicateCharges stays empty."""
    made = accounts()
    made.charge("example", [item("1", "a", 1)])
    assert made.charge("example", [item("1", "a", 1)]) == {"insufficientFunds": [{"id": "1"}], "duplicateCharges": []}
    assert left(made) == 99 * PRICE
    assert [c.duplicate for c in made.charges] == [False, True]


def test_charge_ids_are_one_space_for_all_jobs_of_a_provider() -> None:
    """2021 §0.2 #8: the key is provider and charge id, without the job."""
    made = accounts()
    made.charge("example", [item("1", "a", 1)])
    assert short(made.charge("example", [item("3", "a", 1)])) == [{"id": "3"}]
    assert left(made) == 99 * PRICE


def test_equal_ids_inside_one_bulk_are_both_charged() -> None:
    """2021 §2.2: only compared with what was stored before."""
    made = accounts()
    assert short(made.charge("example", [item("1", "a", 1), item("1", "a", 1)])) == []
    assert left(made) == 98 * PRICE


def test_a_shortage_takes_what_is_left_and_is_reported() -> None:
    """2021 §2.2 Shortage; the next charge finds nothing and is reported too; what can be paid exactly is not."""
    made = accounts(credit=10 * PRICE)
    assert short(made.charge("example", [item("1", "a", 9)])) == []
    assert short(made.charge("example", [item("1", "b", 2)])) == [{"id": "1"}]
    assert left(made) == 0
    assert short(made.charge("example", [item("1", "c", 1)])) == [{"id": "1"}]
    assert [c.charged for c in made.charges] == [9 * PRICE, PRICE, 0]
    made.set_credits(PERSONAL, 3 * PRICE)
    assert short(made.charge("example", [item("1", "d", 3)])) == []


def test_the_quirk_of_early_reports_can_be_switched_on() -> None:
    """2021 §2.2 Shortage, derived quirk: reported when less is left than was just taken."""
    made = accounts(credit=10 * PRICE)
    made.reports_early = True
    assert short(made.charge("example", [item("1", "a", 5)])) == []
    assert short(made.charge("example", [item("1", "b", 3)])) == [{"id": "1"}]
    assert left(made) == 2 * PRICE


@pytest.mark.parametrize(
    "bad",
    [
        item("1", "b", 0),
        item("1", "b", 1, numberOfProducts=0),
        item("9", "b", 1),
        {"id": "1", "units": 1},
        {"id": "1", "chargeId": "b"},
        {"id": "1", "chargeId": "b", "units": "15"},
    ],
)
def test_one_bad_item_fails_the_bulk_with_400(bad: JsonObject) -> None:
    """2021 §2.2 units < 1, §7.3 unknown ids: nothing is charged."""
    made = accounts()
    assert refused(made, [item("1", "a", 1), bad]).status == 400
    assert left(made) == 100 * PRICE


def test_no_wallet_fails_the_bulk_with_400() -> None:
    """2021 §2.2 No matching wallet allocation."""
    made = accounts(credit=None)
    made.set_credits(PERSONAL, PRICE)
    error = refused(made, [item("1", "a", 1), item("2", "b", 1)])
    assert error.status == 400
    assert error.why.startswith("Unable to fulfill all requests.")
    assert left(made) == PRICE


def test_today_looks_at_periods_and_replicas_only() -> None:
    """today §9 chargeCredits: `units` is ignored, missing periods are 0 and cost nothing."""
    made = accounts(Generation.G2026)
    assert short(made.charge("example", [item("3", "a", 15, numberOfProducts=9)])) == []
    assert left(made) == 100 * PRICE
    made.charge("example", [item("3", "a", 0, periods=2)])
    assert left(made) == 94 * PRICE


def test_today_a_charge_is_absolute_in_its_scope() -> None:
    """today §9: same id and amount does nothing, another amount replaces, also downwards; over quota is applied and listed."""
    made = accounts(Generation.G2026)
    for periods in (5, 5, 8, 3):
        assert short(made.charge("example", [item("1", "a", 1, periods=periods)])) == []
    assert [(c.charged // PRICE, c.duplicate) for c in made.charges] == [(5, False), (0, True), (3, False), (-5, False)]
    assert left(made) == 97 * PRICE
    assert short(made.charge("example", [item("1", "b", 1, periods=98)])) == [{"id": "1"}]
    assert made.wallets[PERSONAL].used == 101 * PRICE
    assert refused(made, [item("1", "a", 1, periods=1), item("9", "a", 1, periods=1)]).status == 400
    assert made.wallets[PERSONAL].used == 101 * PRICE


def usage(amount: int, scope: str = "1", *, delta: bool = False, provider: str = "example") -> JsonObject:
    return {
        "isDeltaCharge": delta,
        "owner": {"type": "user", "username": "user"},
        "categoryIdV2": {"name": "example-compute", "provider": provider},
        "usage": amount,
        "description": {"scope": scope, "description": ""},
    }


def test_usage_is_absolute_by_scope_or_a_delta() -> None:
    """today §9 reportUsage: absolute heals, delta adds to its scope; the answer says whether the wallet is open; a negative absolute
    is 403."""
    made = accounts(Generation.G2026, credit=100)
    assert made.report_usage("example", [usage(10), usage(10), usage(30, "2")]) == {"responses": [True, True, True]}
    assert left(made) == 60
    assert made.report_usage("example", [usage(5, delta=True), usage(96)]) == {"responses": [True, False]}
    assert made.wallets[PERSONAL].used == 126
    for bad in (usage(-1), usage(1, provider="other")):
        with pytest.raises(CoreError) as caught:
            made.report_usage("example", [bad])
        assert caught.value.status == 403
