"""Deliveries to Core: at least once, in order for each job, settled when Core has answered and not before."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from fakes.gateway_core import CHARGE, UPDATE, FakeCore, NoGet, away, error, says
from fakes.gateway_deliveries import CODEC, LeapingClock, deliver_all, delivering
from fakes.gateway_events import Event, FakeEventLog, charge, name_of, update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serai.events.v1 import events_service_pb2 as events_pb2
from serai_gateway.control.calls import Calls
from serai_gateway.control.client import CoreClient
from serai_gateway.control.deliveries import Deliveries
from serai_gateway.control.transport import Answer
from serai_gateway.settings import CoreSettings, Generation
from serai_gateway.tokens import Tokens

DELIVERED = events_pb2.SETTLEMENT_OUTCOME_DELIVERED
JOB_UNKNOWN = events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN
REFUSED = events_pb2.SETTLEMENT_OUTCOME_REFUSED
INSUFFICIENT_FUNDS = events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "refresh"
    path.write_text("the refresh token\n")
    return path


def batches(core: FakeCore, path: str = UPDATE) -> list[list[str]]:
    return [[item["id"] for item in items] for called, items in core.calls if called == path]


async def test_updates_of_many_jobs_share_a_call(token_file: Path) -> None:
    """What waits is sent together, up to the limit of the batch."""
    log = FakeEventLog([update(n, f"job{n}") for n in range(1, 26)])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file, batch_size=10)
    assert [len(batch) for batch in batches(core)] == [10, 10, 5]
    assert set(log.outcomes.values()) == {DELIVERED}


async def test_no_batch_holds_two_events_of_one_job(token_file: Path) -> None:
    """Core compares all items of a call with the state before it (facts 2021 §2.1), so each update of a job travels in its own call."""
    log = FakeEventLog([update(n, f"job{n % 3}") for n in range(1, 13)])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert all(len(batch) == len(set(batch)) for batch in batches(core))
    assert core.accepted == {f"job{j}": [f"u{n}" for n in range(1, 13) if n % 3 == j] for j in range(3)}


async def test_charges_and_updates_of_a_job_keep_one_order(token_file: Path) -> None:
    """A charge waits for the updates before it, and holds those after it."""
    log = FakeEventLog([update(1, "a"), charge(2, "a"), update(3, "a"), charge(4, "a")])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert core.accepted == {"a": ["u1", "c2", "u3", "c4"]}
    assert [path for path, _ in core.calls] == [UPDATE, CHARGE, UPDATE, CHARGE]


async def test_events_that_come_while_others_are_on_their_way(token_file: Path) -> None:
    """An update of a job that is being sent to Core waits for its answer, and is neither sent twice nor lost."""
    log = FakeEventLog([update(1, "a"), update(2, "b")])
    core = FakeCore(LeapingClock())
    numbers = itertools.count(3)

    def more(path: str) -> None:
        for job in ("a", "b"):
            number = next(numbers)
            if number <= 40:
                log.add((charge if number % 5 == 0 else update)(number, job))

    core.on_call = more
    async with delivering(log, core, token_file):
        await log.until(lambda: len(log.outcomes) == 40)
    assert core.accepted["a"] == [name_of(event) for event in log.events.values() if event.job_id == "a"]
    assert core.accepted["b"] == [name_of(event) for event in log.events.values() if event.job_id == "b"]
    assert sorted(log.acknowledged) == list(range(1, 41))


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_one_foreign_job_does_not_hold_the_others(token_file: Path, generation: Generation) -> None:
    """A batch that one id poisons is halved until that id is alone; it is settled as unknown and the others are delivered."""
    log = FakeEventLog([update(n, f"job{n}") for n in range(1, 101)] + [update(200, "job57")])
    core = FakeCore(LeapingClock(), generation=generation, known=lambda job_id: job_id != "job57")
    await deliver_all(log, core, token_file)
    assert {sequence for sequence, outcome in log.outcomes.items() if outcome == JOB_UNKNOWN} == {57, 200}
    assert sum(outcome == DELIVERED for outcome in log.outcomes.values()) == 99
    assert len(core.calls) < 20


async def test_a_job_that_core_does_not_know_travels_alone_afterwards(token_file: Path) -> None:
    """Its later events cost the others no more halving."""
    log = FakeEventLog([update(1, "gone"), update(2, "a"), update(3, "gone"), update(4, "a"), update(5, "gone")])
    core = FakeCore(LeapingClock(), known=lambda job_id: job_id != "gone")
    await deliver_all(log, core, token_file)
    assert [log.outcomes[n] for n in (1, 3, 5)] == [JOB_UNKNOWN] * 3
    assert [batch for batch in batches(core) if len(batch) > 1] == [["gone", "a"]]


async def test_a_404_that_is_not_cores_own_is_waited_out(token_file: Path) -> None:
    """A wrong address or a proxy's page must not make us stop every job: without Core's error body it is sent again."""
    log = FakeEventLog([update(1, "a")])
    core = FakeCore(LeapingClock(), faults=iter([(says(404, b"<h1>nginx</h1>"), False), (says(404), False)]))
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED}
    assert len(core.calls) == 3


async def test_a_refused_event_is_settled_with_cores_words(token_file: Path) -> None:
    """A 4xx for a single item that will not change: REFUSED, and the text is kept."""
    log = FakeEventLog([charge(1, "a", units=0), charge(2, "b")])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: REFUSED, 2: DELIVERED}
    assert "units must be positive" in log.details[1]


async def test_missing_funds_settle_that_charge_only(token_file: Path) -> None:
    """insufficientFunds names jobs: their charge of this batch was not paid, the others were."""
    log = FakeEventLog([charge(1, "poor"), charge(2, "rich"), update(3, "poor")])
    core = FakeCore(LeapingClock(), funded=lambda job_id: job_id != "poor")
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: INSUFFICIENT_FUNDS, 2: DELIVERED, 3: DELIVERED}


async def test_a_charge_that_no_wallet_will_ever_pay_is_a_missing_fund(token_file: Path) -> None:
    """Core's 400 "Unable to fulfill all requests" (facts 2021 §2.2) stops that job and no other of the batch."""
    log = FakeEventLog([charge(1, "none"), charge(2, "a")])
    refused = error(400, "Unable to fulfill all requests. Permission/missing credits problem?")
    core = FakeCore(LeapingClock(), poison=lambda job_id: refused if job_id == "none" else None)
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: INSUFFICIENT_FUNDS, 2: DELIVERED}


