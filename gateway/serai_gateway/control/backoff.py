"""Pauses after failures: doubled each time up to a cap, with jitter so that many providers do not come back in one wave."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Counts failures in a row and says how long to pause."""

    def __init__(self, *, base_ms: int, cap_ms: int, random: Callable[[], float]) -> None:
        """`random` gives [0, 1)."""
        self._base_ms = base_ms
        self._cap_ms = cap_ms
        self._random = random
        self.failures = 0

    def failed(self) -> int:
        """One more failure; the pause in ms, between half and all of the doubled base."""
        # 2 ** 24 of any base is beyond any cap; the shift stays small however long Core is away.
        span_ms = min(self._cap_ms, self._base_ms << min(self.failures, 24))
        self.failures += 1
        return max(1, int(span_ms * (0.5 + self._random() / 2)))

    def succeeded(self) -> None:
        self.failures = 0
