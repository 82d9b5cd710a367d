"""Usage as today's Core keeps it, and what a job has cost in all. Each test names the section of the fact sheet that it holds to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.devcore_time import StillClock
from serai_devcore import EXAMPLE_PRODUCT, CoreError, Generation, WalletKey, acme_request
from serai_devcore.accounts import Accounts
from serai_devcore.billing import bill
from serai_devcore.documents import job_document
from serai_devcore.jobs import JobBook
from serai_devcore.wire import Json, JsonObject

G2021, G2026 = Generation.G2021, Generation.G2026
PRICE = EXAMPLE_PRODUCT.price_per_unit
PERSONAL = WalletKey("user:user", "example", "example-compute")
NOBODY: JsonObject = {"type": "user", "username": "nobody"}


def accounts(generation: Generation = G2026, *, credit: int | None = 100 * PRICE) -> tuple[Accounts, StillClock]:
    """Jobs 1 (one replica), 11 (one replica), 3 (three replicas), all of user:user."""
    clock = StillClock(0)
    jobs = JobBook(generation, clock)
    for job_id, replicas in {"1": 1, "11": 1, "3": 3}.items():
        jobs.insert(job_document(replace(acme_request(), replicas=replicas), job_id, 0, generation))
    made = Accounts(generation, clock, jobs, credit)
    made.add_product(EXAMPLE_PRODUCT)
    return made, clock


def usage(amount: int, scope: str | None = "job-1", **more: Json) -> JsonObject:
    item: JsonObject = {
        "isDeltaCharge": False,
        "owner": {"type": "user", "username": "user"},
        "categoryIdV2": {"name": "example-compute", "provider": "example"},
        "usage": amount,
        "description": {"scope": scope, "description": ""},
    }
    return item | more


@pytest.mark.parametrize(
    "bad",
    [
        {"categoryIdV2": {"name": "example-compute", "provider": "other"}},
        {"categoryIdV2": {"name": "unknown", "provider": "example"}},
        {"owner": NOBODY},
        {"owner": {"type": "project", "projectId": "none"}},
        {"usage": -1},
    ],
)
def test_usage_that_cannot_be_booked_is_403_and_stops_the_bulk_there(bad: JsonObject) -> None:
    """today §9 reportUsage (negative absolute 403) and the reference of its handler: foreign or unknown category, unknown owner; items are
    done one after the other, so what stood before the bad one counts."""
    made, _ = accounts()
    with pytest.raises(CoreError) as caught:
        made.report_usage("example", [usage(5), usage(1, "job-3") | bad, usage(7, "job-11")])
    assert caught.value.status == 403
    assert made.wallets[PERSONAL].used == 5


def test_a_locked_wallet_says_false_and_the_usage_is_recorded() -> None:
    """today §9: false = wallet locked, the usage is recorded all the same; an owner without any grant is locked from the start."""
    made, _ = accounts(credit=None)
    made.set_credits(PERSONAL, 10)
    assert made.report_usage("example", [usage(10), usage(11), usage(9)]) == {"responses": [True, False, True]}
    project: JsonObject = {"owner": {"type": "project", "projectId": "p"}}
    made.jobs.insert(job_document(replace(acme_request(), project="p"), "5", 0, G2026))
    assert made.report_usage("example", [usage(1) | project]) == {"responses": [False]}
    assert made.wallets[WalletKey("project:p", "example", "example-compute")].used == 1


def test_an_absolute_usage_without_scope_is_the_whole_of_the_category() -> None:
    """today §9: it overwrites the owner's whole usage."""
    made, _ = accounts()
    made.report_usage("example", [usage(10), usage(20, "job-11"), usage(4, None)])
    assert made.wallets[PERSONAL].used == 4


def test_a_crash_of_core_loses_what_it_has_not_written() -> None:
    """today §1: wallets are written every 30 s; an acknowledged report inside of that window is lost, and an absolute one heals it."""
    made, clock = accounts()
    made.report_usage("example", [usage(10)])
    clock.now = 31_000
    made.report_usage("example", [usage(25)])
    made.lose_unsaved_usage()
    assert (made.wallets[PERSONAL].used, made.scopes_of("user:user")) == (10, {"job-1": 10})
    made.report_usage("example", [usage(25)])
    clock.now = 61_000
    made.lose_unsaved_usage()
    assert (made.wallets[PERSONAL].used, made.scopes_of("user:user")) == (25, {"job-1": 25})


def test_check_credits_looks_at_the_wallet_only() -> None:
    """today §9 checkCredits: only whether anything is left; unknown job 400."""
    made, _ = accounts()
    item: JsonObject = {"id": "1", "chargeId": "x", "units": 1, "periods": 1_000_000}
    assert made.check("example", [item])["insufficientFunds"] == []
    made.set_credits(PERSONAL, 0)
    assert made.check("example", [item])["insufficientFunds"] == [{"id": "1"}]
    with pytest.raises(CoreError) as caught:
        made.check("example", [item | {"id": "9"}])
    assert caught.value.status == 400


def test_a_bill_of_2021_is_the_sum_of_what_was_taken() -> None:
    """2021 §2.2: repeated charge ids cost nothing; numberOfProducts carries the replicas."""
    made, _ = accounts(G2021)
    for charge_id, units in (("a", 2), ("a", 2), ("b", 5)):
        made.charge("example", [{"id": "3", "chargeId": charge_id, "units": units, "numberOfProducts": 3}])
    found = bill(made, made.jobs["3"])
    assert (found.credits, found.periods, found.replicas, found.odd) == (21 * PRICE, 7, 3, 0)


def test_a_bill_of_today_is_the_last_amount_of_the_jobs_scope() -> None:
    """today §9: absolute within a scope; job 1's scope is not job 11's; an amount that makes no whole period is told."""
    made, _ = accounts()
    made.report_usage("example", [usage(4 * PRICE), usage(6 * PRICE), usage(30 * PRICE, "job-11"), usage(9 * PRICE + 1, "serai:3")])
    assert bill(made, made.jobs["1"]).periods == 6
    assert bill(made, made.jobs["11"], "job-11").periods == 30
    found = bill(made, made.jobs["3"])
    assert (found.periods, found.odd) == (3, 1)