async def test_a_repeated_charge_is_not_a_missing_fund(token_file: Path) -> None:
    """Core of 2021 lists a repeated charge as unpaid (facts 2021 §0.2 #7). A charge whose first answer was lost, or that an earlier
    subscription may have delivered, therefore stops no job."""
    before = charge(2, "b")
    before.maybe_delivered = True
    log = FakeEventLog([charge(1, "a"), before])
    lost = iter([(away, True)])  # stored, and the answer is lost
    core = FakeCore(LeapingClock(), faults=lost)
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    assert [c for c in core.accepted["a"] if c] == core.accepted["a"]
    assert "word on funds does not count" in log.details[1]


@pytest.mark.parametrize(
    "fault",
    [
        away,
        says(500),
        says(502, b"<html>"),
        says(503),
        says(429, b'{"why":"slow down"}'),
        says(200, b"<html>hello</html>"),
        says(200, b"[1]"),
        says(302),
        says(400, b"garbage"),
    ],
    ids=["away", "500", "502", "503", "429", "html", "array", "redirect", "400-garbage"],
)
async def test_whatever_is_not_cores_word_is_sent_again(token_file: Path, fault: object) -> None:
    """Nothing is dropped and nothing is settled while Core is away, fails or answers nonsense."""
    clock = LeapingClock()
    log = FakeEventLog([update(1, "a"), update(2, "b"), update(3, "a")])
    core = FakeCore(clock, faults=iter([(fault, False)] * 5))  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await deliver_all(log, core, token_file)
    assert set(log.outcomes.values()) == {DELIVERED}
    assert core.accepted == {"a": ["u1", "u3"], "b": ["u2"]}
    assert clock.slept_ms


