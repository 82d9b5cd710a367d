"""The active jobs in memory, and who waits for a change of one. Fed by the store's listener alone, so it says only what is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from serai_server.store.model import Committed, JobRecord


class Registry:
    def __init__(self) -> None:
        self._records: dict[str, JobRecord] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._wakers: list[Callable[[JobRecord, JobRecord | None], None]] = []

    def __len__(self) -> int:
        return len(self._records)

    def load(self, records: Iterable[JobRecord]) -> None:
        """The active jobs of the store, at start; they call for no work by themselves."""
        self._records.update((r.id, r) for r in records)

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
                self._tell(record.id)
                for waker in self._wakers:
                    waker(record, before)
            for job_id in change.gone:
                self._records.pop(job_id, None)
                self._tell(job_id)

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
