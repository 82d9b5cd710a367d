"""The event log of the model: every change has one index, only the newest are kept, and a reader is told nothing of what it missed."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from serai_backends.nomad.client import Event, EventBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

_REMEMBERED = 60
"""Entries of which some come again after a restart of the server."""


class History:
    def __init__(self, rng: Random, kept: int) -> None:
        self.index = 10
        self.told = 0
        """Events in all; repeated ones are not counted."""
        self._rng, self._kept = rng, kept
        self._next = 0
        self._buffer: deque[tuple[int, EventBatch]] = deque()
        self._past: deque[EventBatch] = deque(maxlen=_REMEMBERED)
        self.generation = 0
        """Each restart of the server ends all streams."""

    def add(self, *events: Event) -> None:
        """Events of the present index; two of them come as two lines as often as not."""
        self.told += len(events)
        if len(events) > 1 and self._rng.random() < 0.5:
            for event in events:
                self._append(EventBatch(self.index, (event,)))
        else:
            self._append(EventBatch(self.index, events))

    def _append(self, batch: EventBatch) -> None:
        self._past.append(batch)
        self._put(batch)
        while len(self._buffer) > self._kept:
            self._buffer.popleft()

    def _put(self, batch: EventBatch) -> None:
        self._buffer.append((self._next, batch))
        self._next += 1

    def restart(self) -> None:
        """The server forgets its buffer and fills it with some old entries, under their old indexes."""
        self.generation += 1
        self._buffer.clear()
        again = list(self._past)[-self._rng.randint(0, self._kept) :] if self._past and self._rng.random() < 0.9 else []
        for batch in again:
            self._put(batch)

    def start(self, index: int) -> int:
        """Where a reader begins that asks for `index`: there, inclusive; else at the oldest that is kept, or at the newest of all."""
        for sequence, batch in self._buffer:
            if batch.index >= index:
                return sequence
        return self._buffer[-1][0] if self._buffer else self._next

    def read(self, sequence: int) -> Sequence[tuple[int, EventBatch]] | None:
        """What is there from a place on; None = the reader was too slow, and is put out."""
        if self._buffer and self._buffer[0][0] > sequence:
            return None
        return [entry for entry in self._buffer if entry[0] >= sequence]
