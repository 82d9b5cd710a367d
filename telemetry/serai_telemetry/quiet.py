"""How much is logged of strangers: whoever knocks without a key could otherwise fill the log."""

from __future__ import annotations

import time
from collections.abc import Callable

LINES = 20
"""Lines in one window."""
WINDOW_S = 60.0


class Quiet:
    def __init__(self, lines: int = LINES, window_s: float = WINDOW_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = lines
        self._window_s = window_s
        self._monotonic = monotonic
        self._ends = 0.0
        self._lines = 0
        self._left_out = 0

    def line(self) -> int | None:
        """Whether a line may be written: None = not now, it is counted; else how many were left out since the last one that was."""
        now = self._monotonic()
        if now >= self._ends:
            self._ends, self._lines = now + self._window_s, 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
