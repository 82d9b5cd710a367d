"""What Core is told of licenses: in order, by its id, each registered once."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from fakes.gateway_core import CHARGE as JOB_CHARGE
from fakes.gateway_core import UPDATE as JOB_UPDATE
from fakes.gateway_core import USAGE, away, error, says
from fakes.gateway_deliveries import LeapingClock, deliver_all, delivering
from fakes.gateway_events import Event, FakeEventLog, charge, license_charge, license_update, registration, total, update
from fakes.gateway_licenses import CHARGE, REGISTER, UPDATE, LicensesCore
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.licenses.v1 import license_pb2
from serai_devcore import licenses
from serai_devcore.accounts import Product
from serai_devcore.settings import Settings as DevCoreSettings
from serai_devcore.state import State
from serai_devcore.wire import CoreError
from serai_devcore.wire import Generation as CoreGeneration
from serai_gateway.control.queues import key_of
from serai_gateway.control.registrations import REST_MS
from serai_gateway.control.transport import Answer
from serai_gateway.settings import Generation

DELIVERED = events_pb2.SETTLEMENT_OUTCOME_DELIVERED
UNKNOWN = events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN
REFUSED = events_pb2.SETTLEMENT_OUTCOME_REFUSED
INSUFFICIENT_FUNDS = events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS
OURS = "1000000000000001"
BOTH = pytest.mark.parametrize("generation", ["2021", "2026"])


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "refresh"
    path.write_text("the refresh token\n")
    return path


def paths(core: LicensesCore) -> list[str]:
    return [path for path, _ in core.calls]


@BOTH
async def test_updates_of_a_license_reach_core_under_its_id(token_file: Path, generation: Generation) -> None:
    """Core's own id where the license was registered, else the id that Core gave it; state, words, binding, and a time for Core to fill."""
    bound = license_update(3, "7", core_id="70")
    bound.license_update.CopyFrom(
        license_pb2.LicenseUpdate(timestamp=5, binding=license_pb2.JobBinding(kind=license_pb2.JOB_BIND_KIND_BIND, job="54112"))
    )
    core = LicensesCore(LeapingClock(), generation)
    log = FakeEventLog([license_update(1, "5123"), license_update(2, OURS, core_id="40"), bound])
    await deliver_all(log, core, token_file)
    assert core.calls == [
        (
            UPDATE,
            [
                {"id": "5123", "update": {"timestamp": 0, "state": "READY", "status": "u1", "binding": None}},
                {"id": "40", "update": {"timestamp": 0, "state": "READY", "status": "u2", "binding": None}},
                {"id": "70", "update": {"timestamp": 0, "state": None, "status": None, "binding": {"kind": "BIND", "job": "54112"}}},
            ],
        )
    ]
    assert set(log.outcomes.values()) == {DELIVERED}


async def test_a_job_and_a_license_of_one_id_are_two(token_file: Path) -> None:
    """Each has its own order and its own calls; what Core says of the one does not touch the other."""
    assert key_of(update(1, "7")) != key_of(license_update(2, "7"))
    log = FakeEventLog([update(1, "7"), license_update(2, "7"), charge(3, "7"), license_charge(4, "7"), license_update(5, "7")])
    core = LicensesCore(LeapingClock(), funded=lambda _: False)
    await deliver_all(log, core, token_file)
    assert (core.accepted, core.told) == ({"7": ["u1", "c3"]}, {"7": ["u2", "license-7-1", "u5"]})
    assert sorted(paths(core)) == sorted([JOB_UPDATE, UPDATE, JOB_CHARGE, CHARGE, UPDATE])
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED, 3: INSUFFICIENT_FUNDS, 4: INSUFFICIENT_FUNDS, 5: DELIVERED}


async def test_a_license_is_billed_in_2021_by_one_unit(token_file: Path) -> None:
    """Under Core's id; and one that its owner cannot pay is told by its own key, though Core says its id only."""
    log = FakeEventLog([license_charge(1, OURS, core_id="40"), license_charge(2, "41")])
    core = LicensesCore(LeapingClock(), funded=lambda license_id: license_id != "40")
    await deliver_all(log, core, token_file)
    (path, items), *rest = core.calls
    expected = {"id": "40", "chargeId": f"license-{OURS}-1", "units": 1, "numberOfProducts": 1}
    assert (path, items[0], rest) == (CHARGE, {**items[0], **expected}, [])
    assert log.outcomes == {1: INSUFFICIENT_FUNDS, 2: DELIVERED}


