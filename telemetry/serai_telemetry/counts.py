"""Counting in plain integers, for parts that must not know who reads it: a count costs a dict look-up, and a scrape does all the rest.

Labels are fixed words (a method, a route's template, a code), so the sets stay small; whoever counts sees to that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

Labels = tuple[str | int, ...]
"""Values of a metric's labels, in its order."""

_MS = 1_000_000
CALL_BOUNDS: tuple[int, ...] = tuple(
    int(ms * _MS) for ms in (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
)
"""ns; upper bounds of calls' times. Core gives up after 5 s, a unary call after 60 s."""
LAG_BOUNDS: tuple[int, ...] = tuple(s * 1_000 * _MS for s in (1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400))
"""ns; upper bounds of how long news are under way, which is days when Core is away."""


class Tally:
    """How often something happened, by labels."""

    __slots__ = ("counts",)

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        """`known`: labels that are there at 0 from the beginning. Give all where they are known: a rate needs two samples, or the first
        failure would not be seen."""
        self.counts: dict[Labels, int] = dict.fromkeys(known, 0)

    def add(self, labels: Labels, by: int = 1) -> None:
        self.counts[labels] = self.counts.get(labels, 0) + by


class Spread:
    """A histogram of integers of one unit: times in ns, sizes."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[int] = CALL_BOUNDS) -> None:
        """`bounds`: upper bounds, growing; a value that is equal to one belongs below it."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound; the last one is for what is above all of them."""
        self.total = 0
        """Sum of the values."""

    def add(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def join(self, other: Spread) -> None:
        """Add what another one with the same bounds has."""
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Outcomes:
    """Calls by outcome, with their times: one look-up tells both how often and how long."""

    __slots__ = ("by_labels",)

    def __init__(self) -> None:
        self.by_labels: dict[Labels, Spread] = {}
        """In ns."""

    def add(self, labels: Labels, took_ns: int) -> None:
        spread = self.by_labels.get(labels)
        if spread is None:
            spread = self.by_labels[labels] = Spread()
        spread.counts[bisect_left(spread.bounds, took_ns)] += 1
        spread.total += took_ns

    def counts(self) -> dict[Labels, int]:
        return {labels: sum(spread.counts) for labels, spread in list(self.by_labels.items())}

    def times(self, labels_kept: int) -> dict[Labels, Spread]:
        """Of calls of all outcomes together, by the first labels."""
        found: dict[Labels, Spread] = {}
        for labels, spread in list(self.by_labels.items()):
            found.setdefault(labels[:labels_kept], Spread()).join(spread)
        return found


class Spreads:
    """A histogram for each set of labels."""

    __slots__ = ("_bounds", "by_labels")

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bounds = bounds
        self.by_labels: dict[Labels, Spread] = {}

    def add(self, labels: Labels, value: int) -> None:
        spread = self.by_labels.get(labels)
        if spread is None:
            spread = self.by_labels[labels] = Spread(self._bounds)
        spread.add(value)
