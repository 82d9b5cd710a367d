"""The journal of one job: what happened, one JSON object a line, appended and synced before anybody is told.

Written by the supervisor, or by the server while it holds the job's lock (then no supervisor can be alive). A torn last line (power cut) is
not a line; who appends next cuts it off first. Times are of the
server's steady clock (`serai_backends.clock`), because the server bills by them.

    {"k":"start","rank":0,"at":1700000000000}
    {"k":"end","rank":0,"at":…,"end":"exited","code":3,"signal":null,"cause":"","why":""}
    {"k":"suspend","at":…}                                                           every process stands still
    {"k":"resume","at":…}                                                            written before they go on
    {"k":"done","at":…,"cause":"","why":""}                                          every process of the job is gone

`end` is a value of model.End, `why` one of model.Why.
"""

from __future__ import annotations

import json
import os
import time

from serai_backends.common import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypedDict

    class Line(TypedDict, total=False):
        k: str
        rank: int
        at: int
        end: str
        code: int | None
        signal: int | None
        cause: str
        why: str


NAME = "journal"


def now_ms(offset_ms: int) -> int:
    """The time of `serai_backends.clock`, whose offset the plan carries: that module would cost each supervisor asyncio."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + offset_ms


def start(at_ms: int, rank: int) -> Line:
    return {"k": "start", "rank": rank, "at": at_ms}


def end(at_ms: int, rank: int, how: str, *, code: int | None = None, signal: int | None = None, cause: str = "", why: str = "") -> Line:
    return {"k": "end", "rank": rank, "at": at_ms, "end": how, "code": code, "signal": signal, "cause": cause, "why": why}


def done(at_ms: int, cause: str = "", why: str = "") -> Line:
    return {"k": "done", "at": at_ms, "cause": cause, "why": why}


def suspend(at_ms: int) -> Line:
    return {"k": "suspend", "at": at_ms}


def resume(at_ms: int) -> Line:
    return {"k": "resume", "at": at_ms}


def parse(data: bytes) -> list[Line]:
    """The whole lines of a journal."""
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def open_journal(job_fd: int) -> int:
    """A descriptor to append to; the caller holds the job's lock. Cuts a torn line off."""
    fd = files.open_regular(job_fd, NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    whole = data.rfind(b"\n") + 1
    if whole != size:
        os.ftruncate(fd, whole)
    os.fsync(job_fd)
    return fd


def append(fd: int, lines: Iterable[Line]) -> None:
    """Durable on return. One write: a crash tears at most its end off."""
    files.write_all(fd, b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
    os.fdatasync(fd)


def has_end(lines: Iterable[Line]) -> bool:
    return any(line.get("k") == "done" for line in lines)
