"""A program at a terminal in a replica, from its start to its end: the last of what it wrote, and at most one who looks at it.

One piece of memory serves all: `tail`. Who is attached has a place in it and reads on from there; the program's output is read no further
than a little beyond that place, so a slow reader slows the program and nothing grows. Nobody attached: it is read on, and the oldest bytes
go. Who comes back begins with the oldest byte that is kept. So each connection sees the program's output from some byte on without a
gap and without a repetition; what lies before that byte is either in an earlier connection, or lost because the tail was full.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

import structlog
from serai_backends.api import Shell
from serai_backends.common.time import sleep_or
from serai_backends.errors import BackendError
from serai_backends.model import TerminalSize

from serai_server.clock import Clock
from serai_server.sessions.session import Session
from serai_server.sessions.tail import Tail

log = structlog.get_logger("serai.sessions")

KEPT = 256 * 1024
"""Bytes of output that are there for whoever comes back: some screens of text, and every full screen."""
PIECE = 64 * 1024
"""Most bytes of output in one answer (sessions_service.proto)."""
_AHEAD = 128 * 1024
"""Bytes that are read ahead of who is attached. With one piece more they still are in the tail."""

_KILLED = frozenset({128 + signal.SIGHUP, 128 + signal.SIGKILL, 128 + signal.SIGTERM})
_JOB_MAY_END_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    exit_code: int | None
    """None = nobody saw it."""
    why: str
    """Why it ended when not by itself, for people; empty = by itself."""


class OpenShell:
    """Attached from the start: whoever has it opened."""

    def __init__(self, session: Session, size: TerminalSize, clock: Clock, *, program: bool) -> None:
        self.session = session
        self._clock = clock
        self.size = size
        """As it was asked for last."""
        self.program = program
        """An operator's tool has it opened: it ends with its connection."""
        self.attached = True
        self.ending: Ending | None = None
        """Set once, when it has ended or is to be ended."""
        self.told = False
        """Somebody was told of the ending."""
        self.closed = False
        """Nothing of it is left in the backend."""
        self.start: asyncio.Task[None] | None = None
        """The hub's: has its program started; ends with its failure, or is cancelled by its end."""
        self.begun = False
        """Its session's first use is stored. No start is cancelled before: what is stored then would bring back a session that is over."""
        self.timer: asyncio.Task[None] | None = None
        """The hub's: how long it stays without anybody attached."""
        self.news = asyncio.Event()
        """For who is attached: there is output, an ending, or something wrong with what they said."""
        self._shell: Shell | None = None
        self._tail = Tail(KEPT)
        self._next = b""
        """Was read, and waits for room in the tail."""
        self._at = 0
        """Place of who is attached: the first byte that they were not given yet."""
        self._room = asyncio.Event()
        self._stop = asyncio.Event()

    # Its life.

    def started(self, shell: Shell) -> None:
        self._shell = shell

    async def live(self, shell: Shell) -> None:
        """Reads what the program writes until it ends, its session is over or `end` is called; then closes it. After `started`."""
        ends = [asyncio.create_task(work) for work in (self._read(shell), self._over(), self._stop.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await self._close(shell)

    def end(self, why: str) -> None:
        """Have it ended. What it wrote before is still given to who is attached."""
        self._finish(Ending(None, why))
        self._stop.set()

    async def _over(self) -> None:
        await self.session.over.wait()
        self._finish(Ending(None, self.session.why_over))

    async def _read(self, shell: Shell) -> None:
        output = shell.output()
        try:
            async for data in output:
                self._next = data
                while self._next:
                    await self._wait_for_room()
                    self._take(PIECE)
                if self.ending is not None:
                    return
            if shell.exit_code in _KILLED:
                # Its job's end kills it too, and is known here a moment later; `_over` then says so.
                await sleep_or(self._clock, _JOB_MAY_END_S, self.session.over)
            self._finish(Ending(shell.exit_code, "" if shell.exit_code is not None else "nobody saw how it ended; its job may be over"))
        except BackendError as error:
            self._finish(Ending(None, str(error)))
        except Exception:
            log.exception("shell.failed", session=self.session.id, job=self.session.job_id, rank=self.session.rank)
            self._finish(Ending(None, "something went wrong inside the provider"))
        finally:
            if isinstance(output, AsyncGenerator):
                await output.aclose()

    def _take(self, most: int) -> None:
        """Puts so many bytes of what waits into the tail."""
        self._tail.add(self._next[:most])
        self._next = self._next[most:]
        self.news.set()

    async def _wait_for_room(self) -> None:
        while self.attached and self._tail.end - self._at > _AHEAD:
            self._room.clear()
            await self._room.wait()

    async def _close(self, shell: Shell) -> None:
        try:
            await shell.close()
        except BackendError as error:
            log.warning("shell.not_closed", session=self.session.id, job=self.session.job_id, rank=self.session.rank, why=str(error))
        except Exception:
            log.exception("shell.not_closed", session=self.session.id, job=self.session.job_id, rank=self.session.rank)
        finally:
            self.closed = True

    def _finish(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            # Nobody will wait for room for it any more. Who is attached has all of the tail still before them at the most.
            self._take(KEPT - (self._tail.end - self._at) if self.attached else len(self._next))
        self.news.set()

    # For who is attached.

    def attach(self) -> None:
        """Come back to it: from the oldest byte that is kept. It must not be attached."""
        self.attached = True
        self._at = self._tail.start
        self.news.set()

    def detach(self) -> None:
        self.attached = False
        self._room.set()

    def output(self) -> bytes:
        """What comes next, at most one piece; empty = nothing yet, or nothing more when there is an ending."""
        data = self._tail.read(self._at, PIECE)
        self._at += len(data)
        self._room.set()
        return data

    async def write(self, data: bytes) -> None:
        """Typed. Waits while the program does not read; a program that has ended is told of by its ending, not here."""
        if self._shell is not None and data and self.ending is None:
            with suppress(BackendError):
                await self._shell.write(data)

    async def resize(self, size: TerminalSize) -> None:
        self.size = size
        await self._show(size)

    async def shrink(self) -> None:
        """Make it a row smaller (or larger) than asked for, so that the next `restore` has full-screen programs draw again."""
        size = self.size
        await self._show(TerminalSize(columns=size.columns, rows=size.rows - 1 or 2))

    async def restore(self) -> None:
        await self._show(self.size)

    async def _show(self, size: TerminalSize) -> None:
        if self._shell is not None and self.ending is None:
            with suppress(BackendError):
                await self._shell.resize(size)
