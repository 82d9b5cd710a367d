"""Events for consumers: first what they have not settled, in order, then what happens, without polling.

An event is in the log from the transaction that made it true, so nothing here can lose one: this only reads and wakes. Two consumers
know nothing of each other, and two subscriptions of one consumer both get what is not settled. But for Core's: two gateways would tell
Core everything twice, so the newer subscription ends the older one, which may be of a gateway that is gone and did not say so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import structlog

from serai_server.clock import Clock
from serai_server.counts import OTHERS, LedgerCounts
from serai_server.errors import InvalidRequest
from serai_server.events.consumers import OPERATOR, Asker, ConsumerReport, Consumers, Known
from serai_server.ledger.funds import Funds, wallet_of
from serai_server.own_jobs import is_own
from serai_server.store.api import Store
from serai_server.store.model import CORE, EventKind, EventSettlement, Outcome, StopRequest, StoredEvent, Target

MOST_AT_ONCE = 1_000
"""Events in one message at most, and when the consumer does not say."""
MOST_BYTES = 2 * 1024 * 1024
"""Of the events in one message, about; one that is longer comes by itself. Clients of gRPC take 4 MiB."""

log = structlog.get_logger("serai.events")

_NAME = re.compile(r"[a-z0-9._-]{1,64}")

_OWN = "of the site's own job: not for UCloud"

_STOPS = {Outcome.JOB_UNKNOWN: Target.STOP_DISOWNED, Outcome.INSUFFICIENT_FUNDS: Target.STOP_NO_CREDITS}
"""Outcomes after which the job must not go on."""


class TakenOver(Exception):
    """Core's consumer was subscribed to by somebody else, who gets the events from now on; the text is for people."""


class Licenses(Protocol):
    """Who is told what Core answered to events of licenses (serai_server.licenses.settled)."""

    async def settle(self, settled: Sequence[tuple[StoredEvent, EventSettlement]]) -> None:
        """Harmless when repeated. Raises what the store raises."""
        ...


