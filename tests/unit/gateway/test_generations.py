"""What Core is told of an event by its generation: totals or periods, and what an older Core does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.gateway_core import CHARGE, UPDATE, USAGE, FakeCore, away, error, says
from fakes.gateway_deliveries import LeapingClock, deliver_all
from fakes.gateway_events import Event, FakeEventLog, charge, total, update
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.jobs.v1 import job_pb2
from serai_gateway.settings import Generation

DELIVERED = events_pb2.SETTLEMENT_OUTCOME_DELIVERED
REFUSED = events_pb2.SETTLEMENT_OUTCOME_REFUSED
INSUFFICIENT_FUNDS = events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "refresh"
    path.write_text("the refresh token\n")
    return path


async def test_usage_is_reported_as_today_wants_it(token_file: Path) -> None:
    """The total of the job in a scope of its own, to the project's wallet or the user's, and nothing else (facts today §9)."""
    log = FakeEventLog([total(1, "7", 1_500), total(2, "8", 20, project="p-1")])
    core = FakeCore(LeapingClock(), generation="2026")
    await deliver_all(log, core, token_file)
    assert core.calls == [
        (
            USAGE,
            [
                {
                    "isDeltaCharge": False,
                    "owner": {"type": "user", "username": "user"},
                    "categoryIdV2": {"name": "cpu", "provider": "example"},
                    "usage": 1_500,
                    "description": {"scope": "job-7"},
                },
                {
                    "isDeltaCharge": False,
                    "owner": {"type": "project", "projectId": "p-1"},
                    "categoryIdV2": {"name": "cpu", "provider": "example"},
                    "usage": 20,
                    "description": {"scope": "job-8"},
                },
            ],
        )
    ]
    assert set(log.outcomes.values()) == {DELIVERED}


async def test_2021_gets_periods_of_the_same_events(token_file: Path) -> None:
    """With the keys of the seed's example and no other."""
    log = FakeEventLog([total(1, "7", 1_500)])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    item = {"id": "7", "chargeId": "c1", "units": 1, "numberOfProducts": 1, "performedBy": None, "description": None}
    assert core.calls == [(CHARGE, [item])]


async def test_charges_of_an_older_serai_are_billed_by_periods(token_file: Path) -> None:
    """After an upgrade the log still holds charges without totals: each goes by the call that it is made for, a job's in their order."""
    log = FakeEventLog([charge(1, "a", units=3), total(2, "a", 40), charge(3, "b"), total(4, "c", 5)])
    core = FakeCore(LeapingClock(), generation="2026")
    await deliver_all(log, core, token_file)
    assert core.accepted == {"a": ["c1", "=40"], "b": ["c3"], "c": ["=5"]}
    assert [item["periods"] for path, items in core.calls if path == CHARGE for item in items if item["id"] == "a"] == [3]
    assert set(log.outcomes.values()) == {DELIVERED}


async def test_a_locked_wallet_is_told_for_a_repeated_report_too(token_file: Path) -> None:
    """The answer to a repeated report is the answer to the first (not so in 2021): `false` counts although Core may have it already."""
    before = total(2, "b", 10)
    before.maybe_delivered = True
    log = FakeEventLog([total(1, "a", 10), before, total(3, "rich", 10)])
    core = FakeCore(LeapingClock(), generation="2026", funded=lambda job: job == "rich", faults=iter([(away, True)]))
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: INSUFFICIENT_FUNDS, 2: INSUFFICIENT_FUNDS, 3: DELIVERED}
    assert core.used["user", "job-a"] == 10


@pytest.mark.parametrize(
    "body", [b'{"responses":[true]}', b'{"responses":[true,true,true]}', b'{"responses":[1,true]}', b"{}", b"[]", b"", b"<html>"]
)
async def test_an_answer_that_does_not_fit_is_no_answer(token_file: Path, body: bytes) -> None:
    """Another number of elements, or something that is not true or false: nothing is settled by it, and the reports are sent again."""
    log = FakeEventLog([total(1, "a", 10), total(2, "b", 10)])
    core = FakeCore(LeapingClock(), generation="2026", faults=iter([(says(200, body), True)]))
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    assert core.accepted == {"a": ["=10", "=10"], "b": ["=10", "=10"]}


