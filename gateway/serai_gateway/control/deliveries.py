"""Delivers the server's events to Core and settles each when Core has answered for it.

The server's log is the truth; nothing is kept here that may not be lost. A kill between any two lines means: events that Core has and
the server does not know to be settled are sent once more (at least once; licenses are registered once: `registrations`), and nothing is
skipped.

Work goes in sessions, one for each Subscribe stream. A session ends when its stream does: the calls to Core in flight end, everything
that Core answered for is acknowledged, and only then the next Subscribe begins, so the server never sends again what is settled and a
job's events cannot overtake each other across sessions.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

import structlog
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.events.v1.events_service_pb2 import SettlementOutcome

from serai_gateway.clock import Clock
from serai_gateway.control.backoff import Backoff
from serai_gateway.control.queues import Lane, Queues, key_of
from serai_gateway.control.results import Accepted, Failed, Rejected, Result
from serai_gateway.settings import CoreSettings
from serai_gateway.upstream import CALLER, Upstream, UpstreamError, closing

CONSUMER = "core"
SUBSCRIBE = "/serai.events.v1.EventsService/Subscribe"
ACKNOWLEDGE = "/serai.events.v1.EventsService/Acknowledge"
_METADATA = {CALLER: "core"}
_BATCH = 1_000
_ACKNOWLEDGE_TIMEOUT_S = 10.0

_log = structlog.stdlib.get_logger("serai_gateway.deliveries")


class Client(Protocol):
    """What sends events to Core (client.CoreClient)."""

    def lane_of(self, event: events_pb2.Event) -> Lane | None:
        """The call that carries the event; None = nothing of it is for Core."""
        ...

    async def send(self, lane: Lane, batch: Sequence[events_pb2.Event]) -> Result:
        """Events of one lane; at most one for each job or license, and one registration."""
        ...


class Deliveries:
    """Runs until `stop`, whatever happens to Core or to the server."""

    def __init__(
        self,
        upstream: Upstream,
        client: Client,
        settings: CoreSettings,
        clock: Clock,
        *,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._settings = settings
        self._clock = clock
        self._random = random
        self._stopped = asyncio.Event()
        self._session: _Session | None = None

    @property
    def held(self) -> int:
        """Events that wait in memory for Core's answer or for their settlement to be stored."""
        return 0 if self._session is None else self._session.held

    def stop(self) -> None:
        """Take in no more events; `run` returns when the calls in flight have ended and are acknowledged."""
        self._stopped.set()
        if self._session is not None:
            self._session.close()

    async def run(self) -> None:
        backoff = self._backoff()
        while not self._stopped.is_set():
            self._session = _Session(self._upstream, self._client, self._settings, self._clock, self._backoff)
            await self._session.run()
            if self._session.received:
                backoff.succeeded()
            self._session = None
            if not self._stopped.is_set():
                await sleep_unless(self._stopped, self._clock, backoff.failed())

    def _backoff(self) -> Backoff:
        return Backoff(base_ms=self._settings.retry_base_ms, cap_ms=self._settings.retry_cap_ms, random=self._random)