class EventLog:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        funds: Funds | None = None,
        licenses: Licenses | None = None,
        counts: LedgerCounts | None = None,
    ) -> None:
        """`funds` is told what Core says of wallets, `licenses` what it says of licenses; None = nobody wants to know, `counts` too."""
        self._counts = counts or LedgerCounts()
        self._licenses = licenses
        self._cores_word = asyncio.Lock()
        """Core's words are taken down one call after the other: what one leaves half done is known to the next."""
        self._unsure: set[int] = set()
        """Events that Core's consumer has tried to settle: whether that was stored is not known, or what follows from it was not told."""
        self._of_licenses: set[int] = set()
        """All events of licenses that Core's consumer was handed, by this process or one before it, and has not settled, and perhaps some
        that it has: acknowledging a job's needs no look at the store."""
        self._store = store
        self._funds = funds
        self._clock = clock
        self._consumers = Consumers(store)
        self._turn = 0
        """Of the newest subscription of Core's consumer."""
        self._core_is_read = False
        self._before: int | None = None
        """Up to this event earlier processes may have handed out anything; None = it is not known."""
        self._handed: dict[str, int] = {}
        """Consumer to the newest event that this process has handed to it."""
        self._news = asyncio.Event()
        """Set at the next commit with events, then replaced: whoever took it before reading misses nothing."""

    async def load(self) -> None:
        """What an earlier process handed out may be settled to this one, before anybody subscribes. Raises StoreUnavailable."""
        self._before = await self._store.last_event()
        self._of_licenses.update(await self._store.licenses.unsettled_events(CORE))

    def notify(self, last_sequence: int) -> None:
        """The store committed events up to this sequence; 0 = none."""
        if last_sequence:
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def subscribe(
        self, consumer: str, from_now: bool = False, batch_size: int = 0, asker: Asker = OPERATOR
    ) -> AsyncGenerator[list[StoredEvent], None]:
        """Lists of 1 to `batch_size` events (0 = MOST_AT_ONCE, which is also the most), until closed. Each event once in a subscription,
        and again in the next one unless it was settled. Read at the pace at which it is pulled.

        A consumer that is not known begins at the log's start, or at its end when `from_now` is set, and is the asker's.
        Raises InvalidRequest at once; Forbidden for another's, TooManyConsumers, TakenOver, ConsumerUnknown when it is dropped, and
        StoreUnavailable while it runs.
        """
        check_consumer(consumer)
        if batch_size < 0:
            raise InvalidRequest("expected 1 or more, or 0 for 1000", field="batch_size")
        limit = min(batch_size or MOST_AT_ONCE, MOST_AT_ONCE)
        return self._for_newest(from_now, limit) if consumer == CORE else self._follow(consumer, from_now, limit, asker=asker)

    async def _for_newest(self, from_now: bool, limit: int) -> AsyncGenerator[list[StoredEvent], None]:
        """Core's consumer, until another subscription of it begins. Raises TakenOver then."""
        self._turn += 1
        turn = self._turn
        if self._core_is_read:
            log.warning("events.taken_over", why="a gateway subscribed while another one did; is one of them too many?")
        self._core_is_read = True
        self._wake()
        try:
            async with self._cores_word:
                await self._catch_up()
            async with aclosing(self._follow(CORE, from_now, limit, turn)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            if turn == self._turn:
                self._core_is_read = False

    async def _follow(
        self, consumer: str, from_now: bool, limit: int, turn: int = 0, asker: Asker = OPERATOR
    ) -> AsyncGenerator[list[StoredEvent], None]:
        known = await self._consumers.register(consumer, asker, self._clock.now_ms(), from_now=from_now)
        with self._consumers.subscribed(known):
            async with aclosing(self._read(consumer, known, limit, turn)) as batches:
                async for batch in batches:
                    yield batch

    async def _read(self, consumer: str, known: Known, limit: int, turn: int) -> AsyncGenerator[list[StoredEvent], None]:
        after, mark = 0, await self._handed_before(consumer)
        while True:
            news = self._news
            self._check_turn(turn)
            self._consumers.check_there(consumer, known)
            events = _together(await self._store.events(consumer, after, limit))
            if events:
                after = events[-1].sequence
                if consumer == CORE:
                    events = await self._for_core(events)
                    self._check_turn(turn)
                if events:
                    self._handed[consumer] = max(after, self._handed.get(consumer, 0))
                    yield [e if e.sequence > mark else replace(e, maybe_delivered=True) for e in events]
            else:
                await news.wait()

    async def _handed_before(self, consumer: str) -> int:
        """Up to this event the consumer may have been handed everything; of later ones, nothing yet."""
        handed = self._handed.get(consumer, self._before)
        return await self._store.last_event() if handed is None else handed

    def _check_turn(self, turn: int) -> None:
        """Raises TakenOver. 0 = any number may read at a time."""
        if turn and turn != self._turn:
            raise TakenOver(f"the consumer {CORE!r} was subscribed to once more, and only the newest subscription gets events")

    async def _for_core(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Without those of the site's own jobs, which are settled here. Killed before that, they come by once more."""
        own = [EventSettlement(e.sequence, Outcome.DELIVERED, _OWN, self._clock.now_ms()) for e in events if is_own(e.job_id)]
        if own:
            await self._store.settle(CORE, own)
        found = [event for event in events if not is_own(event.job_id)]
        self._of_licenses.update(event.sequence for event in found if event.license_id)
        return found

    async def consumers(self) -> list[ConsumerReport]:
        """All, by name. Raises StoreUnavailable."""
        return await self._consumers.list()

    async def drop(self, consumer: str) -> None:
        """It keeps nothing any more, and whoever reads by its name is told so.

        Raises ConsumerUnknown, InvalidRequest and StoreUnavailable."""
        check_consumer(consumer)
        await self._consumers.drop(consumer)
        self._wake()

    async def give(self, consumer: str, owner: str) -> None:
        """It is another identity's, and whoever reads by its name is told so.

        Raises ConsumerUnknown, InvalidRequest and StoreUnavailable."""
        check_consumer(consumer)
        await self._consumers.give(consumer, owner)
        self._wake()

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker = OPERATOR) -> None:
        """Settle events; the first outcome of each stays, and counts. A job that Core does not know, or that cannot be paid for, is
        stopped in the same transaction; what other consumers say of that counts for nothing. Raises ConsumerUnknown, InvalidRequest,
        Forbidden for another's, and StoreUnavailable.

        Core's consumer may settle what is no event, which changes nothing: its gateway may have been told by a store that was put back.
        """
        check_consumer(consumer)
        if consumer != CORE:
            async with self._consumers.settling(consumer, settlements, asker):
                settlements = _once_each(settlements)
                first = await self._store.settle(consumer, settlements)
            self._count(OTHERS, [s for s in settlements if s.sequence in first])
            return
        async with self._cores_word:
            await self._catch_up()
            await self._settle_for_core(_once_each(settlements))

    async def _catch_up(self) -> None:
        """What follows from settlements that may have been stored all the same: a commit's answer was lost, or a call was cut off. Core's
        gateway may never repeat them: it may be gone, and the next one is not handed what is settled."""
        if not self._unsure:
            return
        # The writes that such calls left behind come first, so that what is not found now never was stored.
        await self._store.ping()
        await self._tell_funds(await self._store.settled(CORE, list(self._unsure)))
        self._unsure.clear()

    async def _settle_for_core(self, settlements: Sequence[EventSettlement]) -> None:
        """Killed before the licenses are told, or between that and the settlement: the events are handed out and answered once more. After
        it: all is stored but what is known of wallets, which the next start reads."""
        tried = frozenset(s.sequence for s in settlements)
        try:
            await self._tell_licenses([s for s in settlements if s.sequence in self._of_licenses])
            stopping = {s.sequence: target for s in settlements if (target := _STOPS.get(s.outcome)) is not None}
            # Events never change, so which job one belongs to may be read before the transaction.
            events = await self._store.events_at(list(stopping)) if stopping else []
            now_ms = self._clock.now_ms()
            stops = [StopRequest(e.job_id, stopping[e.sequence], now_ms, e.sequence) for e in events if e.job_id]
            first = await self._store.settle(CORE, settlements, stops)
            settled = [s for s in settlements if s.sequence in first]
            self._count(CORE, settled)
            await self._tell_funds(settled)
        except BaseException:
            self._unsure |= tried
            raise
        self._of_licenses -= tried

    def _count(self, consumer: str, settlements: Sequence[EventSettlement]) -> None:
        for settlement in settlements:
            self._counts.settled.add((consumer, settlement.outcome.name))

    async def _tell_licenses(self, settlements: Sequence[EventSettlement]) -> None:
        """Before it is stored: what gets lost between the two is answered by Core once more. Not of what Core has said its word on."""
        if self._licenses is None or not settlements:
            return
        said = {s.sequence for s in await self._store.settled(CORE, [s.sequence for s in settlements])}
        by_sequence = {s.sequence: s for s in settlements if s.sequence not in said}
        events = await self._store.events_at(list(by_sequence)) if by_sequence else []
        if events:
            await self._licenses.settle([(event, by_sequence[event.sequence]) for event in events])

    async def _tell_funds(self, settlements: Sequence[EventSettlement]) -> None:
        """After it is stored: what gets lost here is read from the store, by `_catch_up` or at the next start."""
        funds = self._funds
        if funds is None:
            return
        wanted = {
            s.sequence: s
            for s in settlements
            # A detail says that Core's word on the funds of this charge is not to be trusted.
            if s.outcome is Outcome.INSUFFICIENT_FUNDS or (s.outcome is Outcome.DELIVERED and not s.detail and len(funds))
        }
        for event in await self._store.events_at(list(wanted)) if wanted else []:
            job = await self._store.job(event.job_id) if event.kind is EventKind.CHARGE else None
            if job is None:
                continue
            wallet = wallet_of(job.owner, job.project, job.product)
            word = wanted[event.sequence]
            if word.outcome is Outcome.DELIVERED:
                funds.paid(wallet)
            else:
                funds.short(wallet, word.at_ms)

    async def undelivered_count(self, job_id: str, consumer: str) -> int:
        """Events of the job that the consumer has not settled."""
        return await self._store.undelivered_count(job_id, consumer)


def _together(events: list[StoredEvent]) -> list[StoredEvent]:
    """The first ones, as many as one message holds."""
    room = MOST_BYTES
    for place, event in enumerate(events):
        room -= len(event.body)
        if room < 0:
            return events[: max(place, 1)]
    return events


def _once_each(settlements: Sequence[EventSettlement]) -> list[EventSettlement]:
    """The first of each event."""
    return list({s.sequence: s for s in reversed(settlements)}.values())


def check_consumer(name: str) -> None:
    """Raises InvalidRequest."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest("expected 1 to 64 characters of a-z, 0-9, dot, underscore and hyphen", field="consumer")
