"""Read a replica's output while it is written.

The log IS the file in the job's folder (`stdout.txt`, `stdout-1.txt`, …): one copy, exact bytes, what the user sees is what Core gets. The
supervisor opens it before the first replica runs and appends. The job owns the folder and may do to its own files what it likes: a removed,
shortened or replaced log is its own loss. It cannot reach further: the server walks to the file component by component without following
links, takes regular files of the job's user only that have one name, and never waits on a FIFO.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from serai_backends.common import files
from serai_backends.errors import JobNotThere
from serai_backends.model import LogChunk, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from serai_backends.common.board import Board
    from serai_backends.common.threads import Threads
    from serai_backends.common.users import Drives

CHUNK_BYTES = 64 * 1024
BATCH_BYTES = 1024 * 1024
"""Read in one go on a thread."""
LOOK_AGAIN_S = 1.0
"""For file systems that tell of no changes (network folders); elsewhere inotify is first."""
_IN_MODIFY, _IN_IGNORED, _IN_NONBLOCK_CLOEXEC = 0x2, 0x8000, os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LogSource:
    job_id: str
    folder: str
    """The job's output folder, as in ReplicaSpec."""
    known: bool
    """The backend knows the job: a log that is not there may still come."""


class FileWatch:
    """One inotify descriptor for all followers (the kernel allows few of them)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = asyncio.get_running_loop()
        self._events: dict[int, list[asyncio.Event]] = {}
        self._fd = int(self._libc.inotify_init1(_IN_NONBLOCK_CLOEXEC))
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def add(self, file_fd: int, event: asyncio.Event) -> int | None:
        """Have `event` set when the file changes. The watch's number; None = the kernel has none left."""
        if self._fd < 0:
            return None
        number = int(self._libc.inotify_add_watch(self._fd, f"/proc/self/fd/{file_fd}".encode(), _IN_MODIFY))
        if number < 0:
            return None
        self._events.setdefault(number, []).append(event)
        return number

    def remove(self, number: int, event: asyncio.Event) -> None:
        events = self._events.get(number, [])
        with suppress(ValueError):
            events.remove(event)
        if not events and self._events.pop(number, None) is not None:
            self._libc.inotify_rm_watch(self._fd, number)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._fd, 65536)
            at = 0
            while at < len(data):
                number, mask, _, length = struct.unpack_from("iIII", data, at)
                at += 16 + length
                if mask & _IN_IGNORED:
                    continue
                for event in self._events.get(number, ()):
                    event.set()


class LogFiles:
    """The logs of all jobs of one backend, read by any number of callers."""

    def __init__(self, drives: Drives, threads: Threads, board: Board) -> None:
        self._drives, self._threads, self._board = drives, threads, board
        self._watch = FileWatch()

    async def read(
        self, source: LogSource, rank: int, stream: Stream, offset: int, *, tail: int | None, follow: bool, ended: Callable[[], bool]
    ) -> AsyncGenerator[LogChunk]:
        """See Backend.logs. `ended`: the replica writes no more. Raises JobNotThere, and BackendUnavailable when the board is closed."""
        changed = self._board.subscribe(source.job_id)
        opened: list[int] = []
        watch: int | None = None
        try:
            while True:
                changed.clear()
                # asked before reading: what comes after the answer is yes cannot be new output
                over = ended()
                if not opened:
                    await self._threads.run(lambda: self._open(source.folder, rank, stream, opened))
                    if opened and tail is not None:
                        offset = max(offset, await self._threads.run(partial(size_of, opened[0])) - tail)
                    if opened and follow:
                        watch = self._watch.add(opened[0], changed)
                if not source.known and not opened:
                    raise JobNotThere(source.job_id)
                while opened and (chunks := await self._threads.run(partial(read_chunks, opened[0], offset))):
                    for chunk in chunks:
                        offset = chunk.offset + len(chunk.data)
                        yield chunk
                if over or not follow:
                    return
                self._board.check_open()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await changed.wait()
        finally:
            self._board.unsubscribe(changed, source.job_id)
            if watch is not None:
                self._watch.remove(watch, changed)
            for fd in opened:
                os.close(fd)

    def close(self) -> None:
        self._watch.close()

    def _open(self, folder: str, rank: int, stream: Stream, opened: list[int]) -> None:
        """Into `opened`, because a caller that is cancelled meanwhile has to close it."""
        fd = open_log(self._drives, folder, rank, stream)
        if fd is not None:
            opened.append(fd)


def open_log(drives: Drives, output_folder: str, rank: int, stream: Stream) -> int | None:
    """A descriptor of the log, or None when there is no such regular file of the job's user (now).

    A job can move whatever stands in a writable input to the place of its log, also what it may not read: a file of somebody else's, or one
    that has another name, is not its log. A server that runs as root gives every log away, so what is root's is never one.
    """
    try:
        folder = files.open_output(drives.drives_dir, drives.drives, output_folder)
    except OSError:
        return None
    try:
        fd = files.open_regular(folder, files.log_name(rank, stream.value), os.O_RDONLY)
        facts, owner = os.fstat(fd), os.fstat(folder).st_uid
        if facts.st_nlink == 1 and facts.st_uid == owner and (owner != 0 or os.geteuid() != 0):
            return fd
        os.close(fd)
    except OSError:
        pass
    finally:
        os.close(folder)
    return None


def size_of(fd: int) -> int:
    """Bytes. Blocking on a network folder."""
    return os.fstat(fd).st_size


def read_chunks(fd: int, offset: int) -> list[LogChunk]:
    """Up to BATCH_BYTES from `offset`; empty = the present end. Blocking."""
    data = os.pread(fd, BATCH_BYTES, offset)
    return [LogChunk(offset=offset + at, data=data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
