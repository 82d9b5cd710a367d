"""The active jobs in memory, and who waits for a change of one. Fed by the store's listener alone, so it says only what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from serai_server.counts import JobCounts
from serai_server.store.model import Committed, JobRecord, State

_STATES = {int(state): (state.name,) for state in State}
"""Labels of the counts, ready to be used."""


class Registry:
    def __init__(self, counts: JobCounts | None = None) -> None:
        """`counts` None = nobody wants to know."""
        self._counts = counts or JobCounts()
        self._records: dict[str, JobRecord] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._wakers: list[Callable[[JobRecord, JobRecord | None], None]] = []

    def __len__(self) -> int:
        return len(self._records)

    def load(self, records: Iterable[JobRecord]) -> None:
        """The active jobs of the store, at start; they call for no work by themselves."""
        for record in records:
            before = self._records.get(record.id)
            self._records[record.id] = record
            if before is not None:
                self._counts.active.add(_STATES[before.state], -1)
            self._counts.active.add(_STATES[record.state])

    def get(self, job_id: str) -> JobRecord | None:
        return self._records.get(job_id)

    def ids(self) -> list[str]:
        return list(self._records)

    def on_change(self, waker: Callable[[JobRecord, JobRecord | None], None]) -> None:
        """`waker(now, before)` is called for each job of each commit; before = None for a new job."""
        self._wakers.append(waker)

    def committed(self, changes: Sequence[Committed]) -> None:
        for change in changes:
            for record in change.records:
                before = self._records.get(record.id)
                self._records[record.id] = record
                if before is None or before.state != record.state:
                    self._count(record, before)
                self._tell(record.id)
                for waker in self._wakers:
                    waker(record, before)
            for job_id in change.gone:
                gone = self._records.pop(job_id, None)
                if gone is not None:
                    self._counts.active.add(_STATES[gone.state], -1)
                self._tell(job_id)

    def _count(self, now: JobRecord, before: JobRecord | None) -> None:
        if before is not None:
            self._counts.active.add(_STATES[before.state], -1)
        self._counts.active.add(_STATES[now.state])
        self._counts.entered.add(_STATES[now.state])

    def watch(self, job_id: str) -> asyncio.Event:
        """An event that is set at each change of the job; give it back with `unwatch`."""
        changed = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(changed)
        return changed

    def unwatch(self, job_id: str, changed: asyncio.Event) -> None:
        watchers = self._watchers.get(job_id)
        if watchers is not None:
            watchers.discard(changed)
            if not watchers:
                del self._watchers[job_id]

    def _tell(self, job_id: str) -> None:
        for changed in self._watchers.get(job_id, ()):
            changed.set()