async def test_a_license_is_reported_today_as_usage(token_file: Path) -> None:
    """In a scope of its own beside those of jobs, and in one call with theirs."""
    log = FakeEventLog([total(1, "40", 1_500), license_charge(2, OURS, core_id="40")])
    core = LicensesCore(LeapingClock(), "2026", funded=lambda name: name != "license-40")
    await deliver_all(log, core, token_file)
    ((path, items),) = core.calls
    assert path == USAGE
    assert [(item["description"]["scope"], item["usage"]) for item in items] == [("job-40", 1_500), ("license-40", 5)]
    assert items[1]["categoryIdV2"] == {"name": "lic", "provider": "example"}
    assert log.outcomes == {1: DELIVERED, 2: INSUFFICIENT_FUNDS}


@BOTH
async def test_a_license_that_core_does_not_know_does_not_hold_the_others(token_file: Path, generation: Generation) -> None:
    """It is found by halving the batch and settled as unknown; what comes of it afterwards travels alone."""
    log = FakeEventLog([license_update(n, str(n)) for n in range(1, 21)] + [license_update(21, "7")])
    core = LicensesCore(LeapingClock(), generation, known=lambda license_id: license_id != "7")
    await deliver_all(log, core, token_file)
    assert {number for number, outcome in log.outcomes.items() if outcome == UNKNOWN} == {7, 21}
    assert sorted(core.told) == sorted(str(n) for n in range(1, 21) if n != 7)


async def test_a_wallet_that_nobody_has_is_a_missing_fund(token_file: Path) -> None:
    """Core of 2021 refuses the whole call (facts 2021 §2.2)."""
    log = FakeEventLog([license_charge(1, "5")])
    core = LicensesCore(LeapingClock(), poison=lambda _: error(400, "Unable to fulfill all requests. No wallet"))
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: INSUFFICIENT_FUNDS}


async def test_an_update_that_says_nothing_is_settled(token_file: Path) -> None:
    """Nothing is sent."""
    log = FakeEventLog([Event(sequence=1, license_id="5", license_update=license_pb2.LicenseUpdate(timestamp=1))])
    core = LicensesCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert (core.calls, log.outcomes) == ([], {1: DELIVERED})


# Registration


@BOTH
async def test_a_license_that_was_made_here_is_registered(token_file: Path, generation: Generation) -> None:
    """Core is asked first, then told, and its id comes back with the settlement."""
    log = FakeEventLog([registration(1, OURS), registration(2, "1000000000000002", project="p-1")])
    core = LicensesCore(LeapingClock(), generation)
    await deliver_all(log, core, token_file)
    assert core.asked == [f"itemsPerPage=250&filterProviderIds={ours}" for ours in (OURS, "1000000000000002")]
    spec = {"product": {"id": "lic-1", "category": "lic", "provider": "example"}}
    assert core.calls == [
        (REGISTER, [{"spec": spec, "providerGeneratedId": OURS, "createdBy": "user", "project": None}]),
        (REGISTER, [{"spec": spec, "providerGeneratedId": "1000000000000002", "createdBy": "user", "project": "p-1"}]),
    ]
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    assert log.core_ids == {1: core.registered[OURS], 2: core.registered["1000000000000002"]}


async def test_one_that_core_has_is_not_registered_again(token_file: Path) -> None:
    """Its id is taken from the page, on whichever page it is, also where Core does not keep to the filter."""
    others = {str(n): str(n + 100) for n in range(10)}
    core = LicensesCore(LeapingClock(), "2026", registered={**others, OURS: "40"}, page=3, filters=False)
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert (core.calls, log.core_ids, log.outcomes) == ([], {1: "40"}, {1: DELIVERED})
    assert len(core.asked) == 4


