"""Time that a stepped wall clock does not move: limits and bills are made of it.

"ms since epoch" as the wall clock said when this boot's first server started, going on by the kernel's CLOCK_BOOTTIME, which nobody can
set. The difference of the two is kept in a file with the boot's id, so every process and every later server of the same boot has the same
time, also when the wall clock was set in between. After a reboot it is taken anew, and never earlier than the file's last word: the time
when a server of an earlier boot opened it last.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from serai_backends.common import files

NAME = "clock.json"


def boot_ms() -> int:
    """ms since boot, suspended time of the machine included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class SteadyClock:
    """See above. `offset_ms` is what is added to the time since boot."""

    def __init__(self, offset_ms: int, boot: Callable[[], int] = boot_ms) -> None:
        self.offset_ms = offset_ms
        self._boot = boot

    def now_ms(self) -> int:
        return self._boot() + self.offset_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def open_clock(
    state_dir: Path, *, boot: Callable[[], int] = boot_ms, wall: Callable[[], int] = wall_ms, boot_id: Callable[[], str] = files.boot_id
) -> SteadyClock:
    """The clock of the servers that use this folder. Blocking; the folder exists. Raises OSError."""
    here = os.open(state_dir, files.DIRECTORY)
    try:
        kept = _read(here)
        this_boot, at_boot_ms = boot_id(), boot()
        if kept is not None and kept["boot_id"] == this_boot:
            offset_ms = int(kept["offset_ms"])
        else:
            offset_ms = max(wall(), int(kept["at_ms"]) if kept is not None else 0) - at_boot_ms
        kept = {"boot_id": this_boot, "offset_ms": offset_ms, "at_ms": at_boot_ms + offset_ms}
        files.write_atomic(here, NAME, json.dumps(kept).encode())
        return SteadyClock(offset_ms, boot)
    finally:
        os.close(here)


def _read(folder_fd: int) -> dict[str, str | int] | None:
    data = files.read_file(folder_fd, NAME)
    if data is None:
        return None
    try:
        kept: dict[str, str | int] | list[object] = json.loads(data)
    except ValueError:
        return None
    return kept if isinstance(kept, dict) and {"boot_id", "offset_ms", "at_ms"} <= kept.keys() else None
