"""Time, injected: nothing in the server reads a clock or sleeps by itself, so tests own the time."""

from __future__ import annotations

import asyncio
import time

from serai_backends.common.time import Clock

__all__ = ["Clock", "SystemClock"]


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