@BOTH
@pytest.mark.parametrize("slow_ms", [0, 1, 5_000, 59_000])
async def test_a_registration_that_was_cut_off_is_never_repeated_blindly(token_file: Path, slow_ms: int, generation: Generation) -> None:
    """Core of 2026 would die of it, and 2021 fails: it is looked for until Core has had its time; another one goes on meanwhile."""
    clock = LeapingClock()
    core = LicensesCore(clock, generation, slow_ms=slow_ms)
    log = FakeEventLog([registration(1, OURS), license_update(2, "7")])
    async with delivering(log, core, token_file):
        await log.until(lambda: bool(core.working or core.registered))
        core.slow_ms = None
        log.add(registration(3, "1000000000000002"))
        await log.until_settled()
    clock.time_ms += 120_000
    core.end_work()
    assert (core.repeated, set(log.outcomes.values())) == (0, {DELIVERED})
    assert log.core_ids == {1: core.registered[OURS], 3: core.registered["1000000000000002"]}


async def test_one_that_never_reached_core_is_sent_after_a_rest(token_file: Path) -> None:
    """No sooner than any call of Core can still be at work."""
    clock = LeapingClock()
    core = LicensesCore(clock, "2026", faults=iter([(away, False)]))
    log = FakeEventLog([registration(1, OURS)])
    started_ms = clock.now_ms()
    await deliver_all(log, core, token_file)
    assert paths(core) == [REGISTER, REGISTER]
    assert clock.now_ms() - started_ms >= REST_MS
    assert (core.repeated, log.core_ids) == (0, {1: core.registered[OURS]})


@BOTH
async def test_one_that_an_earlier_life_may_have_sent_rests_too(token_file: Path, generation: Generation) -> None:
    """After a kill the event comes as one that may be there, and Core may still be at work on it."""
    clock = LeapingClock()
    event = registration(1, OURS)
    event.maybe_delivered = True
    core = LicensesCore(clock, generation)
    started_ms = clock.now_ms()
    log = FakeEventLog([event])
    await deliver_all(log, core, token_file)
    assert clock.now_ms() - started_ms >= REST_MS
    assert log.core_ids == {1: core.registered[OURS]}


async def test_one_whose_answer_was_lost_is_found_though_core_tells_no_id_of_ours(token_file: Path) -> None:
    """Core of 2021 tells none (facts 2021 §0.2 #2), and fails what comes again: the only one on the page for our id is the answer."""
    event = registration(1, OURS, project="p-1")
    event.maybe_delivered = True
    core = LicensesCore(LeapingClock(), "2021", registered={OURS: "40", "1000000000000002": "41"}, owners={"40": ("user", "p-1")})
    log = FakeEventLog([event])
    await deliver_all(log, core, token_file)
    assert (paths(core), log.core_ids, log.outcomes) == ([], {1: "40"}, {1: DELIVERED})


@pytest.mark.parametrize("others", [2, 250, 251])
async def test_of_several_on_a_page_without_ids_nothing_is_concluded(token_file: Path, others: int) -> None:
    """A Core that passes over the filter: the license is registered, and none of the others is taken for it."""
    registered = {str(n): str(n + 100) for n in range(others)}
    core = LicensesCore(LeapingClock(), "2021", registered=registered, filters=False)
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert (paths(core), log.core_ids) == ([REGISTER], {1: core.registered[OURS]})


@pytest.mark.parametrize("owner", [("mallory", None), ("user", "p-2")])
async def test_the_only_license_of_somebody_else_is_not_taken_for_ours(token_file: Path, owner: tuple[str, str | None]) -> None:
    """A Core that passes over the filter and has one license so far."""
    core = LicensesCore(LeapingClock(), "2021", registered={"5": "40"}, owners={"40": owner}, filters=False)
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert (paths(core), log.core_ids) == ([REGISTER], {1: core.registered[OURS]})


async def test_a_product_of_several_versions_is_tried_again_with_words_on_why(token_file: Path) -> None:
    """Core of 2021 says 500 and no more; the operator reads what it may be."""
    core = LicensesCore(LeapingClock(), "2021", several_versions={"lic-1"})
    core.on_call = lambda path: core.several_versions.clear() if path == REGISTER and len(core.calls) == 1 else None
    log = FakeEventLog([registration(1, OURS)])
    with structlog.testing.capture_logs() as logs:
        await deliver_all(log, core, token_file)
    assert any("more than one version" in str(line.get("why")) for line in logs)
    assert (paths(core), log.core_ids) == ([REGISTER, REGISTER], {1: core.registered[OURS]})


