"""How many are before one in a line from which anybody may leave: O(log n), because a hundred thousand jobs may ask.

A Fenwick tree over the numbers that were drawn in order of arrival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEAST = 1024


class Places:
    def __init__(self, line: Iterable[str] = ()) -> None:
        self._build(line)

    def append(self, name: str) -> None:
        if self._drawn == len(self._tree) - 1:
            self._build(self._numbers)
        self._drawn += 1
        self._numbers[name] = self._drawn
        self._add(self._drawn, 1)

    def remove(self, name: str) -> None:
        self._add(self._numbers.pop(name), -1)

    def before(self, name: str) -> int:
        """How many that are still in the line came before it."""
        number, count = self._numbers[name] - 1, 0
        while number:
            count += self._tree[number]
            number &= number - 1
        return count

    def _build(self, line: Iterable[str]) -> None:
        """Numbered anew, with room to double."""
        names = list(line)
        self._numbers = {name: number for number, name in enumerate(names, 1)}
        self._drawn = len(names)
        self._tree = [0] * (max(_LEAST, 2 * len(names)) + 1)
        for number in range(1, len(self._tree)):
            self._tree[number] += number <= self._drawn
            above = number + (number & -number)
            if above < len(self._tree):
                self._tree[above] += self._tree[number]

    def _add(self, number: int, value: int) -> None:
        while number < len(self._tree):
            self._tree[number] += value
            number += number & -number
