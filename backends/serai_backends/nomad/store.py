"""The views of all jobs, and the only way to change a row: stored first, then seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Unpack

import msgspec

from serai_backends.nomad import names
from serai_backends.nomad.records import Record, Stage
from serai_backends.nomad.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypedDict

    from serai_backends.model import JobObservation, Why
    from serai_backends.nomad.records import Records, StopReason

    class Changes(TypedDict, total=False):
        """Fields of a Record that change."""

        stage: Stage
        attempt: int
        released_at_ms: int
        uid: int | None
        gid: int | None
        prepared: bool
        registered_index: int
        namespace: str
        stop: StopReason | None
        failure: tuple[Why, str] | None
        doors: bool
        observation: JobObservation | None


_HOLD_USERS = {Stage.RELEASED, Stage.OPENED, Stage.STOPPING, Stage.TAKEN_BACK}
_REMOVED = 10_000
"""More than are forgotten while one list is on its way."""


class Views:
    def __init__(self, records: Records, rows: Sequence[Record], *, shared: bool) -> None:
        """`shared`: the jobs' folders can be looked into."""
        self._records, self._shared = records, shared
        self._views: dict[str, View] = {}
        self._by_nomad_id: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._removed: dict[str, None] = {}
        """Jobs as Nomad called them that were forgotten here, the newest of them: a list that was asked for before may still have them."""
        self._canceled: set[str] = set()
        """Cancelled before they were submitted."""
        self._users: Counter[int] = Counter()
        """Of the nodes: jobs that may have something running as them."""
        self._sequence = max((row.sequence for row in rows), default=0)
        for row in rows:
            if row.stage is Stage.CANCELED_BEFORE:
                self._canceled.add(row.job_id)
            else:
                self._put(View(row, shared=shared))

    def get(self, job_id: str) -> View | None:
        return self._views.get(job_id)

    def by_nomad_id(self, nomad_id: str) -> View | None:
        job_id = self._by_nomad_id.get(nomad_id)
        return self._views.get(job_id) if job_id is not None else None

    def __iter__(self) -> Iterator[View]:
        return iter(list(self._views.values()))

    @property
    def users(self) -> set[int]:
        """Of the nodes, that jobs have which may run."""
        return set(self._users)

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def was_canceled(self, job_id: str) -> bool:
        return job_id in self._canceled

    def was_removed(self, nomad_id: str) -> bool:
        return nomad_id in self._removed

    def lock(self, job_id: str) -> asyncio.Lock:
        """Held by whoever decides something about a row and stores it."""
        return self._locks.setdefault(job_id, asyncio.Lock())

    async def add(self, record: Record) -> View | None:
        """A new row; None for a mere mark that the job was cancelled before it came. The caller holds the lock."""
        await self._records.save(record)
        if record.stage is Stage.CANCELED_BEFORE:
            self._canceled.add(record.job_id)
            return None
        self._canceled.discard(record.job_id)
        view = View(record, shared=self._shared)
        self._put(view)
        return view

    async def change(self, view: View, *, only: Stage | None = None, **fields: Unpack[Changes]) -> bool:
        """Store the change, then show it. False, and nothing is changed, when the row is not at stage `only` any more."""
        async with self.lock(view.record.job_id):
            if view.record.job_id not in self._views or (only is not None and view.record.stage is not only):
                return False
            await self.change_locked(view, **fields)
            return True

    async def change_locked(self, view: View, **fields: Unpack[Changes]) -> None:
        """As `change`, for a caller that holds the lock."""
        record = msgspec.structs.replace(view.record, **fields)
        await self._records.save(record)
        self._by_nomad_id.pop(view.nomad_id, None)
        self._count(view.record, -1)
        self._count(record, 1)
        if record.attempt != view.record.attempt:
            view.next_attempt(record)
        view.record = record
        self._by_nomad_id[view.nomad_id] = record.job_id

    async def remove(self, job_id: str) -> None:
        async with self.lock(job_id):
            await self._records.delete(job_id)
            view = self._views.pop(job_id, None)
            if view is not None:
                self._count(view.record, -1)
                self._by_nomad_id.pop(view.nomad_id, None)
                self._removed[view.nomad_id] = None
                if len(self._removed) > _REMOVED:
                    del self._removed[next(iter(self._removed))]
            self._canceled.discard(job_id)
        self._locks.pop(job_id, None)

    def _count(self, record: Record, change: int) -> None:
        if record.uid is None or record.stage not in _HOLD_USERS:
            return
        self._users[record.uid] += change
        if not self._users[record.uid]:
            del self._users[record.uid]

    def _put(self, view: View) -> None:
        if (before := self._views.get(view.record.job_id)) is not None:
            self._count(before.record, -1)
        self._count(view.record, 1)
        self._views[view.record.job_id] = view
        self._by_nomad_id[names.nomad_id(view.record.job_id, view.record.attempt)] = view.record.job_id