@pytest.mark.parametrize(
    "answer",
    [error(500, "oops"), error(404, "Not found"), error(400, "Bad"), Answer(200, b"<html>"), Answer(200, b'{"items":[{}],"next":null}')],
    ids=["500", "404", "400", "html", "no-id"],
)
async def test_without_a_page_nothing_is_registered(token_file: Path, answer: Answer) -> None:
    """Whoever cannot say what Core has must not tell Core more."""
    core = LicensesCore(LeapingClock(), "2026")
    tries = itertools.count()
    seen: list[list[Any]] = []

    def fault() -> Answer | None:
        seen.append(list(core.calls))
        return answer if next(tries) < 5 else None

    core.browse_fault = fault
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert seen == [[]] * 6
    assert log.core_ids == {1: core.registered[OURS]}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"responses":[]}', b'{"responses":[{"id":"1"},{"id":"2"}]}', b'{"responses":[{"id":""}]}', b'{"responses":[null]}'],
)
async def test_an_answer_without_one_id_is_no_answer(token_file: Path, body: bytes) -> None:
    """Core has it, perhaps: it is found in the pages then, and not sent again."""
    core = LicensesCore(LeapingClock(), "2026", faults=iter([(says(200, body), True)]))
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert (paths(core), log.core_ids, core.repeated) == ([REGISTER], {1: core.registered[OURS]}, 0)


async def test_what_core_refuses_to_register_is_settled_in_its_words(token_file: Path) -> None:
    """And does not hold the others; a 403 with Core's word for a foreign product is about the product and not about our token."""
    foreign = registration(2, "1000000000000002")
    foreign.license_registration.spec.product.provider = "another"
    core = LicensesCore(LeapingClock(), "2026", poison=lambda ours: error(400, "No such product") if ours == OURS else None)
    log = FakeEventLog([registration(1, OURS), foreign, registration(3, "1000000000000003")])
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: REFUSED, 2: REFUSED, 3: DELIVERED}
    assert (log.details[1], log.details[2], list(log.core_ids)) == ("400: No such product", "403: forbidden", [3])


async def test_a_conflict_is_looked_into(token_file: Path) -> None:
    """409 says that it is there already: the next look finds it, or it is tried again after a rest."""
    core = LicensesCore(LeapingClock(), "2026", faults=iter([(says(409, b'{"why":"Conflict"}'), True)]))
    log = FakeEventLog([registration(1, OURS)])
    await deliver_all(log, core, token_file)
    assert (paths(core), log.core_ids) == ([REGISTER], {1: core.registered[OURS]})


@BOTH
def test_the_fake_core_registers_by_the_rules_of_the_stand_in(generation: Generation) -> None:
    """Each list of items gets the same status, words and ids from both, one after the other (serai_devcore.licenses.register)."""
    fake = LicensesCore(LeapingClock(), generation, several_versions={"old"})
    core = State(DevCoreSettings(generation=CoreGeneration(generation)))
    core.accounts.add_product(Product("lic-1", "lic", "example", kind="license", unit="PER_UNIT"))
    core.accounts.add_product(Product("old", "lic", "example", kind="license", unit="PER_UNIT", version=2))

    def item(ours: str, user: str = "user", product: str = "lic-1", provider: str = "example") -> dict[str, Any]:
        spec = {"product": {"id": product, "category": "lic", "provider": provider}}
        return {"spec": spec, "providerGeneratedId": ours, "createdBy": user, "project": None}

    def of_stand_in(items: list[Any]) -> tuple[int, str, list[int]]:
        try:
            return 200, "", [int(one) for one in licenses.register(core, "example", items)]
        except CoreError as refused:
            return refused.status, refused.why, []

    def of_fake(items: list[Any]) -> tuple[int, str, list[int]]:
        answer = fake._register(items)
        body = json.loads(answer.body)
        return answer.status, body.get("why", ""), [int(one["id"]) for one in body.get("responses", [])]

    first = [item("1"), item("2")]
    scripts = [first, [item("3", provider="other")], [item("1")], [item("4"), item("1")], [item("4")], [item("1", "mallory")]]
    scripts += [[item("6"), item("5", product="old")]] if generation == "2021" else []
    for items in scripts:
        ours, theirs = of_fake(items), of_stand_in(items)
        assert (ours[:2], len(ours[2])) == (theirs[:2], len(theirs[2])), items
        assert (ours[2] == sorted(ours[2])) == (theirs[2] == sorted(theirs[2]))
