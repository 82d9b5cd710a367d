"""What a measurement says. Every module of `bench` has `run() -> list[Ratio]`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

Direction = Literal["at most", "at least", "printed"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure and its limit. `direction` says on which side of the limit it must be; "printed" = there is no limit to keep.

    `unit` is "x" for a plain ratio; `detail` tells what was divided by what, and anything a reader should know.
    """

    name: str
    value: float
    limit: float
    direction: Direction
    unit: str
    detail: str

    @property
    def holds(self) -> bool:
        """The value is on the right side of its limit."""
        match self.direction:
            case "at most":
                return self.value <= self.limit
            case "at least":
                return self.value >= self.limit
            case "printed":
                return True


Task = Callable[[], object]


def cpu_rounds(tasks: Mapping[str, tuple[Task, int]], rounds: int) -> dict[str, list[float]]:
    """CPU microseconds of one call of each task, for each round. A task comes with its number of calls in a round.

    All tasks take their turn in every round, so that what disturbs the machine disturbs them alike.
    """
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for task, _ in tasks.values():
        task()
    for _ in range(rounds):
        for name, (task, calls) in tasks.items():
            start = time.process_time_ns()
            for _ in range(calls):
                task()
            found[name].append((time.process_time_ns() - start) / calls / 1000)
    return found


def over(found: Mapping[str, list[float]], name: str, floor: str) -> float:
    """The median over the rounds of one task's time over another's in the same round."""
    return median(one / other for one, other in zip(found[name], found[floor], strict=True))
