"""What one transaction makes true, worked out in memory: each waiting write is applied to images of the rows, then all is written at once.

So a write that conflicts is refused before anything of it is written and cannot spoil its neighbours, a later write of the group sees the
earlier ones, and a hundred waiting creates become a handful of statements. Nothing here knows a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from serai_server.store.api import Decide, JobConflict, VersionConflict
from serai_server.store.license_model import LicenseNote
from serai_server.store.model import Committed, JobChange, JobRecord, NewEvent, NewJob, StopRequest, StoredJob, Target
from serai_server.store.rows import Value, as_job, changed_row, charge_row, first_row, is_active, job_row

Note = Callable[[Sequence[LicenseNote]], list[NewEvent]]
"""Writes what a step means to licenses into their history; returns what Core is told of it."""


@dataclass(slots=True)
class NewInterval:
    """An interval that began in this batch."""

    job_id: str
    version: int
    started_at_ms: int
    ended_at_ms: int


@dataclass(slots=True)
class Batch:
    """Images of the rows that the group's writes touch, and what is to be written of them."""

    jobs: dict[str, StoredJob]
    """Every stored job that a write of the group names, as stored; then as it becomes."""
    last_event: int
    """Highest sequence given out."""
    note: Note
    created: dict[str, tuple[Value, ...]] = field(default_factory=dict[str, "tuple[Value, ...]"])
    """Rows of new jobs, in order. Rows because most are never looked at again in their batch."""
    changed: dict[str, None] = field(default_factory=dict[str, None])
    """Ids of changed rows that were stored before, in order."""
    events: list[tuple[Value, ...]] = field(default_factory=list["tuple[Value, ...]"])
    ledger: list[tuple[Value, ...]] = field(default_factory=list["tuple[Value, ...]"])
    intervals: list[NewInterval] = field(default_factory=list[NewInterval])
    interval_ends: dict[str, int] = field(default_factory=dict[str, int])
    """Job id → end of the interval that was open before this batch."""
    claims: dict[str, list[tuple[Value, ...]]] = field(default_factory=dict[str, "list[tuple[Value, ...]]"])
    """New job → rows of its claims that are not written yet."""
    freed: dict[str, None] = field(default_factory=dict[str, None])
    """Jobs that are over and whose claims are not dropped yet."""
    over: dict[str, None] = field(default_factory=dict[str, None])
    """Jobs that became final in this batch: their sessions go."""
    lines: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])
    """Product → arrivals of who waits for its seats, as far as that was read and still holds."""
    running: dict[str, NewInterval | bool] = field(default_factory=dict[str, "NewInterval | bool"])
    """Job id → its open interval as the writes so far leave it; True = the stored one, False = none."""

    def create(self, jobs: Sequence[NewJob]) -> Committed:
        """Raises JobConflict before anything is applied."""
        new: dict[str, NewJob] = {}
        there: list[StoredJob] = []
        for index, job in enumerate(jobs):
            stored = self.job(job.id)
            if stored is not None:
                there.append(stored)
                digest = stored.digest
            else:
                digest = new.setdefault(job.id, job).digest
            if digest != job.digest:
                raise JobConflict(job.id, index)
        told = [job.record for job in there if is_active(job)]
        written = 0
        for job in new.values():
            self.created[job.id] = first_row(job)
            if not job.state.final:
                told.append(JobRecord(job.id, job.state.value, Target.RUN.value, 1, job.replicas, job.created_at_ms, 0, 0))
                self._claim(job)
            written = self.log(job.events) or written
        return Committed(tuple(told), (), written)

    def change(self, change: JobChange) -> tuple[StoredJob, Committed]:
        """Raises VersionConflict or ValueError before anything is applied."""
        before = self.job(change.job_id)
        if before is None or before.version != change.expected_version:
            raise VersionConflict(f"job {change.job_id} is not at version {change.expected_version}")
        after = changed_row(before, change)
        self._put(after)
        self._interval(before, change)
        self.ledger.extend(map(charge_row, change.charges))
        if after.state.final and not before.state.final:
            self.over[after.id] = None
            if after.claims and self.claims.pop(after.id, None) is None:
                self.freed[after.id] = None
        written = self.log(change.events)
        if change.license_notes:
            written = self.log(self.note(change.license_notes)) or written
        if is_active(after):
            return after, Committed((after.record,), (), written)
        return after, Committed((), (after.id,), written)

    def decide(self, job_ids: Sequence[str], decide: Decide) -> tuple[list[StoredJob | None], Committed]:
        """Raises what `decide` raises, and ValueError for a step that does not fit its row, before anything is applied."""
        rows: dict[str, StoredJob | None] = {}
        steps: list[JobChange | NewJob] = []
        for place, job_id in enumerate(job_ids):
            row = rows[job_id] if job_id in rows else self.job(job_id)
            step = decide(place, row)
            if isinstance(step, NewJob):
                if row is not None or step.id != job_id:
                    raise ValueError(f"job {job_id} is there already")
                row = as_job(first_row(step))
            elif step is not None:
                if row is None or (step.job_id, step.expected_version) != (job_id, row.version):
                    raise ValueError(f"the step is not one of job {job_id} as it is")
                row = changed_row(row, step)
            rows[job_id] = row
            if step is not None:
                steps.append(step)
        told = [self.create((s,)) if isinstance(s, NewJob) else self.change(s)[1] for s in steps]
        records = {r.id: r for t in told for r in t.records}
        gone = tuple(i for t in told for i in t.gone)
        last_event = max((t.last_event for t in told), default=0)
        return [rows[i] for i in job_ids], Committed(tuple(r for i, r in records.items() if i not in gone), gone, last_event)

    def stop(self, stops: Iterable[StopRequest]) -> tuple[frozenset[str], Committed]:
        """Ids that are known, and what to tell of those that changed."""
        known: set[str] = set()
        told: dict[str, JobRecord] = {}
        for stop in stops:
            job = self.job(stop.job_id)
            if job is None:
                continue
            known.add(job.id)
            if job.state.final or job.target.stop or not stop.target.stop:
                continue
            after = replace(job, target=stop.target, stop_requested_at_ms=stop.at_ms, version=job.version + 1)
            self._put(after)
            told[job.id] = after.record
        return frozenset(known), Committed(tuple(told.values()), (), 0)

    def job(self, job_id: str) -> StoredJob | None:
        """As the writes before this one leave it."""
        row = self.created.get(job_id)
        return self.jobs.get(job_id) if row is None else as_job(row)

    def _put(self, job: StoredJob) -> None:
        if job.id in self.created:
            self.created[job.id] = job_row(job)
        else:
            self.jobs[job.id] = job
            self.changed[job.id] = None

    def _claim(self, job: NewJob) -> None:
        """Before its events are logged: its place in the line is the sequence of its first event, in the order in which jobs came."""
        if job.claims:
            arrival = self.last_event + 1
            needed: dict[str, int] = {}
            for c in job.claims:
                needed[c.product] = needed.get(c.product, 0) + c.seats
            self.claims[job.id] = [(job.id, c.license_id, c.product, c.seats, needed[c.product], arrival, 0) for c in job.claims]

    def log(self, events: Iterable[NewEvent]) -> int:
        """Give out sequences; returns the last one, 0 = none."""
        written = 0
        for event in events:
            self.last_event = written = self.last_event + 1
            self.events.append((written, event.job_id, event.kind.value, event.body, event.at_ms, event.license_id))
        return written

    def _interval(self, before: StoredJob, change: JobChange) -> None:
        """The row says whether a stretch goes on; here it is only whether that one is stored already or begins in this batch."""
        started, ended = change.interval_started_at_ms, change.interval_ended_at_ms
        if started is None and ended is None:
            return
        now = self.running.get(change.job_id, bool(before.running_since_ms))
        if started is not None and now is False:
            now = NewInterval(change.job_id, before.version + 1, started, 0)
            self.intervals.append(now)
        if ended is not None:
            if isinstance(now, NewInterval):
                now.ended_at_ms = max(ended, now.started_at_ms)
            elif now:
                self.interval_ends[change.job_id] = ended
            now = False
        self.running[change.job_id] = now
