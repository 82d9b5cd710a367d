"""The newest observation of each job, in the order of change, for any number of watchers.

Cursors go up by one from a start that lies in this instance's time (µs since epoch), so a cursor of another instance is known as such.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable, CursorExpired
from serai_backends.model import WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serai_backends.model import JobObservation


class Board:
    def __init__(self, now_ms: int | None = None) -> None:
        """`now_ms`: a time that no later instance sees again; None = the wall clock's."""
        self._first = self._cursor = time.time_ns() // 1000 if now_ms is None else now_ms * 1000
        self._events: dict[str, WatchEvent] = {}
        """By job, the last changed one last."""
        self._waiting: dict[str | None, set[asyncio.Event]] = {}
        """By job; None = those who wait for any."""
        self._closed = False

    def publish(self, observation: JobObservation) -> None:
        """Tell it, unless nothing changed."""
        old = self._events.get(observation.job_id)
        if old is not None and old.observation == observation:
            return
        self._cursor += 1
        self._events.pop(observation.job_id, None)
        self._events[observation.job_id] = WatchEvent(cursor=self._cursor, observation=observation)
        self._wake(observation.job_id)

    def touch(self, job_id: str) -> None:
        """Wake who waits for this job, without news."""
        self._wake(job_id)

    def remove(self, job_id: str) -> None:
        self._events.pop(job_id, None)
        self._wake(job_id)

    def close(self) -> None:
        self._closed = True
        self._wake(None)

    def subscribe(self, job_id: str | None = None) -> asyncio.Event:
        """An event that is set after each change (of that job; None = of any); give it back by `unsubscribe`."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        return event

    def unsubscribe(self, event: asyncio.Event, job_id: str | None = None) -> None:
        waiting = self._waiting.get(job_id, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(job_id, None)

    def check_open(self) -> None:
        """Raises BackendUnavailable."""
        if self._closed:
            raise BackendUnavailable("the backend is closed")

    @property
    def closed(self) -> bool:
        return self._closed

    def watch(self, after: int | None) -> AsyncIterator[WatchEvent]:
        """See Backend.watch. The iterator raises CursorExpired, and BackendUnavailable when the backend is closed."""
        return self._watch(self._cursor if after is None else after)

    async def _watch(self, seen: int) -> AsyncIterator[WatchEvent]:
        if not self._first <= seen <= self._cursor:
            raise CursorExpired("the cursor is of another instance of the backend")
        event = self.subscribe()
        try:
            while True:
                event.clear()
                for news in self._since(seen):
                    seen = news.cursor
                    yield news
                self.check_open()
                await event.wait()
        finally:
            self.unsubscribe(event)

    def _since(self, cursor: int) -> list[WatchEvent]:
        news: list[WatchEvent] = []
        for event in reversed(self._events.values()):
            if event.cursor <= cursor:
                break
            news.append(event)
        news.reverse()
        return news

    def _wake(self, job_id: str | None) -> None:
        """None = everybody."""
        for key in self._waiting if job_id is None else (None, job_id):
            for event in self._waiting.get(key, ()):
                event.set()
