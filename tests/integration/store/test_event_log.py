"""The event log over a real store, on both databases: nothing is missed, nothing comes twice in a subscription, nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import suppress

import msgspec
import pytest
from fakes.clock import FakeClock
from fakes.store_rows import new_job
from google.rpc import code_pb2
from serai.events.v1.events_service_pb2 import (
    SETTLEMENT_OUTCOME_DELIVERED,
    AcknowledgeRequest,
    DropConsumerRequest,
    ListConsumersRequest,
    Settlement,
    SubscribeRequest,
)
from serai_server.counts import LedgerCounts
from serai_server.errors import ConsumerUnknown, Forbidden, InvalidRequest, TooManyConsumers
from serai_server.events.consumers import KEPT, MOST, MOST_OF_ONE, Asker
from serai_server.events.log import MOST_BYTES, EventLog, TakenOver
from serai_server.ledger.funds import Funds
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.events import EventsServicer
from serai_server.rpc.status import RpcFailure
from serai_server.store import consumers as rows
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import Committed, EventKind, EventSettlement, NewEvent, Outcome, StopRequest, StoredEvent, Target
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore
from serai_server.store.token_model import Role
from serai_server.tokens.service import TokensService


class Server:
    """Store and log, wired as the composition root wires them."""

    def __init__(self) -> None:
        self.store: SqlStore
        self.log: EventLog
        self.clock = FakeClock()

    def told(self, changes: list[Committed]) -> None:
        for change in changes:
            self.log.notify(change.last_event)

    async def create(self, *ids: str) -> None:
        await self.store.create_jobs([new_job(i) for i in ids])

    async def settle(self, *sequences: int, outcome: Outcome = Outcome.DELIVERED, consumer: str = "core") -> None:
        await self.log.acknowledge(consumer, [EventSettlement(s, outcome, "", self.clock.now_ms()) for s in sequences])


@pytest.fixture
async def server(url: str) -> AsyncIterator[Server]:
    server = Server()
    async with open_store(url, server.told) as server.store:
        server.log = EventLog(server.store, server.clock)
        yield server


def sequences(events: list[StoredEvent]) -> list[int]:
    return [e.sequence for e in events]


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


async def test_what_an_earlier_subscription_may_have_delivered_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that were there when the subscription began may have been given out before; what comes later cannot have been."""
    read, at_the_end = server.store.events, asyncio.Event()

    async def events_of(consumer: str, after: int, limit: int) -> list[StoredEvent]:
        found = await read(consumer, after, limit)
        if not found:
            at_the_end.set()
        return found

    monkeypatch.setattr(server.store, "events", events_of)
    await server.create("1")
    events = server.log.subscribe("core", False, 0)
    assert [e.maybe_delivered for e in await anext(events)] == [True]
    waiting = asyncio.create_task(anext(events))
    await at_the_end.wait()  # until then what comes may be of an earlier subscription for all it knows
    await server.create("2")
    assert [e.maybe_delivered for e in await waiting] == [False]
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


async def test_only_a_subscription_makes_a_consumer(server: Server) -> None:
    """Settling for one that never subscribed is refused, and it would keep nothing from being dropped."""
    await server.create("1")
    with pytest.raises(ConsumerUnknown, match="no consumer 'typo'") as caught:
        await server.settle(1, consumer="typo")
    assert caught.value.field == "consumer"
    assert await server.store.consumers() == {}
    events = server.log.subscribe("typo")
    await anext(events)
    await server.settle(1, consumer="typo")
    await events.aclose()
    again = EventLog(server.store, server.clock)
    await again.acknowledge("typo", [EventSettlement(1, Outcome.DELIVERED, "", 0)])


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


async def test_there_are_only_so_many_consumers(server: Server) -> None:
    """Also when they come at the same time; those that are known go on, and Core's is not one of them."""
    before = [f"tool-{n}" for n in range(MOST - 1)]
    for name in before:
        await server.store.register_consumer(name, from_now=True)
    await server.create("1")
    opened = [server.log.subscribe(name) for name in ("new-1", "new-2", "core", before[0])]
    got = await asyncio.gather(*(anext(events) for events in opened), return_exceptions=True)
    assert [isinstance(one, TooManyConsumers) for one in got] == [False, True, False, False]
    assert len(await server.store.consumers()) == MOST + 1
    for events in opened:
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


A, B, ADMIN = Asker("token-a", False), Asker("token-b", False), Asker("token-c", True)


