"""The event log over a real store, on both databases: nothing is missed, nothing comes twice in a subscription, nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence

import msgspec
import pytest
from fakes.event_log import Server, sequences
from fakes.store_rows import new_job
from google.rpc import code_pb2
from serai.events.v1.events_service_pb2 import (
    SubscribeRequest,
)
from serai_server.counts import LedgerCounts
from serai_server.errors import InvalidRequest
from serai_server.events.log import MOST_BYTES, EventLog, TakenOver
from serai_server.ledger.funds import Funds
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.events import EventsServicer
from serai_server.rpc.status import RpcFailure
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import EventKind, EventSettlement, NewEvent, Outcome, StopRequest, Target


async def test_first_what_is_left_then_what_happens(server: Server) -> None:
    """In order, in lists of the size asked for, and new events wake the subscriber."""
    await server.create("1", "2", "3")
    await server.settle(2)
    events = server.log.subscribe("core", False, 1)
    assert sequences(await anext(events)) == [1]
    assert sequences(await anext(events)) == [3]
    waiting = asyncio.create_task(anext(events))
    await server.create("4")
    assert sequences(await waiting) == [4]
    await server.create("5", "6")
    assert sequences(await anext(events)) == [5]
    assert sequences(await anext(events)) == [6]
    await events.aclose()


async def test_a_new_subscription_begins_with_what_is_not_settled(server: Server) -> None:
    """Events that were given out but not settled come again."""
    await server.create("1", "2")
    first = server.log.subscribe("core", False, 0)
    assert sequences(await anext(first)) == [1, 2]
    await first.aclose()
    await server.settle(1)
    second = server.log.subscribe("core", False, 0)
    assert sequences(await anext(second)) == [2]
    await second.aclose()


async def test_what_an_earlier_subscription_may_have_delivered_says_so(server: Server) -> None:
    """Events of an earlier process, and those that a subscription of this one was handed; but not what nobody can have been handed,
    although it was there when the subscription began: Core's gateway would wait before it sends such a one."""
    await server.create("1")
    log = EventLog(server.store, server.clock)
    await log.load()
    await server.create("2")
    for expected in ([True, False], [True, True]):
        events = log.subscribe("core", False, 0)
        assert [e.maybe_delivered for e in await anext(events)] == expected
        await events.aclose()
    await server.create("3")
    events = log.subscribe("core", False, 0)
    assert [e.maybe_delivered for e in await anext(events)] == [True, True, False]
    await events.aclose()


async def test_without_a_look_at_the_start_all_may_have_been_delivered(server: Server) -> None:
    """A log that was not loaded takes what is there when it is first subscribed to for what an earlier process may have handed out."""
    await server.create("1")
    events = server.log.subscribe("core", False, 0)
    assert [e.maybe_delivered for e in await anext(events)] == [True]
    await server.create("2")
    assert [e.maybe_delivered for e in await anext(events)] == [False]
    await events.aclose()


async def test_subscribers_do_not_disturb_each_other(server: Server) -> None:
    """Several consumers, and two subscriptions of one, each at its own pace; one that only wants news gets only news."""
    await server.create("1")
    subscriptions = [
        server.log.subscribe(*a) for a in (("core", False, 0), ("tool.a", False, 0), ("tool.a", False, 0), ("tool_b-1", True, 0))
    ]
    assert [sequences(await anext(s)) for s in subscriptions[:3]] == [[1]] * 3
    waiting = [asyncio.create_task(anext(s)) for s in subscriptions]
    await server.store.register_consumer("tool_b-1", from_now=True)
    await server.create("2")
    assert [sequences(e) for e in await asyncio.gather(*waiting)] == [[2]] * 4
    for s in subscriptions:
        await s.aclose()


