"""Misbehaviour on request: calls that fail, drag, lose their answer, or find nobody at home.

A fault holds for calls of the provider only; the admin interface below /devcore/ always works while Core listens at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random


class Effect(Enum):
    STATUS = "status"
    """Answer with a status and an error body, without doing the call."""
    LOSE_ANSWER = "lose_answer"
    """Do the call, then close the connection without an answer: the caller cannot know."""
    GARBAGE = "garbage"
    """Answer 200 with something that is no JSON, without doing the call."""
    DROP = "drop"
    """Close the connection without doing the call."""
    HANG = "hang"
    """Never answer, until `clear`."""
    SLOW = "slow"
    """Wait `delay_ms`, then do the call."""


@dataclass(slots=True)
class Fault:
    effect: Effect
    status: int = 500
    why: str = "Internal Server Error"
    path: str = ""
    """Only for paths that begin so; empty = all."""
    times: int | None = None
    """For so many calls; None = until cleared."""
    probability: float = 1.0
    delay_ms: int = 0


class Away(Enum):
    """How Core is not there."""

    REFUSE = "refuse"
    """Nobody listens: connections are refused, open ones were cut."""
    HANG = "hang"
    """Connections are taken and nothing is ever answered."""


class Faults:
    """The faults in force. The first one that fits a call takes it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._faults: list[Fault] = []
        self.injected = 0
        """How many calls a fault has taken."""

    def __len__(self) -> int:
        return len(self._faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def fail_next(self, times: int, status: int = 500, path: str = "") -> None:
        self.add(Fault(Effect.STATUS, status=status, times=times, path=path))

    def fail_often(self, probability: float, status: int = 500, path: str = "") -> None:
        self.add(Fault(Effect.STATUS, status=status, probability=probability, path=path))

    def clear(self) -> None:
        self._faults.clear()

    def take(self, path: str) -> Fault | None:
        """The fault for a call of this path, counted down; None = behave."""
        for fault in self._faults:
            if not path.startswith(fault.path) or fault.times == 0:
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            self.injected += 1
            return fault
        return None
