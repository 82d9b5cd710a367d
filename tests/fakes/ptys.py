"""InstantBackend whose shells are programs of this machine at a real terminal, without a sandbox: for tests of who uses a terminal.

The kernel's rules hold: line ends, echo, Ctrl-C, sizes, a few KiB in each direction and then a wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from serai_backends.errors import BackendUnavailable
from serai_backends.model import TerminalSize

from fakes.reachable import ReachableBackend

_CHUNK = 64 * 1024


def set_size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class PtyShell:
    """A Shell of serai_backends.api."""

    def __init__(self, argv: tuple[str, ...], size: TerminalSize) -> None:
        argv = argv or ("sh",)
        if shutil.which(argv[0]) is None:
            raise BackendUnavailable(f"{argv[0]} cannot be started: it is not there")
        self._master, slave = os.openpty()
        set_size(self._master, size.columns, size.rows)
        os.set_blocking(self._master, False)

        try:
            # Not by code of ours between fork and exec, which would run beside gRPC's threads.
            self._process = subprocess.Popen(("setsid", "--ctty", *argv), stdin=slave, stdout=slave, stderr=slave)
        finally:
            os.close(slave)
        self.exit_code: int | None = None
        self.closed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def output(self) -> AsyncGenerator[bytes]:
        while not self.closed:
            try:
                data = os.read(self._master, _CHUNK)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
                continue
            except OSError:
                data = b""
            if not data:
                code = await asyncio.to_thread(self._process.wait)
                self.exit_code = code if code >= 0 else 128 - code
                return
            yield data
            await asyncio.sleep(0)

    async def write(self, data: bytes) -> None:
        while data:
            if self.closed:
                raise BackendUnavailable("the shell is closed")
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)
            except OSError as error:
                raise BackendUnavailable("the shell has ended") from error

    async def resize(self, size: TerminalSize) -> None:
        if self.closed:
            raise BackendUnavailable("the shell is closed")
        set_size(self._master, size.columns, size.rows)

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        os.close(self._master)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready = asyncio.Event()
        add(self._master, ready.set)
        try:
            await ready.wait()
        finally:
            if not self.closed:
                remove(self._master)


class PtyBackend(ReachableBackend):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # pyright: ignore[reportArgumentType]  # as the class above
        self.terminals: list[PtyShell] = []

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> PtyShell:  # pyright: ignore[reportIncompatibleMethodOverride]  # another Shell
        self._check_reachable()
        self._address(job_id, rank)
        self.terminals.append(PtyShell(argv, size))
        return self.terminals[-1]
