"""The clock that everything is handed, so that tests can hand out another."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """ms since epoch."""
        ...

    async def sleep(self, seconds: float) -> None: ...