@pytest.mark.parametrize("words", ["This category does not exist", "This user/project does not exist", "Absolute usage cannot be negative"])
async def test_a_403_about_a_report_is_a_refusal_of_it(token_file: Path, words: str) -> None:
    """It is found by halving and settled with Core's words; the others are reported. The token is not renewed for it: Core has read it."""
    log = FakeEventLog([total(n, f"job{n}", n) for n in range(1, 33)])
    clock = LeapingClock()
    core = FakeCore(clock, generation="2026", poison=lambda job: error(403, words) if job == "job9" else None)
    await deliver_all(log, core, token_file)
    assert log.outcomes == {n: REFUSED if n == 9 else DELIVERED for n in range(1, 33)}
    assert words in log.details[9]
    assert core.issued == 1
    assert clock.slept_ms == []


async def test_a_403_without_such_words_is_about_the_token(token_file: Path) -> None:
    """It is renewed once for each call; when that does not help, everything waits and nothing is refused."""
    log = FakeEventLog([total(1, "a", 10), total(2, "b", 10)])
    fault = (says(403, b'{"why":"Forbidden"}'), False)
    clock = LeapingClock()
    core = FakeCore(clock, generation="2026", faults=iter([fault, fault, fault]))
    await deliver_all(log, core, token_file)
    assert set(log.outcomes.values()) == {DELIVERED}
    assert core.issued == 3
    assert len(clock.slept_ms) == 1


async def test_a_core_without_this_call_refuses_nothing(token_file: Path) -> None:
    """A 404 means that core.generation is wrong; no job is taken for unknown and stopped."""
    log = FakeEventLog([total(1, "a", 10)])
    core = FakeCore(LeapingClock(), generation="2026", faults=iter([(says(404, b'{"why":"Not found"}'), False)] * 3))
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED}


def suspended(sequence: int, words: str | None) -> Event:
    state = job_pb2.JOB_STATE_SUSPENDED
    change = job_pb2.JobUpdate(state=state, status=words, expected_different_state=True)
    return Event(sequence=sequence, job_id="a", job_update=change)


def extended(sequence: int, words: str | None) -> Event:
    return Event(sequence=sequence, job_id="a", job_update=job_pb2.JobUpdate(new_time_allocation=3_600_000, status=words))


@pytest.mark.parametrize(
    ("event", "in_2021", "in_2026"),
    [
        (
            suspended(1, "Suspended"),
            {"status": "Suspended"},
            {"status": "Suspended", "state": "SUSPENDED", "expectedDifferentState": True},
        ),
        (suspended(1, None), None, {"state": "SUSPENDED", "expectedDifferentState": True}),
        (extended(1, "One hour more"), {"status": "One hour more"}, {"status": "One hour more", "newTimeAllocation": 3_600_000}),
        (extended(1, None), None, {"newTimeAllocation": 3_600_000}),
        (Event(sequence=1, job_id="a", job_update=job_pb2.JobUpdate(expected_different_state=True)), None, None),
    ],
    ids=["suspended", "suspended-silently", "extended", "extended-silently", "nothing"],
)
@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_an_older_core_is_told_what_it_knows(
    token_file: Path, event: Event, in_2021: dict[str, object] | None, in_2026: dict[str, object] | None, generation: Generation
) -> None:
    """Core of 2021 knows neither SUSPENDED nor a new time allocation (facts 2021 §2.1): it gets the words. An update that then says
    nothing is settled without a call, and what comes after it is not held up."""
    log = FakeEventLog([event, update(2, "a")])
    core = FakeCore(LeapingClock(), generation=generation)
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    expected = in_2021 if generation == "2021" else in_2026
    told = [item["update"] for path, items in core.calls if path == UPDATE for item in items]
    assert told[-1]["status"] == "u2"
    assert [{key: value for key, value in one.items() if value not in {None, 0}} for one in told[:-1]] == ([expected] if expected else [])
    assert all(("newTimeAllocation" in one) == (expected is not None and "newTimeAllocation" in expected) for one in told[:-1])