async def test_pauses_grow_up_to_the_cap_and_start_again_after_success(token_file: Path) -> None:
    """The pause doubles with each failure in a row, up to the cap; jitter is half of it."""
    clock = LeapingClock()
    log = FakeEventLog([update(1, "a")])
    core = FakeCore(clock, faults=iter([(away, False)] * 6))
    await deliver_all(log, core, token_file, retry_base_ms=100, retry_cap_ms=1_000)
    assert clock.slept_ms[:6] == [75, 150, 300, 600, 750, 750]


async def test_an_event_that_makes_core_fail_does_not_hold_the_others(token_file: Path) -> None:
    """One job whose event always ends in a 500 is found by smaller batches and waits by itself; all others are delivered."""
    log = FakeEventLog([update(n, f"job{n}") for n in range(1, 65)])
    core = FakeCore(LeapingClock(), poison=lambda job_id: error(500, "Internal Server Error") if job_id == "job7" else None)
    async with delivering(log, core, token_file):
        await log.until(lambda: len(log.outcomes) == 63)
        assert 7 not in log.outcomes
        for n in range(65, 97):
            log.add(update(n, f"job{n}"))
        await log.until(lambda: len(log.outcomes) == 95)
        core.poison = lambda job_id: None
        await log.until_settled()
    assert log.outcomes[7] == DELIVERED
    with_it = [batch for batch in batches(core) if "job7" in batch]
    first_alone = with_it.index(["job7"])
    assert with_it[first_alone:] == [["job7"]] * (len(with_it) - first_alone)


@pytest.mark.parametrize("generation", ["2021", "2026"])
async def test_a_token_that_core_refuses_is_renewed_and_the_call_repeated(token_file: Path, generation: Generation) -> None:
    """401 (2021) or 403 (2026) renews the token once; no event is lost or settled as refused."""
    log = FakeEventLog([update(1, "a")])
    clock = LeapingClock()
    core = FakeCore(clock, generation=generation)
    async with delivering(log, core, token_file):
        await log.until_settled()
        core.expire_tokens()
        log.add(update(2, "a"))
        await log.until_settled()
    assert core.issued == 2
    assert core.accepted == {"a": ["u1", "u2"]}
    assert set(log.outcomes.values()) == {DELIVERED}
    assert clock.slept_ms == []  # repeated at once, not waited out


async def test_a_broken_stream_is_opened_again(token_file: Path) -> None:
    """After the server was away, delivery goes on where it was; nothing that was settled is sent to Core again."""
    log = FakeEventLog([update(n, f"job{n % 5}") for n in range(1, 21)])
    log.breaks = iter([0, 1, 2, 1])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file, window=4)
    assert log.subscribed >= 3
    assert core.accepted == {f"job{j}": [f"u{n}" for n in range(1, 21) if n % 5 == j] for j in range(5)}


async def test_settlements_that_could_not_be_stored_are_sent_again(token_file: Path) -> None:
    """Core's answer is not lost when the server is away for a moment; settling twice changes nothing."""
    log = FakeEventLog([update(1, "a"), charge(2, "a")])
    log.ack_faults = iter(["before", "after", "before"])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    assert core.accepted == {"a": ["u1", "c2"]}


async def test_memory_is_bounded_by_the_window(token_file: Path) -> None:
    """While Core is away the stream is not read on: at most the window plus one message is taken from the server."""
    log = FakeEventLog([update(n, f"job{n}") for n in range(1, 501)])
    core = FakeCore(LeapingClock(), faults=itertools.repeat((away, False), 200))
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, log.sent - len(log.outcomes))

    log.on_send = watch
    await deliver_all(log, core, token_file, window=20, batch_size=10)
    assert 20 <= most <= 40
    assert log.batch_size == 20