async def test_nothing_is_missed_while_many_write(server: Server) -> None:
    """Whatever falls between a read and the wait after it."""
    total = 300
    seen: list[int] = []

    async def follow() -> None:
        events = server.log.subscribe("core", False, 7)
        async for batch in events:
            seen.extend(sequences(batch))
            await server.settle(*sequences(batch))
            if len(seen) >= total:
                break
        await events.aclose()

    async def write(name: int) -> None:
        for n in range(total // 10):
            await server.create(f"{name}-{n}")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for name in range(10):
            group.create_task(write(name))
    assert seen == list(range(1, total + 1))
    assert await server.store.events("core", 0, 10) == []


async def test_a_waiting_subscriber_can_be_cancelled(server: Server) -> None:
    """And leaves nothing behind that would wake or hold anything."""
    await server.create("1")
    events = server.log.subscribe("core", False, 0)
    assert sequences(await anext(events)) == [1]
    waiting = asyncio.create_task(anext(events))
    await server.store.ping()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await events.aclose()
    again = server.log.subscribe("core", False, 0)
    await server.create("2")
    assert sequences(await anext(again)) == [1, 2]
    await again.aclose()


@pytest.mark.parametrize(
    ("outcome", "target"),
    [
        (Outcome.DELIVERED, Target.RUN),
        (Outcome.REFUSED, Target.RUN),
        (Outcome.JOB_UNKNOWN, Target.STOP_DISOWNED),
        (Outcome.INSUFFICIENT_FUNDS, Target.STOP_NO_CREDITS),
    ],
)
async def test_outcomes_that_stop_a_job(server: Server, outcome: Outcome, target: Target) -> None:
    """Only the job whose event it was, stamped with the time now; the first reason stays."""
    await server.create("1", "2")
    await server.settle(2, 999, outcome=outcome)
    one, two = await server.store.job("1"), await server.store.job("2")
    assert one is not None
    assert two is not None
    assert (one.target, two.target) == (Target.RUN, target)
    assert two.stop_requested_at_ms == (0 if target is Target.RUN else server.clock.now_ms())
    assert await server.log.undelivered_count("2", "core") == 0
    await server.settle(1, outcome=Outcome.JOB_UNKNOWN)
    await server.settle(1, outcome=Outcome.INSUFFICIENT_FUNDS)
    one = await server.store.job("1")
    assert one is not None
    assert one.target is Target.STOP_DISOWNED


@pytest.mark.parametrize("name", ["", "Core", "a b", "a" * 65, "a/b", "ä", "core\n", "core\0"])
async def test_a_wrong_name_is_refused_at_once(server: Server, name: str) -> None:
    """By both calls, naming the field, before anything is stored."""
    with pytest.raises(InvalidRequest) as caught:
        server.log.subscribe(name, False, 0)
    assert caught.value.field == "consumer"
    with pytest.raises(InvalidRequest):
        await server.log.acknowledge(name, [])


async def test_a_wrong_size_is_refused(server: Server) -> None:
    """Negative ones; more than the most is the most."""
    with pytest.raises(InvalidRequest) as caught:
        server.log.subscribe("core", False, -1)
    assert caught.value.field == "batch_size"
    await server.create(*(str(n) for n in range(1_002)))
    events = server.log.subscribe("core", False, 5_000)
    assert [len(await anext(events)), len(await anext(events))] == [1_000, 2]
    await events.aclose()


async def test_core_is_told_nothing_of_the_sites_own_jobs(server: Server) -> None:
    """They are settled for it, so that nothing is left to be delivered; others see them; what comes between them is given in order."""
    await server.create("1", "tool-a")
    events = server.log.subscribe("core")
    assert [event.job_id for event in await anext(events)] == ["1"]
    waiting = asyncio.create_task(anext(events))
    await server.create("tool-b")
    await server.create("2")
    assert [event.job_id for event in await waiting] == ["2"]
    await events.aclose()
    assert [await server.store.undelivered_count(job_id, "core") for job_id in ("1", "2", "tool-a", "tool-b")] == [1, 1, 0, 0]
    other = server.log.subscribe("dashboard")
    assert [event.job_id for event in await anext(other)] == ["1", "tool-a", "tool-b", "2"]
    again = server.log.subscribe("core")
    assert [event.job_id for event in await anext(again)] == ["1", "2"]
    await other.aclose()
    await again.aclose()


async def test_only_core_ends_jobs_by_what_it_says_of_events(server: Server) -> None:
    """Another consumer settles what it has seen, and no job is stopped for it."""
    await server.create("1", "2")
    await server.store.register_consumer("dashboard", from_now=False)
    for outcome in (Outcome.JOB_UNKNOWN, Outcome.INSUFFICIENT_FUNDS):
        await server.settle(1, 2, outcome=outcome, consumer="dashboard")
    row = await server.store.job("1")
    assert row is not None
    assert row.target is Target.RUN
    assert await server.store.undelivered_count("1", "dashboard") == 0


async def test_what_each_says_is_counted(server: Server) -> None:
    """Core's word as Core's, that of all others together, whatever they are called; the first of each event."""
    counts = LedgerCounts()
    server.log = EventLog(server.store, server.clock, counts=counts)
    await server.create("1", "2")
    for name in ("dashboard", "search"):
        await server.store.register_consumer(name, from_now=False)
    await server.settle(1, 2, outcome=Outcome.DELIVERED, consumer="dashboard")
    await server.settle(1, outcome=Outcome.REFUSED, consumer="search")
    for outcome in (Outcome.INSUFFICIENT_FUNDS, Outcome.DELIVERED):
        await server.settle(1, outcome=outcome, consumer="core")
    assert {labels: count for labels, count in counts.settled.counts.items() if count} == {
        ("others", "DELIVERED"): 2,
        ("others", "REFUSED"): 1,
        ("core", "INSUFFICIENT_FUNDS"): 1,
    }


async def test_the_newest_subscription_of_core_ends_the_one_before(server: Server) -> None:
    """Whether that waits for news or has some to fetch, and in words; the newer one gets everything that is not settled."""
    await server.create("1")
    waits = server.log.subscribe("core")
    assert sequences(await anext(waits)) == [1]
    waiting = asyncio.create_task(anext(waits))
    await server.store.ping()
    has_more = server.log.subscribe("core", False, 1)
    assert sequences(await anext(has_more)) == [1]
    with pytest.raises(TakenOver, match="subscribed to once more"):
        await waiting
    await server.create("2")
    newest = server.log.subscribe("core")
    assert sequences(await anext(newest)) == [1, 2]
    with pytest.raises(TakenOver):
        await anext(has_more)
    waiting = asyncio.create_task(anext(newest))
    await server.create("3")
    assert sequences(await waiting) == [3]
    await newest.aclose()
    last = server.log.subscribe("core")
    assert sequences(await anext(last)) == [1, 2, 3]
    await last.aclose()


async def test_only_the_first_word_on_an_event_counts(server: Server) -> None:
    """Two gateways answer for the same charge: the second one neither stops the job nor says anything about the wallet; nor does the second
    word in one call."""
    funds = Funds(server.clock, 60_000)
    log = EventLog(server.store, server.clock, funds)
    await server.store.create_jobs(
        [msgspec.structs.replace(new_job(i), events=(NewEvent(i, EventKind.CHARGE, b"", 0),)) for i in ("1", "2", "3")]
    )
    charges = [event.sequence for event in await server.store.events("core", 0, 10)]
    taken = [EventSettlement(s, Outcome.DELIVERED, "", 0) for s in charges]
    short = [EventSettlement(s, Outcome.INSUFFICIENT_FUNDS, "", 0) for s in charges]
    await log.acknowledge("core", [taken[0]])
    await log.acknowledge("core", [short[0], taken[1], short[1]])
    assert len(funds) == 0
    await log.acknowledge("core", [short[2]])
    await log.acknowledge("core", [taken[2]])
    assert len(funds) == 1
    rows = [await server.store.job(job_id) for job_id in ("1", "2", "3")]
    assert [row.target for row in rows if row is not None] == [Target.RUN, Target.RUN, Target.STOP_NO_CREDITS]


@pytest.mark.parametrize("how", ["the commit's answer is lost", "the call is cut off"])
async def test_what_is_perhaps_stored_is_told_when_it_comes_again(server: Server, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """It is no first word any more by then; that the wallet is empty is known all the same, from then on and not from the next start on."""
    funds = Funds(server.clock, 60_000)
    log = EventLog(server.store, server.clock, funds)
    await server.store.create_jobs([msgspec.structs.replace(new_job("1"), events=(NewEvent("1", EventKind.CHARGE, b"", 0),))])
    (charge,) = [event.sequence for event in await server.store.events("core", 0, 10)]
    short = EventSettlement(charge, Outcome.INSUFFICIENT_FUNDS, "", 0)
    settle = server.store.settle
    failure = StoreUnavailable("connection lost") if how == "the commit's answer is lost" else asyncio.CancelledError()

    async def lost(consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest] = ()) -> frozenset[int]:
        await settle(consumer, settlements, stops)
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(server.store, "settle", lost)
        with pytest.raises(type(failure)):
            await log.acknowledge("core", [short])
    assert len(funds) == 0
    await log.acknowledge("core", [short])
    assert len(funds) == 1
    await log.acknowledge("core", [EventSettlement(charge, Outcome.DELIVERED, "", 0)])
    assert len(funds) == 1, "a second word"


async def test_what_is_perhaps_stored_is_told_when_the_gateway_is_gone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It died just as the commit's answer was lost, so that it never repeats the settlement: whoever subscribes next makes it known."""
    funds = Funds(server.clock, 60_000)
    log = EventLog(server.store, server.clock, funds)
    await server.store.create_jobs([msgspec.structs.replace(new_job("1"), events=(NewEvent("1", EventKind.CHARGE, b"", 0),))])
    (charge,) = [event.sequence for event in await server.store.events("core", 0, 10)]
    settling = asyncio.create_task(log.acknowledge("core", [EventSettlement(charge, Outcome.INSUFFICIENT_FUNDS, "", 0)]))
    submitted, settle = asyncio.Event(), server.store.settle

    def watched(consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest] = ()) -> Awaitable[frozenset[int]]:
        submitted.set()
        return settle(consumer, settlements, stops)

    with monkeypatch.context() as patch:
        patch.setattr(server.store, "settle", watched)
        await submitted.wait()
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
    assert len(funds) == 0
    next_gateway = log.subscribe("core")
    waiting = asyncio.create_task(anext(next_gateway))
    await server.create("2")
    await waiting
    assert len(funds) == 1
    await next_gateway.aclose()


