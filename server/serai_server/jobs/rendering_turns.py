"""Whose templates are rendered now, and which are not tried again: one owner's slow templates must not cost the others their turn."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from serai_backends.errors import BackendUnavailable

from serai_server.clock import Clock

_MOST_INSIDE = 6
"""Of all owners; more than are rendered at once, so that there is always a next one."""
_REMEMBERED_MS = 10 * 60_000
_MOST_REMEMBERED = 1_000


class Turns:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inside: set[str] = set()
        """Owners of whom something is rendered or waits for its process."""
        self._slow: dict[bytes, int] = {}
        """Until when what used up its time is remembered; the oldest comes first."""

    @contextlib.contextmanager
    def of(self, owner: str) -> Generator[None]:
        """A turn of this owner. Raises BackendUnavailable, since whoever calls has other things to do than to wait for slow templates."""
        if owner in self._inside:
            raise BackendUnavailable("another template of the same project or user is being rendered; this one's turn comes")
        if len(self._inside) >= _MOST_INSIDE:
            raise BackendUnavailable("other jobs' templates are being rendered; this one's turn comes")
        self._inside.add(owner)
        try:
            yield
        finally:
            self._inside.discard(owner)

    def was_slow(self, work: bytes) -> bool:
        """Whether this used up its computing time a short while ago."""
        return self._slow.get(work, 0) > self._clock.now_ms()

    def remember_slow(self, work: bytes) -> None:
        self._slow.pop(work, None)
        self._slow[work] = self._clock.now_ms() + _REMEMBERED_MS
        if len(self._slow) > _MOST_REMEMBERED:
            del self._slow[next(iter(self._slow))]