async def test_an_event_that_says_nothing_to_core_is_settled(token_file: Path) -> None:
    """A kind of event from a newer server does not hold the rest."""
    log = FakeEventLog([Event(sequence=1, job_id="a"), update(2, "a")])
    core = FakeCore(LeapingClock())
    await deliver_all(log, core, token_file)
    assert log.outcomes == {1: DELIVERED, 2: DELIVERED}
    assert core.accepted == {"a": ["u2"]}


async def test_stop_lets_the_call_in_flight_end_and_acknowledges_it(token_file: Path) -> None:
    """A stop in the middle of a call to Core: its answer is acknowledged before `run` returns, and no other call begins."""
    log = FakeEventLog([update(1, "a"), update(2, "a")])
    core = FakeCore(LeapingClock())
    in_call = asyncio.Event()
    go_on = asyncio.Event()

    class Slow(NoGet):
        async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
            answer = await core.post(path, body, bearer)
            if path == UPDATE:
                in_call.set()
                await go_on.wait()
            return answer

    core_settings = CoreSettings(url="http://core", public_key_file="-", refresh_token_file="-")
    slow = Slow()
    client = CoreClient(Calls(slow, Tokens(slow, CODEC, token_file, core.clock)), CODEC)
    deliveries = Deliveries(log, client, core_settings, core.clock)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(deliveries.run())
        await in_call.wait()
        deliveries.stop()
        go_on.set()
    assert log.outcomes == {1: DELIVERED}
    assert core.accepted == {"a": ["u1"]}


# What may go wrong with one call to Core: (how, was the batch stored before that?)
FAULTS = st.one_of(
    st.none(),
    st.none(),
    st.sampled_from([away, says(500), says(503), says(200, b"<html>"), says(401), says(404), says(400, b"?")]).flatmap(
        lambda fault: st.booleans().map(lambda stored: (fault, stored))
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    kinds=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40),
    faults=st.lists(FAULTS, max_size=30),
    breaks=st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=5),
    ack_faults=st.lists(st.sampled_from([None, "before", "after"]), max_size=8),
    unknown=st.sets(st.integers(0, 5), max_size=2),
    batch_size=st.integers(1, 8),
    window=st.integers(1, 20),
)
def test_every_event_reaches_core_in_order_and_is_settled_once(  # noqa: PLR0917 - one argument for each thing that may vary
    token_file: Path,
    kinds: list[tuple[int, bool]],
    faults: list[object],
    breaks: list[int | None],
    ack_faults: list[str | None],
    unknown: set[int],
    batch_size: int,
    window: int,
) -> None:
    """With any pattern of failures of Core, of the stream and of acknowledgements: each event of a job that Core knows is stored by Core at
    least once, never before an earlier one of its job, and settled as delivered; events of other jobs are settled as unknown."""
    events = [(charge if is_charge else update)(n, f"job{job}") for n, (job, is_charge) in enumerate(kinds, 1)]
    strangers = {f"job{job}" for job in unknown}

    async def scenario() -> tuple[FakeEventLog, FakeCore]:
        log = FakeEventLog(events)
        log.breaks = iter(breaks)
        log.ack_faults = iter(ack_faults)
        core = FakeCore(LeapingClock(), known=lambda job_id: job_id not in strangers, faults=iter(faults))  # pyright: ignore[reportArgumentType]
        await deliver_all(log, core, token_file, batch_size=batch_size, window=window)
        return log, core

    log, core = asyncio.run(scenario())
    for job in {event.job_id for event in events}:
        names = [name_of(event) for event in events if event.job_id == job]
        stored = core.accepted.get(job, [])
        if job in strangers:
            assert stored == []
            continue
        assert list(dict.fromkeys(stored)) == names
        places = [names.index(name) for name in stored]
        assert places == sorted(places)
    for event in events:
        outcome = log.outcomes[event.sequence]
        if event.job_id in strangers:
            assert outcome == JOB_UNKNOWN
        else:
            # A charge that was stored before its answer was lost comes back as a duplicate, inside insufficientFunds.
            assert outcome in {DELIVERED, INSUFFICIENT_FUNDS}
            assert outcome == DELIVERED or event.WhichOneof("change") == "charge"
