"""Reads, on a few threads with connections of their own. A read sees every write that was answered before it was asked."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Engine,
    Executable,
    Select,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from serai_server.store.api import StoreUnavailable, WriteRefused
from serai_server.store.model import (
    Backlog,
    EventSettlement,
    Interval,
    JobFilter,
    JobPage,
    JobRecord,
    LedgerRow,
    Outcome,
    StoredEvent,
    StoredJob,
    Unpaid,
)
from serai_server.store.rows import (
    Row,
    Value,
    as_backlog,
    as_charge,
    as_event,
    as_int,
    as_interval,
    as_job,
    as_pair,
    as_record,
    as_settlement,
    as_text,
    as_unpaid,
)
from serai_server.store.tables import consumers, events, intervals, jobs, ledger, settlements, unsettled

T = TypeVar("T")

READERS = 4

_Values: TypeAlias = tuple[Value, ...] | dict[str, Value]

PAGE_BYTES = 2 * 1024 * 1024
"""Of the rows in one page of jobs, about: what is told of them stays within the 4 MiB that clients of gRPC take."""

_AT_ONCE = 10_000
"""Most sequences that one statement asks for."""


class _Prepared:
    """A query of which only values change, put into words once: SQLAlchemy takes longer to build one than SQLite to answer it."""

    def __init__(self, engine: Engine, query: Select[Any]) -> None:
        self._compiled = query.compile(engine)
        self.sql = str(self._compiled)

    def values(self, **given: Value) -> _Values:
        """As the driver takes them: by place or by name."""
        named: Mapping[str, Value] = self._compiled.construct_params(given)
        order = self._compiled.positiontup
        return dict(named) if order is None else tuple(named[name] for name in order)


class Reader:
    """`describe` puts a driver's exception into words without values."""

    def __init__(self, engine: Engine, describe: Callable[[BaseException], str]) -> None:
        self._engine = engine
        self._describe = describe
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="serai-read")
        self._job = _Prepared(engine, select(jobs).where(jobs.c.id == bindparam("wanted")))
        self._events = _Prepared(engine, _events_query())

    async def run(self, statement: Executable | tuple[_Prepared, _Values], convert: Callable[[Row], T]) -> list[T]:
        return await self._gathered(statement, lambda rows: [convert(row) for row in rows])

    async def _gathered(self, statement: Executable | tuple[_Prepared, _Values], gather: Callable[[Iterable[Row]], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, statement, gather)
        except RuntimeError as error:
            raise StoreUnavailable("the store is closed") from error

    def _read(self, statement: Executable | tuple[_Prepared, _Values], gather: Callable[[Iterable[Row]], T], again: bool = True) -> T:
        try:
            with self._engine.connect() as connection:
                if isinstance(statement, tuple):
                    return gather(connection.exec_driver_sql(statement[0].sql, statement[1]))
                return gather(connection.execute(statement))
        except DBAPIError as error:
            if error.connection_invalidated and again:
                # The pool's connections were lost with the server; the pool has dropped them and makes new ones.
                return self._read(statement, gather, again=False)
            cause = error.orig or error
            kind = WriteRefused if type(cause).__name__ == "DataError" else StoreUnavailable
            raise kind(f"the database could not be read: {self._describe(cause)}") from error
        except PoolTimeout as error:
            raise StoreUnavailable("all readers of the database are busy") from error

    async def job(self, job_id: str) -> StoredJob | None:
        if "\0" in job_id:
            return None
        found = await self.run((self._job, self._job.values(wanted=job_id)), as_job)
        return found[0] if found else None

    async def page(self, condition: JobFilter, limit: int, token: str) -> JobPage:
        query = select(*_LISTED)
        if condition.states:
            query = query.where(jobs.c.state.in_([int(s) for s in condition.states]))
        if condition.owner:
            query = query.where(jobs.c.owner == condition.owner)
        if condition.project is not None:
            query = query.where(jobs.c.project == condition.project)
        if condition.active_only:
            query = query.where(jobs.c.forgotten_at_ms == 0, jobs.c.ended_at_ms == 0)
        if token:
            created_at_ms, job_id = read_token(token)
            query = query.where(or_(jobs.c.created_at_ms < created_at_ms, and_(jobs.c.created_at_ms == created_at_ms, jobs.c.id < job_id)))
        query = query.order_by(jobs.c.created_at_ms.desc(), jobs.c.id.desc()).limit(limit + 1)
        return await self._gathered(query, partial(_as_page, limit=limit))

    async def active_records(self) -> list[JobRecord]:
        c = jobs.c
        columns = (c.id, c.state, c.target, c.version, c.replicas, c.created_at_ms, c.started_at_ms, c.wake_at_ms)
        return await self.run(select(*columns).where(c.forgotten_at_ms == 0), as_record)

    async def undelivered_count(self, job_id: str, consumer: str) -> int:
        query = select(func.count()).select_from(events).where(events.c.job_id == job_id, _undelivered(consumer))
        return (await self.run(query, as_int))[0]

    async def undelivered_among(self, job_ids: Sequence[str], consumer: str) -> frozenset[str]:
        query = select(events.c.job_id).distinct().where(events.c.job_id.in_(job_ids), _undelivered(consumer))
        return frozenset(await self.run(query, as_text))

    async def of_project(self, job_ids: Sequence[str], project: str) -> frozenset[str]:
        query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.project == project)
        return frozenset(await self.run(query, as_text))

    async def consumers(self) -> dict[str, str]:
        return dict(await self.run(select(consumers.c.name, consumers.c.owner), as_pair))

    async def last_event(self) -> int:
        return (await self.run(select(func.coalesce(func.max(events.c.sequence), 0)), as_int))[0]

    async def events(self, consumer: str, after: int, limit: int) -> list[StoredEvent]:
        return await self.run((self._events, self._events.values(consumer=consumer, after=after, most=limit)), as_event)

    async def events_at(self, sequences: Sequence[int]) -> list[StoredEvent]:
        found: list[StoredEvent] = []
        for part in _in_parts(sequences):
            found += await self.run(select(events).where(events.c.sequence.in_(part)).order_by(events.c.sequence), as_event)
        return found

    async def settled(self, consumer: str, sequences: Sequence[int]) -> list[EventSettlement]:
        c = settlements.c
        query = select(c.sequence, c.outcome, c.detail, c.at_ms).where(c.consumer == consumer).order_by(c.sequence)
        found: list[EventSettlement] = []
        for part in _in_parts(sequences):
            found += await self.run(query.where(c.sequence.in_(part)), as_settlement)
        return found

    async def intervals(self, job_id: str) -> list[Interval]:
        c = intervals.c
        query = select(c.job_id, c.started_at_ms, c.ended_at_ms).where(c.job_id == job_id).order_by(c.version)
        return await self.run(query, as_interval)

    async def ledger(self, job_id: str) -> list[LedgerRow]:
        return await self.run(select(ledger).where(ledger.c.job_id == job_id).order_by(ledger.c.first_period), as_charge)

    async def unpaid(self, after_ms: int) -> list[Unpaid]:
        query = (
            select(jobs.c.owner, jobs.c.project, jobs.c.product, settlements.c.at_ms)
            .select_from(settlements)
            .join(events, events.c.sequence == settlements.c.sequence)
            .join(jobs, jobs.c.id == events.c.job_id)
            .where(settlements.c.outcome == literal_column(str(int(Outcome.INSUFFICIENT_FUNDS))), settlements.c.at_ms > after_ms)
        )
        return await self.run(query, as_unpaid)

    async def backlogs(self) -> list[Backlog]:
        return await self.run(_backlogs_query(), as_backlog)

    async def ping(self) -> None:
        await self.run(select(literal(1)), as_int)

    def close(self) -> None:
        """Blocks until the reads under way have ended."""
        self._pool.shutdown()
        self._engine.dispose()