async def tried(log: EventLog, names: list[str], asker: Asker) -> int:
    """How many of them could be subscribed to; the rest were too many."""
    taken = 0
    for name in names:
        events = log.subscribe(name, asker=asker)
        with suppress(TooManyConsumers):
            await anext(events)
            taken += 1
        await events.aclose()
    return taken


async def test_one_identity_makes_a_few_consumers(server: Server) -> None:
    """So it does not take the place of the others; those that it has go on, also after a restart, and one that is dropped makes room."""
    await server.create("1")
    assert await tried(server.log, [f"a-{n}" for n in range(MOST_OF_ONE + 2)], A) == MOST_OF_ONE
    again = EventLog(server.store, server.clock)
    assert await tried(again, ["a-0", "a-more"], A) == 1
    assert await tried(again, ["b"], B) == 1
    await again.drop("a-0")
    assert await tried(again, ["a-more", "a-0"], A) == 1
    assert await tried(again, [f"admins-{n}" for n in range(MOST_OF_ONE + 2)], ADMIN) == MOST_OF_ONE + 2


async def test_administrators_and_the_operator_always_get_in(server: Server) -> None:
    """Whatever many identities make, some places are theirs."""
    await server.create("1")
    for n in range(MOST - KEPT):
        await server.store.register_consumer(f"tool-{n}", from_now=True, owner=f"token-{n}")
    assert await tried(server.log, ["b"], B) == 0
    assert await tried(server.log, [f"admins-{n}" for n in range(KEPT)], ADMIN) == KEPT
    assert await tried(server.log, ["one-more"], Asker()) == 0


async def test_a_consumer_is_its_makers(server: Server) -> None:
    """Nobody else reads or settles in its name but administrators and the operator, also after a restart of the server."""
    await server.create("1", "2")
    mine = server.log.subscribe("dashboard", asker=A)
    assert sequences(await anext(mine)) == [1, 2]
    done = [EventSettlement(1, Outcome.DELIVERED, "", server.clock.now_ms())]
    for log in (server.log, EventLog(server.store, server.clock)):
        with pytest.raises(Forbidden, match="another identity's"):
            await anext(log.subscribe("dashboard", asker=B))
        with pytest.raises(Forbidden, match="another identity's"):
            await log.acknowledge("dashboard", done, B)
        assert len(await server.store.events("dashboard", 0, 10)) == 2
        for other in (ADMIN, Asker()):
            reading = log.subscribe("dashboard", asker=other)
            assert sequences(await anext(reading)) == [1, 2]
            await reading.aclose()
    await server.log.acknowledge("dashboard", done, A)
    assert len(await server.store.events("dashboard", 0, 10)) == 1
    await mine.aclose()
    operators = server.log.subscribe("operators")
    await anext(operators)
    with pytest.raises(Forbidden):
        await anext(server.log.subscribe("operators", asker=A))
    await operators.aclose()


async def test_a_dropped_consumer_keeps_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it had settled; whoever reads by its name is told so, and the name is free, for somebody else too."""
    monkeypatch.setattr(rows, "PRUNED_AT_ONCE", 2)
    await server.create(*(str(n) for n in range(6)))
    await server.settle(*range(1, 7))
    kept = server.log.subscribe("old", asker=A)
    await anext(kept)
    await server.log.acknowledge("old", [EventSettlement(s, Outcome.DELIVERED, "", 0) for s in (1, 2, 3, 5)], A)
    waiting = asyncio.create_task(anext(kept))
    await asyncio.sleep(0)
    assert await server.store.prune(server.clock.now_ms() + 1) == 4
    await server.log.drop("old")
    with pytest.raises(ConsumerUnknown, match="was dropped"):
        await waiting
    with pytest.raises(ConsumerUnknown, match="no consumer 'old'"):
        await server.log.acknowledge("old", [EventSettlement(4, Outcome.DELIVERED, "", 0)], A)
    with pytest.raises(ConsumerUnknown, match="no consumer 'old'"):
        await server.log.drop("old")
    assert await server.store.consumers() == {"core": ""}
    assert await server.store.prune(server.clock.now_ms() + 1) == 1  # the newest stays
    again = server.log.subscribe("old", asker=B)
    assert sequences(await anext(again)) == [6]
    await again.aclose()
    assert await server.store.consumers() == {"core": "", "old": "token-b"}


async def test_cores_consumer_is_not_dropped(server: Server) -> None:
    """Core would never be told what it had not heard yet."""
    with pytest.raises(InvalidRequest, match="UCloud/Core itself"):
        await server.log.drop("core")
    with pytest.raises(InvalidRequest, match="UCloud/Core itself"):
        await server.log.give("core", "")


async def test_a_consumer_is_given_to_another_token(server: Server) -> None:
    """Who goes on where it was; the one before is put out, and stays so after a restart. Nobody's id is refused and changes nothing."""
    await server.create("1", "2")
    tokens = TokensService(server.store, server.clock, lambda: None)
    (new, _), (old, _) = [await tokens.create("", Role.OPERATOR, "", None, "") for _ in range(2)]
    await tokens.revoke(old.id, "")
    events = server.log.subscribe("dashboard", asker=A)
    assert sequences(await anext(events)) == [1, 2]
    await server.log.acknowledge("dashboard", [EventSettlement(1, Outcome.DELIVERED, "", 0)], A)
    for nobody in ("nosuch", old.id):
        with pytest.raises(InvalidRequest, match="not revoked") as caught:
            await server.log.give("dashboard", nobody)
        assert caught.value.field == "owner"
    with pytest.raises(ConsumerUnknown, match="no consumer 'nosuch'"):
        await server.log.give("nosuch", new.id)
    waiting = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    await server.log.give("dashboard", new.id)
    with pytest.raises(ConsumerUnknown, match="given to somebody"):
        await waiting
    for log in (server.log, EventLog(server.store, server.clock)):
        with pytest.raises(Forbidden):
            await anext(log.subscribe("dashboard", asker=A))
        again = log.subscribe("dashboard", asker=Asker(new.id, may_all=False))
        assert sequences(await anext(again)) == [2]
        await again.aclose()