class _Session:
    """One Subscribe stream and the deliveries of what it brought."""

    def __init__(
        self,
        upstream: Upstream,
        client: Client,
        settings: CoreSettings,
        clock: Clock,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._settings = settings
        self._clock = clock
        self._backoff = backoff
        self._queues = Queues(client.lane_of)
        self._settled: list[events_pb2.Settlement] = []
        self._unsure: set[int] = set()
        """Events that were sent once already without a word of Core."""
        self._closing = asyncio.Event()
        self._wake = {lane: asyncio.Event() for lane in Lane}
        self._to_acknowledge = asyncio.Event()
        self._room = asyncio.Event()
        self._lanes_running = len(Lane)
        self._tasks: asyncio.TaskGroup | None = None
        self._reader: asyncio.Task[None] | None = None
        self.received = False
        """true: the stream brought something, so the server is there."""

    @property
    def held(self) -> int:
        return len(self._queues) + len(self._settled)

    def close(self) -> None:
        self._closing.set()
        for wake in self._wake.values():
            wake.set()
        self._to_acknowledge.set()
        if self._reader is not None:
            self._reader.cancel()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            self._reader = self._tasks.create_task(self._read())
            for lane in Lane:
                self._tasks.create_task(self._send(lane))
            self._tasks.create_task(self._acknowledge())

    # Events in

    async def _read(self) -> None:
        request = events_pb2.SubscribeRequest(consumer=CONSUMER, batch_size=min(_BATCH, self._settings.window))
        try:
            async with closing(self._upstream.stream(SUBSCRIBE, request.SerializeToString(), _METADATA)) as stream:
                async for message in stream:
                    self.received = True
                    for event in events_pb2.SubscribeResponse.FromString(message).events:
                        self._take_in(event)
                    await self._wait_for_room()
            _log.warning("the server ended the stream of events")
        except UpstreamError as error:
            _log.warning("the stream of events broke", error=str(error))
        except Exception:
            _log.exception("the stream of events broke")
        finally:
            self.close()

    def _take_in(self, event: events_pb2.Event) -> None:
        if self._client.lane_of(event) is None:
            self._settle(event, events_pb2.SETTLEMENT_OUTCOME_DELIVERED, "nothing to tell Core")
            return
        self._woken(self._queues.push(event))

    async def _wait_for_room(self) -> None:
        while self.held >= self._settings.window:
            self._room.clear()
            await self._room.wait()

    def _woken(self, lane: Lane | None) -> None:
        if lane is not None:
            self._wake[lane].set()

    # Calls to Core

    async def _send(self, lane: Lane) -> None:
        backoff = self._backoff()
        limit = self._most(lane)
        try:
            while not self._closing.is_set():
                batch = self._queues.take(lane, limit)
                if not batch:
                    self._wake[lane].clear()
                    await self._wake[lane].wait()
                    continue
                limit = await self._send_batch(lane, batch, backoff, limit)
        finally:
            self._lanes_running -= 1
            self._to_acknowledge.set()

    async def _send_batch(self, lane: Lane, batch: list[events_pb2.Event], backoff: Backoff, limit: int) -> int:
        """Sends a batch, in halves where Core refuses it for something in it. The limit for the next batch."""
        parts = [batch]
        while parts and not self._closing.is_set():
            part = parts.pop()
            match await self._try(lane, part):
                case Accepted() as accepted:
                    backoff.succeeded()
                    for event in part:
                        self._settle_sent(event, *self._word_on_funds(event, accepted), accepted.core_ids.get(key_of(event), ""))
                case Rejected(outcome, why):
                    backoff.succeeded()
                    if len(part) > 1:
                        middle = len(part) // 2
                        parts += [part[middle:], part[:middle]]
                    else:
                        self._settle_sent(part[0], outcome, why)
                case Failed(why, by_content):
                    self._unsure.update(event.sequence for event in part)
                    limit = self._keep(part, parts, by_content=by_content, limit=limit)
                    pause_ms = backoff.failed()
                    _log.warning("core did not take events, they are sent again", why=why, events=len(part), pause_ms=pause_ms)
                    await sleep_unless(self._closing, self._clock, pause_ms)
                    return limit
        return min(self._most(lane), limit * 2)

    def _most(self, lane: Lane) -> int:
        return 1 if lane is Lane.REGISTRATIONS else self._settings.batch_size

    def _word_on_funds(self, event: events_pb2.Event, accepted: Accepted) -> tuple[SettlementOutcome.ValueType, str]:
        """What Core's answer to a charge means. Core of 2021 lists a repeated charge as one that was not paid (facts 2021 §0.2 #7), so its
        word counts only for a charge that cannot have reached it before; if funds are short, the job's next charge tells."""
        if key_of(event) not in accepted.short_of_funds:
            return events_pb2.SETTLEMENT_OUTCOME_DELIVERED, ""
        if not accepted.certain and (event.maybe_delivered or event.sequence in self._unsure):
            return events_pb2.SETTLEMENT_OUTCOME_DELIVERED, "Core may have been sent this charge before; its word on funds does not count"
        return events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS, ""

    async def _try(self, lane: Lane, part: Sequence[events_pb2.Event]) -> Result:
        try:
            return await self._client.send(lane, part)
        except Exception:
            # A fault of ours, in one event perhaps: it must neither be lost nor stop the others.
            _log.exception("a delivery failed", events=len(part))
            return Failed("internal error", by_content=True)

    def _keep(self, part: list[events_pb2.Event], rest: Sequence[list[events_pb2.Event]], *, by_content: bool, limit: int) -> int:
        """Keeps events that Core has not answered for. The limit for the next batch: smaller, to find the one that Core stumbles over."""
        for other in rest:
            self._queues.put_back(other)
        if not by_content or len(part) > 1:
            self._queues.put_back(part)
            return max(1, len(part) // 2) if by_content else limit
        event = part[0]
        backoff = self._backoff()
        backoff.failures = self._queues.set_aside(event) - 1
        self._spawn(self._release(key_of(event), backoff.failed()))
        return limit

    async def _release(self, key: str, pause_ms: int) -> None:
        await sleep_unless(self._closing, self._clock, pause_ms)
        if not self._closing.is_set():
            self._woken(self._queues.release(key))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("the session does not run")
        self._tasks.create_task(work)

    # Settlements out

    def _settle_sent(self, event: events_pb2.Event, outcome: SettlementOutcome.ValueType, detail: str, license_core_id: str = "") -> None:
        self._woken(self._queues.settle(event, alone=outcome == events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN))
        if outcome != events_pb2.SETTLEMENT_OUTCOME_DELIVERED:
            name = SettlementOutcome.Name(outcome)
            _log.warning("core refuses an event", of=key_of(event), sequence=event.sequence, outcome=name, why=detail)
        self._settle(event, outcome, detail, license_core_id)

    def _settle(self, event: events_pb2.Event, outcome: SettlementOutcome.ValueType, detail: str, license_core_id: str = "") -> None:
        self._unsure.discard(event.sequence)
        self._settled.append(
            events_pb2.Settlement(sequence=event.sequence, outcome=outcome, detail=detail, license_core_id=license_core_id)
        )
        self._to_acknowledge.set()

    async def _acknowledge(self) -> None:
        backoff = self._backoff()
        while self._settled or self._lanes_running or not self._closing.is_set():
            if not self._settled:
                self._to_acknowledge.clear()
                await self._to_acknowledge.wait()
                continue
            batch = self._settled[:_BATCH]
            request = events_pb2.AcknowledgeRequest(consumer=CONSUMER, settlements=batch)
            try:
                await self._upstream.unary(ACKNOWLEDGE, request.SerializeToString(), _METADATA, _ACKNOWLEDGE_TIMEOUT_S)
            except Exception as error:
                pause_ms = backoff.failed()
                _log.warning("settlements could not be stored, they are sent again", error=str(error), pause_ms=pause_ms)
                await self._clock.sleep(pause_ms / 1_000)
                continue
            backoff.succeeded()
            del self._settled[: len(batch)]
            self._room.set()


async def sleep_unless(stop: asyncio.Event, clock: Clock, pause_ms: int) -> None:
    """Sleeps, but no longer than until `stop` is set."""
    sleeping = asyncio.ensure_future(clock.sleep(pause_ms / 1_000))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
        stopping.cancel()