_LISTED = [literal(b"").label("body") if column.name == "body" else column for column in jobs.c]
"""A job's body is the largest of it by far, and no list needs it."""


def _as_page(rows: Iterable[Row], limit: int) -> JobPage:
    """Of at most `limit` jobs that fit, but of one in any case."""
    page: list[StoredJob] = []
    room = PAGE_BYTES
    for job in map(as_job, rows):
        room -= _size(job)
        if page and (room < 0 or len(page) == limit):
            return JobPage(tuple(page), make_token(page[-1]))
        page.append(job)
    return JobPage(tuple(page), "")


def _size(job: StoredJob) -> int:
    """Bytes that differ from job to job."""
    texts = (job.id, job.owner, job.project, job.application, job.product, job.name, job.output_folder, job.status)
    return sum(len(text.encode()) for text in texts) + len(job.replica_facts) + len(job.notes)


def _in_parts(sequences: Sequence[int]) -> list[list[int]]:
    """In order, each once."""
    wanted = sorted(set(sequences))
    return [wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE)]


def _events_query() -> Select[Any]:
    """What was jumped over, then what is above the mark: two index scans in one statement, hence one snapshot."""
    consumer, after, most = bindparam("consumer", type_=Text), bindparam("after", type_=BigInteger), bindparam("most", type_=BigInteger)
    skipped = (
        select(events)
        .join(unsettled, unsettled.c.sequence == events.c.sequence)
        .where(unsettled.c.consumer == consumer, unsettled.c.sequence > after)
        .order_by(unsettled.c.sequence)
        .limit(most)
        .subquery()
    )
    above = (
        select(events)
        .where(events.c.sequence > settled_to(consumer), events.c.sequence > after)
        .order_by(events.c.sequence)
        .limit(most)
        .subquery()
    )
    both = union_all(select(skipped), select(above)).subquery()
    return select(both).order_by(both.c.sequence).limit(most)


