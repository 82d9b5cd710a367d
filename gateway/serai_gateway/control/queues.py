"""Which events may be sent now: pure rules, no I/O.

One queue for each job holds its updates and charges in the log's order; only its head may be sent, and nothing else of the job until
the head is settled. So a job's events reach Core in their order, and no batch holds two of one job (Core compares all items of a call
with the state before the call: facts 2021 §2.1). Jobs take turns in the order in which they became ready.

A job whose event made Core fail or that Core does not know is `alone`: its events travel by themselves, so they cost the others
nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from serai.events.v1 import events_service_pb2 as events_pb2


class Lane(Enum):
    """The call of Core that carries an event."""

    UPDATES = "updates"
    CHARGES = "charges"
    """By periods."""
    USAGE = "usage"
    """By totals, generation 2026."""


LaneOf = Callable[[events_pb2.Event], Lane | None]
"""None = an event of which nothing is for Core."""


@dataclass(slots=True)
class _Job:
    events: deque[events_pb2.Event] = field(default_factory=deque[events_pb2.Event])
    alone: bool = False
    failures: int = 0


class Queues:
    """Events that Core has not answered for yet."""

    def __init__(self, lane_of: LaneOf) -> None:
        """`lane_of` says the same of an event whenever it is asked."""
        self._lane_of = lane_of
        self._jobs: dict[str, _Job] = {}
        self._ready: dict[Lane, dict[str, None]] = {lane: {} for lane in Lane}
        self._known: set[int] = set()

    def __len__(self) -> int:
        """Events held, those in flight included."""
        return len(self._known)

    def push(self, event: events_pb2.Event) -> Lane | None:
        """Adds an event; the lane that has something new to send, None when nothing changed (seen before, or not its turn).

        ValueError for an event that no lane carries.
        """
        if self._lane_of(event) is None:
            raise ValueError("no lane carries this event")
        if event.sequence in self._known:
            return None
        self._known.add(event.sequence)
        job = self._jobs.setdefault(event.job_id, _Job())
        job.events.append(event)
        return self._make_ready(event.job_id, job) if len(job.events) == 1 else None

    def take(self, lane: Lane, limit: int) -> list[events_pb2.Event]:
        """Up to `limit` heads of different jobs, now in flight; empty = nothing to send. Each must come back by settle or put_back."""
        ready = self._ready[lane]
        batch: list[events_pb2.Event] = []
        taken: list[str] = []
        for job_id in ready:
            job = self._jobs[job_id]
            if job.alone and batch:
                continue
            batch.append(job.events[0])
            taken.append(job_id)
            if job.alone or len(batch) >= limit:
                break
        for job_id in taken:
            del ready[job_id]
        return batch

    def settle(self, event: events_pb2.Event, *, alone: bool = False) -> Lane | None:
        """Core has answered for this event in flight; the lane of the job's next one, None when there is none.

        `alone`: what comes of this job travels by itself from now on.
        """
        job = self._jobs[event.job_id]
        job.events.popleft()
        self._known.discard(event.sequence)
        job.alone = alone
        job.failures = 0
        if not job.events:
            del self._jobs[event.job_id]
            return None
        return self._make_ready(event.job_id, job)

    def put_back(self, batch: Iterable[events_pb2.Event]) -> None:
        """Events in flight that Core has not answered for: ready again, before all others."""
        jobs = {event.job_id: self._lane_of(event) for event in batch}
        for lane in Lane:
            back: dict[str, None] = {job_id: None for job_id, of in jobs.items() if of is lane}
            if back:
                self._ready[lane] = back | self._ready[lane]

    def set_aside(self, event: events_pb2.Event) -> int:
        """An event in flight made Core fail by itself: its job waits until `release`. How often this happened in a row, from 1."""
        job = self._jobs[event.job_id]
        job.alone = True
        job.failures += 1
        return job.failures

    def release(self, job_id: str) -> Lane | None:
        """Makes a job that was set aside ready again."""
        return self._make_ready(job_id, self._jobs[job_id])

    def _make_ready(self, job_id: str, job: _Job) -> Lane | None:
        lane = self._lane_of(job.events[0])
        if lane is not None:
            self._ready[lane][job_id] = None
        return lane
