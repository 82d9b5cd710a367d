"""Which events may be sent now: pure rules, no I/O.

One queue for each job and each license holds its events in the log's order; only its head may be sent, and nothing else of it until
the head is settled. So the events of one reach Core in their order, and no batch holds two of one (Core compares all items of a call
with the state before the call: facts 2021 §2.1). Queues take turns in the order in which they became ready.

A job or license whose event made Core fail or that Core does not know is `alone`: its events travel by themselves, so they cost the
others nothing more.
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
    LICENSE_UPDATES = "license_updates"
    LICENSE_CHARGES = "license_charges"
    """By units."""
    USAGE = "usage"
    """By totals, of jobs and licenses; generation 2026."""
    REGISTRATIONS = "registrations"
    """Of licenses that were made here, one at a time."""


def key_of(event: events_pb2.Event) -> str:
    """Whose event it is: a job and a license of the same id are two."""
    return f"license {event.license_id}" if event.license_id else f"job {event.job_id}"


LaneOf = Callable[[events_pb2.Event], Lane | None]
"""None = an event of which nothing is for Core."""


@dataclass(slots=True)
class _Queue:
    events: deque[events_pb2.Event] = field(default_factory=deque[events_pb2.Event])
    alone: bool = False
    failures: int = 0


class Queues:
    """Events that Core has not answered for yet."""

    def __init__(self, lane_of: LaneOf) -> None:
        """`lane_of` says the same of an event whenever it is asked."""
        self._lane_of = lane_of
        self._queues: dict[str, _Queue] = {}
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
        key = key_of(event)
        queue = self._queues.setdefault(key, _Queue())
        queue.events.append(event)
        return self._make_ready(key, queue) if len(queue.events) == 1 else None

    def take(self, lane: Lane, limit: int) -> list[events_pb2.Event]:
        """Up to `limit` heads of different queues, now in flight; empty = nothing to send. Each must come back by settle or put_back."""
        ready = self._ready[lane]
        batch: list[events_pb2.Event] = []
        taken: list[str] = []
        for key in ready:
            queue = self._queues[key]
            if queue.alone and batch:
                continue
            batch.append(queue.events[0])
            taken.append(key)
            if queue.alone or len(batch) >= limit:
                break
        for key in taken:
            del ready[key]
        return batch

    def settle(self, event: events_pb2.Event, *, alone: bool = False) -> Lane | None:
        """Core has answered for this event in flight; the lane of the queue's next one, None when there is none.

        `alone`: what comes of this job or license travels by itself from now on.
        """
        key = key_of(event)
        queue = self._queues[key]
        queue.events.popleft()
        self._known.discard(event.sequence)
        queue.alone = alone
        queue.failures = 0
        if not queue.events:
            del self._queues[key]
            return None
        return self._make_ready(key, queue)

    def put_back(self, batch: Iterable[events_pb2.Event]) -> None:
        """Events in flight that Core has not answered for: ready again, before all others."""
        lanes = {key_of(event): self._lane_of(event) for event in batch}
        for lane in Lane:
            back: dict[str, None] = {key: None for key, of in lanes.items() if of is lane}
            if back:
                self._ready[lane] = back | self._ready[lane]

    def set_aside(self, event: events_pb2.Event) -> int:
        """An event in flight made Core fail by itself: its queue waits until `release`. How often this happened in a row, from 1."""
        queue = self._queues[key_of(event)]
        queue.alone = True
        queue.failures += 1
        return queue.failures

    def release(self, key: str) -> Lane | None:
        """Makes a queue that was set aside ready again."""
        return self._make_ready(key, self._queues[key])

    def _make_ready(self, key: str, queue: _Queue) -> Lane | None:
        lane = self._lane_of(queue.events[0])
        if lane is not None:
            self._ready[lane][key] = None
        return lane