async def test_what_is_being_settled_does_not_bring_a_dropped_consumer_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drop comes after it, also where the store takes it late."""
    settle, all_there, may_go_on = server.store.settle, asyncio.Barrier(21), asyncio.Event()

    async def late(consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest] = ()) -> frozenset[int]:
        await all_there.wait()
        await may_go_on.wait()
        assert consumer in await server.store.consumers(), "it was dropped before"
        return await settle(consumer, settlements, stops)

    await server.create("1")
    events = server.log.subscribe("old", asker=A)
    await anext(events)
    await events.aclose()
    done = [EventSettlement(1, Outcome.DELIVERED, "", 0)]
    monkeypatch.setattr(server.store, "settle", late)
    settling = [asyncio.create_task(server.log.acknowledge("old", done, A)) for _ in range(20)]
    await all_there.wait()
    dropping = asyncio.create_task(server.log.drop("old"))
    await server.store.ping()
    may_go_on.set()
    await asyncio.gather(*settling, dropping)
    assert await server.store.consumers() == {}


async def test_the_list_of_consumers(server: Server) -> None:
    """As administrators are told it: whose each is, how far it is, what is left, whether somebody reads."""
    for job_id in ("1", "2", "3"):
        charge = NewEvent(job_id, EventKind.CHARGE, b"", 1)
        await server.store.create_jobs([msgspec.structs.replace(new_job(job_id), events=(charge,))])
    servicer = EventsServicer(server.log, server.clock)
    tool, admin = Call("m", "1", tool="token-a", tool_role=Role.OPERATOR), Call("m", "1", tool="token-c", tool_role=Role.ADMIN)
    reading = aiter(servicer.Subscribe(SubscribeRequest(consumer="dashboard"), tool))
    await anext(reading)
    server.clock.move(120_000)
    settled = AcknowledgeRequest(consumer="dashboard", settlements=[Settlement(sequence=1, outcome=SETTLEMENT_OUTCOME_DELIVERED)])
    await servicer.Acknowledge(settled, tool)
    with pytest.raises(Forbidden):
        await servicer.Acknowledge(settled, Call("m", "1", tool="token-b", tool_role=Role.OPERATOR))
    await servicer.Acknowledge(settled, admin)
    (one,) = (await servicer.ListConsumers(ListConsumersRequest(), admin)).consumers
    assert (one.name, one.owner, one.settled_to, one.unsettled_events, one.subscriptions) == ("dashboard", "token-a", 1, 2, 1)
    assert (one.last_seen_at_ms, one.oldest_unsettled_at_ms) == (server.clock.now_ms(), 1)
    await servicer.DropConsumer(DropConsumerRequest(consumer="dashboard"), admin)
    assert not (await servicer.ListConsumers(ListConsumersRequest(), admin)).consumers
    with pytest.raises(ConsumerUnknown):
        await anext(reading)
