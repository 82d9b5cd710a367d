"""The owner of all writes: one thread that gathers what waits into one transaction and answers when that is on disk.

A queue is drained into a group of at most GROUP writes. The rows that they name are read, each write is applied to their images (batch.py),
the images are written in a few statements, and after COMMIT one call into the event loop answers everyone and tells the listener.
kill -9 before COMMIT: nobody was answered and nothing is stored. After it: all is stored, and who was not answered repeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic, TypeVar

from serai_telemetry.spans import Kind, Span, Traces, recorded

from serai_server.counts import StoreCounts
from serai_server.store import license_writes, seats, tables
from serai_server.store.api import JobConflict, Listener, StoreError, StoreUnavailable, VersionConflict
from serai_server.store.batch import Batch
from serai_server.store.consumers import last_sequence
from serai_server.store.license_api import LicenseConflict, QuotaReached, ServerConflict
from serai_server.store.link import CommitUnknown, Link
from serai_server.store.model import Committed, StoredJob
from serai_server.store.rows import CHANGING, as_job, changing_row, is_active

T = TypeVar("T")

GROUP = 512
"""Most writes in one transaction (facts on speed §8)."""

_DOUBT_RETRY_S = 0.5
"""How often a lost connection is tried again while the outcome of a commit is not known."""

_NOTHING = Committed()

_SELECT_JOBS = f"SELECT {', '.join(tables.columns(tables.jobs))} FROM jobs WHERE "  # noqa: S608  # no value in it


class Waiting(ABC):
    """A write in the queue, whatever its result is."""

    __slots__ = ("ids", "origin")

    ids: Collection[str]
    """Jobs whose rows it must see."""
    origin: str
    """The traceparent of who wants it; empty = nobody who is traced."""

    @abstractmethod
    def perform(self, batch: Batch, link: Link) -> Committed | None:
        """Apply it. None = it was refused and nothing of it applied. Raises what the link raises."""

    @abstractmethod
    def fail(self, error: Exception) -> None: ...

    @abstractmethod
    def answer(self) -> None:
        """On the event loop."""


class Write(Waiting, Generic[T]):
    __slots__ = ("_future", "_outcome", "_run")

    def __init__(
        self, ids: Collection[str], run: Callable[[Batch, Link], tuple[T, Committed]], future: asyncio.Future[T], origin: str = ""
    ) -> None:
        self.ids = ids
        self.origin = origin
        self._run = run
        self._future = future
        self._outcome: tuple[T] | Exception | None = None

    def perform(self, batch: Batch, link: Link) -> Committed | None:
        try:
            result, told = self._run(batch, link)
        except (JobConflict, VersionConflict, LicenseConflict, QuotaReached, ServerConflict, ValueError) as error:
            # Raised before anything was applied.
            self._outcome = error
            return None
        self._outcome = (result,)
        return told

    def fail(self, error: Exception) -> None:
        self._outcome = error

    def answer(self) -> None:
        if self._future.done():
            return  # the caller was cancelled
        if isinstance(self._outcome, tuple):
            self._future.set_result(self._outcome[0])
        elif self._outcome is not None:
            self._future.set_exception(self._outcome)


class Owner:
    """Runs from `start` to `close`. The link is its alone in between."""

    def __init__(
        self,
        link: Link,
        listener: Listener,
        loop: asyncio.AbstractEventLoop,
        counts: StoreCounts | None = None,
        traces: Traces | None = None,
    ) -> None:
        """`counts` None = nobody wants to know; `traces` None = no spans."""
        self._counts = counts or StoreCounts()
        self._traces = traces
        self._link = link
        self._listener = listener
        self._loop = loop
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._last_event: int | None = None
        """Highest sequence given out; None = to be read again."""
        self._doubtful: dict[str, None] | None = None
        """Jobs of transactions whose outcome is not known; None = no doubt."""
        self._thread = threading.Thread(target=self._work, name="serai-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, ids: Collection[str], run: Callable[[Batch, Link], tuple[T, Committed]]) -> asyncio.Future[T]:
        """Queue a write. Once queued it is carried out, whether or not anyone still waits. Raises StoreUnavailable when closed."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        origin = recorded(self._traces.current()) if self._traces is not None else ""
        self._queue.put(Write(ids, run, future, origin))
        return future

    @property
    def waiting(self) -> int:
        """Writes in the queue, about."""
        return self._queue.qsize()

    def stop(self) -> None:
        """Take no more writes; those that wait are carried out."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self) -> None:
        """Blocks until the thread has ended."""
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if self._doubtful is not None:
                self._resolve_doubt()
            if group:
                self._publish(group, self._carry_out(group))
        self._link.close()

    def _next_group(self) -> tuple[list[Waiting], bool]:
        """The writes that wait (none when only doubt is to be resolved), and whether more may come."""
        group: list[Waiting] = []
        with contextlib.suppress(queue.Empty):
            item = self._queue.get(timeout=None if self._doubtful is None else _DOUBT_RETRY_S)
            while item is not None:
                group.append(item)
                if len(group) == GROUP:
                    return group, True
                item = self._queue.get_nowait()
            return group, False
        return group, True

    def _carry_out(self, group: Sequence[Waiting]) -> list[Committed]:
        """One transaction for all; when the database refuses a value of one, one for each. Never raises."""
        try:
            return self._counted(group)
        except StoreUnavailable as error:
            for write in group:
                write.fail(error)
            return []
        except Exception as error:  # whatever it is, somebody waits for the answer
            if len(group) == 1:
                group[0].fail(error)
                return []
        told: list[Committed] = []
        for write in group:
            told.extend(self._carry_out([write]))
        return told

    def _counted(self, group: Sequence[Waiting]) -> list[Committed]:
        began, counts, outcome = time.perf_counter_ns(), self._counts, "failed"
        try:
            with self._span(group):
                told = self._transaction(group)
            outcome = "committed"
        except StoreUnavailable:
            outcome = "unavailable"
            raise
        finally:
            counts.commits.add((outcome,))
        counts.commit_ns.add(time.perf_counter_ns() - began)
        counts.commit_writes.add(len(group))
        counts.writes += len(group)
        return told

    def _span(self, group: Sequence[Waiting]) -> AbstractContextManager[Span | None]:
        """One for the whole group, in the trace of the first that has one and with links to the others."""
        origins = list(dict.fromkeys(write.origin for write in group if write.origin)) if self._traces is not None else []
        if self._traces is None or not origins:
            return contextlib.nullcontext()
        notes = {"serai.store.writes": len(group)}
        return self._traces.span("store commit", Kind.CLIENT, parent=origins[0], links=origins[1:], notes=notes)

    def _transaction(self, group: Sequence[Waiting]) -> list[Committed]:
        link = self._link
        batch = Batch({}, 0, partial(license_writes.note, link))
        try:
            batch.last_event = self._begin()
            batch.jobs = self._load(dict.fromkeys(i for write in group for i in write.ids))
            told = [committed for write in group if (committed := write.perform(batch, link)) is not None]
            self._write(batch)
            link.commit()
        except BaseException as error:
            link.rollback()
            self._last_event = None
            if isinstance(error, CommitUnknown):
                self._doubtful = (self._doubtful or {}) | dict.fromkeys(batch.created) | batch.changed
            raise
        self._last_event = batch.last_event
        return [t for t in told if t != _NOTHING]

    def _begin(self) -> int:
        """The highest sequence given out. A connection that was lost while nothing was under way is replaced without a word."""
        fresh = self._link.connect()
        try:
            self._link.begin()
        except StoreUnavailable:
            if fresh or not self._link.connect():
                raise
            fresh = True
            self._link.begin()
        if fresh or self._last_event is None:
            return last_sequence(self._link)
        return self._last_event

    def _load(self, ids: Collection[str]) -> dict[str, StoredJob]:
        if not ids:
            return {}
        rows = self._link.query(_SELECT_JOBS + self._link.among("id"), self._link.listed(ids))
        return {job.id: job for job in map(as_job, rows)}

    def _write(self, batch: Batch) -> None:
        """Parents before children: events, intervals and charges refer to their job."""
        link = self._link
        if batch.created:
            link.insert(tables.jobs, list(batch.created.values()))
        if batch.changed:
            link.update(tables.jobs, CHANGING, [changing_row(batch.jobs[i]) for i in batch.changed])
        if batch.events:
            link.insert(tables.events, batch.events)
        for job_id, ended_at_ms in batch.interval_ends.items():
            link.execute(
                "UPDATE intervals SET ended_at_ms = CASE WHEN started_at_ms > ? THEN started_at_ms ELSE ? END "
                "WHERE job_id = ? AND ended_at_ms = 0",
                ended_at_ms,
                ended_at_ms,
                job_id,
            )
        if batch.intervals:
            link.insert(tables.intervals, [(i.job_id, i.version, i.started_at_ms, i.ended_at_ms) for i in batch.intervals])
        if batch.ledger:
            link.insert(tables.ledger, batch.ledger)
        seats.flush(batch, link)
        if batch.over:
            # With the state that ends them: no kill leaves a session of a job that is over.
            link.execute(f"DELETE FROM sessions WHERE {link.among('job_id')}", link.listed(batch.over))  # noqa: S608  # no value in it

    def _resolve_doubt(self) -> None:
        """After a commit whose outcome was lost: tell the listener how its jobs really are."""
        try:
            self._link.connect()
            self._last_event = last_sequence(self._link)
            jobs = self._load(self._doubtful or {}).values()
        except StoreError:
            return
        self._doubtful = None
        records = tuple(j.record for j in jobs if is_active(j))
        self._publish((), [Committed(records, tuple(j.id for j in jobs if not is_active(j)), self._last_event)])

    def _publish(self, group: Sequence[Waiting], told: list[Committed]) -> None:
        def on_loop() -> None:
            for write in group:
                write.answer()
            if told:
                self._listener(told)

        # A loop that is closed has nobody left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(on_loop)
