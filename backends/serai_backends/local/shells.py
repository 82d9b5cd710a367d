"""Shells in replicas: the server's side of the terminals that supervisors make (see supervisor/shells.py).

The server holds the terminal's master itself: what is typed and shown goes through no other process. Nothing is kept of either: the kernel
holds some KiB in each direction, then the program waits for its reader, and a writer for the program. A server that is killed hangs up.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable
from serai_backends.local.conversation import Conversation, Readiness

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from serai_backends.local.folder import JobFolder
    from serai_backends.model import TerminalSize

_CHUNK_BYTES = 64 * 1024
_LARGEST_SIDE = 0xFFFF


class LocalShell:
    """A Shell of serai_backends.api. Made by `open_shell`."""

    def __init__(self, conversation: Conversation, master: int, closed: Callable[[LocalShell], None]) -> None:
        self._conversation, self._master, self._closed = conversation, master, closed
        self._readiness = Readiness(master)
        self._writing = asyncio.Lock()
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    @property
    def _open(self) -> bool:
        return not self._readiness.stopped

    async def output(self) -> AsyncGenerator[bytes]:
        """For one reader."""
        while self._open:
            data = self._read()
            if data is None:
                await self._readiness.readable()
            elif data:
                yield data
                await asyncio.sleep(0)  # a program that never stops writing would let nobody else run
            else:
                await self._until_told()
                return

    def _read(self) -> bytes | None:
        """What it has written; None = nothing now; empty = nobody has the terminal open any more."""
        parts: list[bytes] = []
        size = 0
        while size < _CHUNK_BYTES:
            try:
                part = os.read(self._master, _CHUNK_BYTES - size)
            except BlockingIOError:
                break
            except OSError:  # EIO
                part = b""
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        return b"".join(parts) or None

    async def _until_told(self) -> None:
        """Until the supervisor has said how it ended."""
        answer = await self._conversation.receive()
        code = answer.facts.get("exit") if answer is not None else None
        if isinstance(code, int):
            self._exit_code = code
        elif self._open:
            raise BackendUnavailable("the shell's job has ended, and nobody saw how the shell did")

    async def write(self, data: bytes) -> None:
        async with self._writing:
            left = memoryview(data)
            while left:
                self._check_open()
                try:
                    left = left[os.write(self._master, left[:_CHUNK_BYTES]) :]
                except BlockingIOError:
                    await self._readiness.writable()
                except OSError as error:
                    raise BackendUnavailable("the shell has ended") from error

    async def resize(self, size: TerminalSize) -> None:
        self._check_open()
        columns, rows = sides(size)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _check_open(self) -> None:
        if not self._open:
            raise BackendUnavailable("the shell is closed")

    async def close(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """The supervisor ends the program when it sees that."""
        if not self._open:
            return
        self._readiness.stop()
        os.close(self._master)
        self._conversation.close()
        self._closed(self)


def sides(size: TerminalSize) -> tuple[int, int]:
    """Columns and rows, as a terminal can have them."""
    return min(max(size.columns, 1), _LARGEST_SIDE), min(max(size.rows, 1), _LARGEST_SIDE)


class Shells:
    """All that one backend has open."""

    def __init__(self) -> None:
        self._shells: set[LocalShell] = set()

    async def open(self, folder: JobFolder, rank: int, argv: tuple[str, ...], size: TerminalSize) -> LocalShell:
        """Raises JobNotThere, BackendUnavailable."""
        columns, rows = sides(size)
        conversation = Conversation(folder)
        try:
            answer = await conversation.ask(op="shell", rank=rank, argv=list(argv), columns=columns, rows=rows)
            os.set_blocking(answer.fd, False)
        except BaseException:
            conversation.close()
            raise
        shell = LocalShell(conversation, answer.fd, self._shells.discard)
        self._shells.add(shell)
        return shell

    def close(self) -> None:
        for shell in list(self._shells):
            shell.hang_up()
