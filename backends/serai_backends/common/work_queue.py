"""A work queue of keys: one worker per key at a time, duplicates merged, back-off per key, later times kept.

A key that is added while it is being worked on is worked on again afterwards, so no wake-up is lost. Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

from serai_backends.common.time import Clock, sleep_or

_FIRST_BACKOFF_MS = 200
_LONGEST_BACKOFF_MS = 30_000
_SOON_MS = 1_000


class WorkQueue:
    def __init__(self, clock: Clock, jitter: Callable[[], float]) -> None:
        """`jitter` gives numbers of [0, 1); a back-off is between half and the whole of its step."""
        self._clock = clock
        self._jitter = jitter
        self._ready: deque[str] = deque()
        self._looks: deque[str] = deque()
        """Keys that come when nothing else is ready; one that was promoted meanwhile stands here for nothing."""
        self._waiting: dict[str, bool] = {}
        """Keys in `_ready` (True) or only in `_looks` (False)."""
        self._since_ms: dict[str, int] = {}
        """Since when the keys of `_ready` wait."""
        self._working: set[str] = set()
        self._again: set[str] = set()
        """Keys added while they were worked on."""
        self._failures: dict[str, int] = {}
        self._later: list[tuple[int, str, bool]] = []
        """(time, key, is a retry); an entry counts only while `_due` says the same."""
        self._due: dict[tuple[str, bool], int] = {}
        """A key's own time and its retry's are kept apart: neither may cost the other."""
        self._changed = asyncio.Event()
        self._later_changed = asyncio.Event()

    def add(self, key: str) -> None:
        """Have the key worked on as soon as a worker is free."""
        if key in self._working:
            self._again.add(key)
        elif not self._waiting.get(key):
            self._waiting[key] = True
            self._since_ms[key] = self._clock.now_ms()
            self._ready.append(key)
            self._changed.set()

    def look(self, key: str) -> None:
        """Have the key worked on when nothing else is to do: thousands of second looks must not hold up one stop."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = False
            self._looks.append(key)
            self._changed.set()

    def add_at(self, key: str, at_ms: int) -> None:
        """Have the key worked on at that time. A key has one such time: the newest replaces the one before."""
        self._set(key, at_ms, retry=False)

    def add_soon(self, key: str) -> None:
        """Have the key worked on again a second from now, whatever other times it has."""
        self._set(key, self._clock.now_ms() + _SOON_MS, retry=True)

    def retry(self, key: str) -> None:
        """The work failed: have it done again after a back-off that doubles with each failure in a row."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        step = min(_FIRST_BACKOFF_MS << min(failures - 1, 20), _LONGEST_BACKOFF_MS)
        self._set(key, self._clock.now_ms() + int(step * (1 + self._jitter()) / 2), retry=True)

    def _set(self, key: str, at_ms: int, *, retry: bool) -> None:
        if self._due.get((key, retry)) == at_ms:
            return
        self._due[key, retry] = at_ms
        heapq.heappush(self._later, (at_ms, key, retry))
        self._later_changed.set()

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)

    async def take(self) -> str:
        """The next key; the caller must call `done` with it."""
        while (key := self._next()) is None:
            self._changed.clear()
            await self._changed.wait()
        del self._waiting[key]
        self._since_ms.pop(key, None)
        self._working.add(key)
        return key

    def _next(self) -> str | None:
        if self._ready:
            return self._ready.popleft()
        while self._looks:
            key = self._looks.popleft()
            if self._waiting.get(key) is False:
                return key
        return None

    def done(self, key: str) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def __len__(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Keys that are worked on."""
        return len(self._working)

    @property
    def later(self) -> int:
        """Times to come that keys wait for."""
        return len(self._due)

    @property
    def oldest_ms(self) -> int:
        """For how long the key waits that comes next; 0 = none does. Second looks, which come when nothing else is to do, do not count."""
        return max(self._clock.now_ms() - self._since_ms[self._ready[0]], 0) if self._ready else 0

    @property
    def idle(self) -> bool:
        """Nothing is waiting or worked on; later times do not count."""
        return not self._waiting and not self._working

    async def run_timer(self) -> None:
        """Moves keys from later to now; for ever. Sleeps at most a second at a time, so a clock that steps is noticed."""
        while True:
            self._later_changed.clear()
            self.release()
            wait = min((self._later[0][0] - self._clock.now_ms()) / 1000, 1.0) if self._later else None
            if wait is None:
                await self._later_changed.wait()
            else:
                await sleep_or(self._clock, max(wait, 0), self._later_changed)

    def release(self) -> None:
        """Add every key whose time has come."""
        now = self._clock.now_ms()
        while self._later and self._later[0][0] <= now:
            at_ms, key, retry = heapq.heappop(self._later)
            if self._due.get((key, retry)) == at_ms:
                del self._due[key, retry]
                self.add(key)
