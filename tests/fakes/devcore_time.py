"""A clock for tests of the stand-in: stands still unless told, and sleeping moves it."""

from __future__ import annotations

import asyncio


class StillClock:
    def __init__(self, now_ms: int = 1_633_329_776_235) -> None:
        self.now = now_ms
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1000)
        await asyncio.sleep(0)
