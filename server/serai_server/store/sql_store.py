"""The store's calls, put together: writes go to the owner thread, reads to the readers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from serai_server.store import consumers
from serai_server.store.api import Decide, StoreUnavailable, WriteRefused
from serai_server.store.batch import Batch
from serai_server.store.licenses import SqlLicenses
from serai_server.store.link import Link
from serai_server.store.model import (
    Backlog,
    Committed,
    EventSettlement,
    Interval,
    JobChange,
    JobFilter,
    JobPage,
    JobRecord,
    LedgerRow,
    NewJob,
    StopRequest,
    StoredEvent,
    StoredJob,
    Unpaid,
)
from serai_server.store.owner import Owner
from serai_server.store.reads import Reader
from serai_server.store.sessions import SqlSessions
from serai_server.store.tokens import SqlTokens


class SqlStore:
    """See api.Store for what each call does and raises."""

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader
        self._licenses = SqlLicenses(owner, reader)
        self._sessions = SqlSessions(owner, reader)
        self._tokens = SqlTokens(owner, reader)

    @property
    def licenses(self) -> SqlLicenses:
        return self._licenses

    @property
    def sessions(self) -> SqlSessions:
        return self._sessions

    @property
    def tokens(self) -> SqlTokens:
        return self._tokens

    async def create_jobs(self, jobs: Sequence[NewJob]) -> None:
        await self._owner.submit([j.id for j in jobs], partial(_create, tuple(jobs)))

    async def change_job(self, change: JobChange) -> StoredJob:
        return await self._owner.submit((change.job_id,), partial(_change, change))

    async def decide(self, job_ids: Sequence[str], decide: Decide) -> list[StoredJob | None]:
        outcome = await self._owner.submit(job_ids, partial(_decide, job_ids, decide))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def request_stops(self, stops: Sequence[StopRequest]) -> frozenset[str]:
        return await self._owner.submit([s.job_id for s in stops], partial(_stop, stops))

    async def register_consumer(self, consumer: str, *, from_now: bool, owner: str = "", now_ms: int = 0) -> None:
        await self._owner.submit((), partial(_register, Backlog(consumer, 0, 0, owner=owner, seen_at_ms=now_ms), from_now))

    async def give_consumer(self, consumer: str, owner: str) -> None:
        await self._owner.submit((), partial(_give, consumer, owner))

    async def drop_consumer(self, consumer: str) -> None:
        while not await self._owner.submit((), partial(_drop, consumer)):
            pass

    async def settle(self, consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest] = ()) -> frozenset[int]:
        return await self._owner.submit([s.job_id for s in stops], partial(_settle, consumer, settlements, stops))

    async def prune(self, settled_before_ms: int) -> int:
        dropped = 0
        while True:
            now = await self._owner.submit((), partial(_prune, settled_before_ms))
            dropped += now
            if now < consumers.PRUNED_AT_ONCE:
                return dropped

    async def job(self, job_id: str) -> StoredJob | None:
        return await self._reader.job(job_id)

    async def jobs(self, condition: JobFilter, limit: int, token: str) -> JobPage:
        return await self._reader.page(condition, limit, token)

    async def active_records(self) -> list[JobRecord]:
        return await self._reader.active_records()

    async def undelivered_count(self, job_id: str, consumer: str) -> int:
        return await self._reader.undelivered_count(job_id, consumer)

    async def undelivered_among(self, job_ids: Sequence[str], consumer: str) -> frozenset[str]:
        return await self._reader.undelivered_among(job_ids, consumer)

    async def of_project(self, job_ids: Sequence[str], project: str) -> frozenset[str]:
        return await self._reader.of_project(job_ids, project)

    async def events(self, consumer: str, after: int, limit: int) -> list[StoredEvent]:
        return await self._reader.events(consumer, after, limit)

    async def consumers(self) -> dict[str, str]:
        return await self._reader.consumers()

    async def last_event(self) -> int:
        return await self._reader.last_event()

    async def events_at(self, sequences: Sequence[int]) -> list[StoredEvent]:
        return await self._reader.events_at(sequences)

    async def settled(self, consumer: str, sequences: Sequence[int]) -> list[EventSettlement]:
        return await self._reader.settled(consumer, sequences)

    async def intervals(self, job_id: str) -> list[Interval]:
        return await self._reader.intervals(job_id)

    async def ledger(self, job_id: str) -> list[LedgerRow]:
        return await self._reader.ledger(job_id)

    async def unpaid(self, after_ms: int) -> list[Unpaid]:
        return await self._reader.unpaid(after_ms)

    async def backlogs(self) -> list[Backlog]:
        return await self._reader.backlogs()

    @property
    def waiting_writes(self) -> int:
        """Writes that wait for their transaction, about."""
        return self._owner.waiting

    async def ping(self) -> None:
        """Both ways into the database: the writing connection and the readers."""
        await self._owner.submit((), _nothing)
        await self._reader.ping()

    async def close(self) -> None:
        self._owner.stop()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._owner.join()
        self._reader.close()


def _create(jobs: Sequence[NewJob], batch: Batch, _: Link) -> tuple[None, Committed]:
    return None, batch.create(jobs)


def _change(change: JobChange, batch: Batch, _: Link) -> tuple[StoredJob, Committed]:
    return batch.change(change)


def _decide(job_ids: Sequence[str], decide: Decide, batch: Batch, _: Link) -> tuple[list[StoredJob | None] | Exception, Committed]:
    try:
        return batch.decide(job_ids, decide)
    except (StoreUnavailable, WriteRefused):
        # The database's, while it was applied: nothing of this transaction can stay.
        raise
    except Exception as error:
        # Raised before anything was applied; it belongs to the caller alone.
        return error, Committed()


def _stop(stops: Sequence[StopRequest], batch: Batch, _: Link) -> tuple[frozenset[str], Committed]:
    return batch.stop(stops)


def _register(new: Backlog, from_now: bool, batch: Batch, link: Link) -> tuple[None, Committed]:
    mark = batch.last_event if from_now else 0
    consumers.register(link, new.consumer, mark=mark, owner=new.owner, now_ms=new.seen_at_ms)
    return None, Committed()


def _give(consumer: str, owner: str, _: Batch, link: Link) -> tuple[None, Committed]:
    consumers.give(link, consumer, owner)
    return None, Committed()


def _drop(consumer: str, _: Batch, link: Link) -> tuple[bool, Committed]:
    return consumers.drop(link, consumer), Committed()


def _settle(
    consumer: str, settlements: Sequence[EventSettlement], stops: Sequence[StopRequest], batch: Batch, link: Link
) -> tuple[frozenset[int], Committed]:
    first = consumers.settle(link, consumer, settlements)
    return first, batch.stop([stop for stop in stops if not stop.sequence or stop.sequence in first])[1]


def _prune(settled_before_ms: int, _: Batch, link: Link) -> tuple[int, Committed]:
    return consumers.prune(link, settled_before_ms), Committed()


def _nothing(_: Batch, __: Link) -> tuple[None, Committed]:
    return None, Committed()