def _backlogs_query() -> Select[Any]:
    c, u, e = consumers.c, unsettled.c, events.c
    above = e.sequence > c.settled_to
    skipped = u.consumer == c.name
    count_above = select(func.count()).select_from(events).where(above).scalar_subquery()
    count_skipped = select(func.count()).select_from(unsettled).where(skipped).scalar_subquery()
    # What was jumped over is older than what is above the mark.
    first_skipped = select(e.at_ms).join(unsettled, u.sequence == e.sequence).where(skipped).order_by(u.sequence).limit(1)
    first_above = select(e.at_ms).where(above).order_by(e.sequence).limit(1)
    oldest = func.coalesce(first_skipped.correlate(consumers).scalar_subquery(), first_above.scalar_subquery(), 0)
    return select(c.name, count_above + count_skipped, oldest, c.settled_to, c.owner, c.seen_at_ms).order_by(c.name)


def _undelivered(consumer: str) -> ColumnElement[bool]:
    left = exists().where(unsettled.c.consumer == consumer, unsettled.c.sequence == events.c.sequence)
    return or_(events.c.sequence > settled_to(consumer), left)


def settled_to(consumer: str | BindParameter[str]) -> ColumnElement[int]:
    """Everything above it is not settled by the consumer (tables.consumers)."""
    return func.coalesce(select(consumers.c.settled_to).where(consumers.c.name == consumer).scalar_subquery(), 0)


def make_token(job: StoredJob) -> str:
    """The place after the job in the order of a list. For machines; may change between versions."""
    return base64.urlsafe_b64encode(f"{job.created_at_ms}:{job.id}".encode()).decode()


def read_token(token: str) -> tuple[int, str]:
    """Raises ValueError for what `make_token` did not make."""
    try:
        created, colon, job_id = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not a token of this store") from error
    if not colon or not job_id or "\0" in job_id or not created.isdecimal() or int(created) >= 2**63:
        raise ValueError("not a token of this store")
    return int(created), job_id
