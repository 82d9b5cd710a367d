"""A clock that stands still until a test moves it. `sleep` returns when the time has been moved past its end."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from types import CoroutineType
from typing import Any


class FakeClock:
    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self._now_ms

    def sleep(self, seconds: float) -> CoroutineType[Any, Any, None]:
        """Its end is fixed when it is called and not when it is first awaited: a test may move the clock in between."""
        if seconds <= 0:
            return asyncio.sleep(0)
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self._now_ms + int(seconds * 1000), next(self._order), woken))
        return _until(woken)

    def move(self, ms: int) -> None:
        """Time passes; who sleeps until then is woken, in order."""
        self._now_ms += ms
        while self._sleepers and self._sleepers[0][0] <= self._now_ms:
            heapq.heappop(self._sleepers)[2].set()

    def step_back(self, ms: int) -> None:
        """The clock is set back, as an administrator or NTP may do; nobody wakes."""
        self._now_ms -= ms


async def _until(woken: asyncio.Event) -> None:
    await woken.wait()
