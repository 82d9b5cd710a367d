"""A program of an exec with its ends: a terminal, or three pipes. Nothing here blocks or needs a thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from contextlib import suppress


class Program:
    """Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, into: int, outputs: dict[str, int], *, tty: bool) -> None:
        self.process, self.outputs, self.tty = process, outputs, tty
        self._into: int | None = into
        for end in {into, *outputs.values()}:
            os.set_blocking(end, False)

    @classmethod
    async def start(cls, command: list[str], env: dict[str, str], folder: str, *, tty: bool, own_terminal: bool) -> Program:
        """`own_terminal`: it is the first of the terminal's session; otherwise the command sees to that itself. Raises OSError."""
        ours = list[int]()
        theirs = list[int]()
        try:
            if tty:
                master, slave = os.openpty()
                ours, theirs = [master], [slave] * 3
            else:
                pipes = [os.pipe() for _ in range(3)]
                ours, theirs = [pipes[0][1], pipes[1][0], pipes[2][0]], [pipes[0][0], pipes[1][1], pipes[2][1]]
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                env=env,
                cwd=folder,
                start_new_session=own_terminal,
                preexec_fn=(lambda: _take_terminal(theirs[0])) if tty and own_terminal else None,
            )
        except OSError:
            for end in ours:
                os.close(end)
            raise
        finally:
            for end in set(theirs):
                os.close(end)
        if tty:
            return cls(process, ours[0], {"stdout": ours[0]}, tty=True)
        return cls(process, ours[0], {"stdout": ours[1], "stderr": ours[2]}, tty=False)

    async def read(self, name: str) -> bytes:
        """Empty = there is no more."""
        end = self.outputs[name]
        while True:
            try:
                return os.read(end, 32 * 1024)
            except BlockingIOError:
                await _ready(end, write=False)
            except OSError:  # the terminal's other side is closed
                return b""

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._into is not None:
            try:
                view = view[os.write(self._into, view) :]
            except BlockingIOError:
                await _ready(self._into, write=True)
            except OSError:
                return

    async def end_input(self) -> None:
        if self.tty:
            await self.write(b"\x04")
        elif self._into is not None:
            os.close(self._into)
            self._into = None

    def resize(self, height: int, width: int) -> None:
        if self.tty:
            fcntl.ioctl(self.outputs["stdout"], termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def close(self) -> None:
        """It is ended, if it has not."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
        ends = {*self.outputs.values(), *([] if self._into is None else [self._into])}
        self._into, self.outputs = None, {}
        for end in ends:
            os.close(end)


def _take_terminal(terminal: int) -> None:
    """Between fork and exec: one system call."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


async def _ready(end: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    # of a copy: the same terminal may be waited for in both directions, by more than one
    copy = os.dup(end)
    (loop.add_writer if write else loop.add_reader)(copy, is_ready)
    try:
        await ready
    finally:
        (loop.remove_writer if write else loop.remove_reader)(copy)
        os.close(copy)
