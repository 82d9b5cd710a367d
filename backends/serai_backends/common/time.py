"""The clock that everything is handed, so that tests can hand out another."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """ms since epoch."""
        ...

    async def sleep(self, seconds: float) -> None: ...


async def sleep_or(clock: Clock, seconds: float, event: asyncio.Event) -> bool:
    """Until the time is over or the event is set; whether the time is over."""
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    happened = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((sleeper, happened), return_when=asyncio.FIRST_COMPLETED)
        return sleeper.done()
    finally:
        sleeper.cancel()
        happened.cancel()