@pytest.mark.parametrize("sequence", [-1, 0, 3, 2**62])
async def test_what_has_not_happened_is_not_settled(server: Server, sequence: int) -> None:
    """Nothing of that call is; Core's gateway, which may know a store that was put back, is not held up by it."""
    await server.create("1", "2")
    await server.store.register_consumer("dashboard", from_now=False)
    with pytest.raises(InvalidRequest) as caught:
        await server.settle(1, sequence, consumer="dashboard")
    assert caught.value.field == "settlements[1].sequence"
    assert len(await server.store.events("dashboard", 0, 10)) == 2
    await server.settle(1, sequence)
    assert len(await server.store.events("core", 0, 10)) == 1


async def test_a_message_is_bounded_by_bytes_too(server: Server) -> None:
    """However long what is told of the jobs, a message stays within what clients take, and nothing is left out."""
    big = [NewEvent("1", EventKind.JOB_UPDATE, bytes(size), 1) for size in (MOST_BYTES // 2, MOST_BYTES // 2, 2 * MOST_BYTES, 1)]
    await server.store.create_jobs([msgspec.structs.replace(new_job("1"), events=tuple(big))])
    events = server.log.subscribe("tool")
    assert [sequences(await anext(events)) for _ in range(3)] == [[1, 2], [3], [4]]
    await events.aclose()


async def test_a_gateway_whose_turn_is_over_is_told_so(server: Server) -> None:
    """ABORTED, in words; over the wire and in the process alike."""
    await server.store.create_jobs([msgspec.structs.replace(new_job("1"), events=(NewEvent("1", EventKind.CHARGE, b"", 0),))])
    servicer, request = EventsServicer(server.log, server.clock), SubscribeRequest(consumer="core")
    old, new = (aiter(servicer.Subscribe(request, Call("Subscribe", "1", Caller.CORE))) for _ in range(2))
    assert len((await anext(old)).events) == 1
    assert len((await anext(new)).events) == 1
    with pytest.raises(RpcFailure, match="only the newest subscription gets events") as caught:
        await anext(old)
    assert caught.value.status.code == code_pb2.ABORTED
    assert isinstance(new, AsyncGenerator)
    await new.aclose()
