"""Whether a process grows with what it is sent.

Its resident memory is read again and again. The first quarter of a run is its warm-up: caches fill to their bounds, each path is compiled
and walked for the first time, the allocator takes what the largest inputs need. Growth is what the last quarter needs at its least above
what the warm-up needed at its most, so that one large input on either side tells nothing. What may be left over:

- `NOISE_BYTES`, for arenas that are cut up differently each time,
- `PER_INPUT_BYTES` for each input after the warm-up. The smallest thing that Python can keep of an input, an object in a list, takes more:
  so in a long run a leak of one object for each input is found. In a short one it must be some hundred bytes.
"""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.tally import Tally

NOISE_BYTES = 12 * 1024 * 1024
PER_INPUT_BYTES = 24
_LIBC = ctypes.CDLL(None)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


@dataclass(slots=True)
class Watch:
    """Of one process through one run. Look often: at least some hundred times."""

    pid: int
    looks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Inputs so far, and bytes."""

    def look(self, inputs: int) -> None:
        self.looks.append((inputs, resident_bytes(self.pid)))

    def look_closely(self, inputs: int) -> None:
        """At this process itself: what is free is given back first. The inputs are made here too, and leave large holes."""
        gc.collect()
        _LIBC.malloc_trim(0)
        self.look(inputs)

    def growth_bytes(self) -> int:
        """Negative when it shrank; 0 for a run too short to tell."""
        begin, inputs = self._begin(), self._inputs()
        first = [size for at, size in self.looks if at <= begin + inputs / 4]
        last = [size for at, size in self.looks if at >= begin + inputs * 3 / 4]
        return min(last) - max(first) if first and last and inputs else 0

    def limit_bytes(self) -> int:
        return NOISE_BYTES + PER_INPUT_BYTES * self._inputs() * 3 // 4

    def tell(self, tally: Tally) -> None:
        """Of several processes the one that grew most counts."""
        if not tally.limit_bytes or self.growth_bytes() > tally.growth_bytes:
            tally.growth_bytes, tally.limit_bytes = self.growth_bytes(), self.limit_bytes()

    def _begin(self) -> int:
        return self.looks[0][0] if self.looks else 0

    def _inputs(self) -> int:
        return self.looks[-1][0] - self._begin() if self.looks else 0
