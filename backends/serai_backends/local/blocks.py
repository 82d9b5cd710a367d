"""Blocks of addresses, one for each job that has not ended, so that any two of them can be connected.

They mean something inside the jobs' own networks only; the host has no route to them. A block that ended is not given again at once: a peer
may have a route to it for some ms longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable
from serai_backends.local.supervisor.namespaces import parse_block, show_block

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL = parse_block("10.128.0.0/9")
_LEAST_BITS = 8


class Blocks:
    def __init__(self) -> None:
        self._next = ALL[0]

    def choose(self, replicas: int, used: Iterable[str]) -> str:
        """For a job of so many replicas: its first and last address are nobody's. Raises BackendUnavailable when there is none."""
        bits = max(_LEAST_BITS, (replicas + 1).bit_length())
        size, (first, all_bits) = 1 << bits, ALL
        end = first + (1 << (32 - all_bits))
        taken = sorted(_bounds(block) for block in used)
        at = -(-self._next // size) * size
        for _ in range((end - first) // size):
            if at + size > end:
                at = first
            if all(at + size <= low or high <= at for low, high in taken):
                self._next = at + size
                return show_block(at, 32 - bits)
            at += size
        raise BackendUnavailable("every block of addresses for jobs is in use")


def _bounds(block: str) -> tuple[int, int]:
    first, bits = parse_block(block)
    return first, first + (1 << (32 - bits))
