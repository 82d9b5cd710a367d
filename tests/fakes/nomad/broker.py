"""The event stream: a buffer of indexes, subscribers, and the silent gaps that the real one has.

An event is encoded once, when it is published: thousands a second go to each stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    topic: str
    type: str
    key: str
    namespace: str
    filters: tuple[str, ...]
    encoded: bytes
    """The whole event as JSON."""


@dataclass(frozen=True)
class Line:
    index: int
    events: tuple[Event, ...]

    def encoded(self, wanted: Callable[[Event], bool]) -> bytes | None:
        parts = [e.encoded for e in self.events if wanted(e)]
        return b'{"Index":%d,"Events":[%s]}\n' % (self.index, b",".join(parts)) if parts else None


@dataclass(frozen=True)
class Wish:
    """What one subscriber asked for."""

    topics: dict[str, frozenset[str]]
    """Topic → keys, `*` for each."""
    namespace: str

    def __call__(self, event: Event) -> bool:
        keys = self.topics.get(event.topic)
        if keys is None:
            keys = self.topics.get("*")
        if keys is None:
            return False
        if event.namespace and self.namespace not in {"*", event.namespace}:
            return False
        return "*" in keys or event.key in keys or any(f in keys for f in event.filters)


class Subscriber:
    """One stream's waiting lines; `None` = the stream is cut here."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.waiting: deque[bytes | None] = deque()
        self.woken = asyncio.Event()

    def push(self, line: bytes | None) -> None:
        self.waiting.append(line)
        self.woken.set()


class Broker:
    def __init__(self, size: int) -> None:
        self.size = size
        """event_buffer_size: one line more than that is kept, as seen."""
        self._lines: deque[Line] = deque()
        self._subscribers: set[Subscriber] = set()
        self.losing = 0
        self.split_next = 0
        """So many lines to come are told as one line for each event, all with the same index."""

    def publish(self, index: int, events: Sequence[Event]) -> None:
        if not events:
            return
        if self.losing:
            self.losing -= 1
            return
        groups = [tuple(events)]
        if self.split_next and len(events) > 1:
            self.split_next -= 1
            groups = [(e,) for e in events]
        for group in groups:
            self._tell(Line(index, group))

    def _tell(self, line: Line) -> None:
        self._lines.append(line)
        while len(self._lines) > self.size + 1:
            self._lines.popleft()
        for subscriber in self._subscribers:
            encoded = line.encoded(subscriber.wish)
            if encoded is not None:
                subscriber.push(encoded)

    def subscribe(self, wish: Wish, index: int) -> Subscriber:
        """From `index` on, itself included; one that is not kept starts at the oldest, silently; one of the future at the newest."""
        made = Subscriber(wish)
        lines = list(self._lines)
        if lines and index > lines[-1].index:
            index = lines[-1].index
        for line in lines:
            encoded = line.encoded(wish) if line.index >= index else None
            if encoded is not None:
                made.push(encoded)
        self._subscribers.add(made)
        return made

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)

    def lose(self, count: int) -> None:
        """The next changes are told to nobody, ever: neither now nor out of the buffer."""
        self.losing = count

    def cut(self) -> int:
        """Each open stream ends here; how many there were."""
        for subscriber in self._subscribers:
            subscriber.push(None)
        return len(self._subscribers)

    def restarted(self, keep: int) -> None:
        """After a start of the agent the buffer has some old entries again, with their old indexes, and nothing else."""
        while len(self._lines) > keep:
            self._lines.popleft()

    def oldest(self) -> int:
        return self._lines[0].index if self._lines else 0
