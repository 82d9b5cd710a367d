"""Consumers of the event log over a real store, on both databases: who makes, has, gives and loses one, and that nothing is kept for those
that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest
from fakes.event_log import Server, sequences
from fakes.store_rows import new_job
from serai.events.v1.events_service_pb2 import (
    SETTLEMENT_OUTCOME_DELIVERED,
    AcknowledgeRequest,
    DropConsumerRequest,
    ListConsumersRequest,
    Settlement,
    SubscribeRequest,
)
from serai_server.errors import ConsumerUnknown, Forbidden, InvalidRequest, TooManyConsumers
from serai_server.events.consumers import KEPT, MOST, MOST_OF_ONE, Asker
from serai_server.events.log import EventLog
from serai_server.rpc.call import Call
from serai_server.rpc.events import EventsServicer
from serai_server.store import consumers as rows
from serai_server.store.model import EventKind, EventSettlement, NewEvent, Outcome, StopRequest
from serai_server.store.token_model import Role
from serai_server.tokens.service import TokensService

A, B, ADMIN = Asker("token-a", False), Asker("token-b", False), Asker("token-c", True)


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
