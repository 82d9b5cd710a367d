"""Runs the vendor's own program, `lmutil lmstat`, and bounds it in time, in output and in what it may know."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path

from serai_server.clock import Clock
from serai_server.licenses.servers import lmstat
from serai_server.licenses.servers.lmstat import Answer

LIMIT_S = 30.0
"""A question that takes longer has failed; the program waits about ten seconds for a server that is away."""
_MOST_BYTES = 8 * 1024 * 1024
"""Thousands of users with a line each are half a megabyte."""
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent"}
"""Nothing of the server's own; HOME, because FlexNet reads and writes a file of somebody's settings there."""


class NotTold(Exception):
    """The server's seats are not known; the text says why, for operators."""


class Lmutil:
    def __init__(self, program: str, clock: Clock, *, limit_s: float = LIMIT_S) -> None:
        self._program = program
        self._clock = clock
        self._limit_s = limit_s

    async def ask(self, addresses: Sequence[tuple[str, int]]) -> Answer:
        """One question about all features of a server. Raises NotTold."""
        place = ",".join(f"{port}@{host}" for host, port in addresses)
        words = (self._program, "lmstat", "-a", "-c", place)
        try:
            transport, talk = await _start(words)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "its path is none"
            raise NotTold(f"{self._program} (licenses.lmutil) cannot be started: {why}") from error
        limit = asyncio.ensure_future(self._clock.sleep(self._limit_s))
        try:
            await asyncio.wait((talk.over, limit), return_when=asyncio.FIRST_COMPLETED)
            if not talk.over.done():
                raise NotTold(f"lmutil did not answer within {self._limit_s:g} s")
        finally:
            limit.cancel()
            await _end(transport, talk)
        # On a thread: what a server makes lmutil say must not hold up everybody else.
        return await asyncio.to_thread(self._answer, talk, transport)

    @staticmethod
    def _answer(talk: _Talk, transport: asyncio.SubprocessTransport) -> Answer:
        if len(talk.output) > _MOST_BYTES:
            raise NotTold(f"lmutil wrote more than {_MOST_BYTES // 1024 // 1024} MiB")
        answer = lmstat.read(talk.output.decode("utf-8", "replace"))
        if not answer.features:
            raise NotTold(answer.trouble or f"lmutil told no seats and ended with code {transport.get_returncode()}")
        return answer


class _Talk(asyncio.SubprocessProtocol):
    """What the program writes, up to the limit, and when that is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.output = bytearray()
        self.over: asyncio.Future[None] = loop.create_future()
        """It has ended and closed its output, or wrote too much."""
        self.exited: asyncio.Future[None] = loop.create_future()
        self._closed = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if len(self.output) <= _MOST_BYTES:
            self.output += data
        if len(self.output) > _MOST_BYTES:
            self._finish()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._closed = True
        if self.exited.done():
            self._finish()

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)
        if self._closed:
            self._finish()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def _start(words: Sequence[str]) -> tuple[asyncio.SubprocessTransport, _Talk]:
    """Raises OSError, ValueError. Whoever gives up meanwhile leaves no process either: it can be there, with children, before the loop
    says so."""
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(
        loop.subprocess_exec(
            lambda: _Talk(loop), *words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=_ENVIRONMENT, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait((starting,))
        if not starting.cancelled() and starting.exception() is None:
            await _end(*starting.result())
        raise


async def _end(transport: asyncio.SubprocessTransport, talk: _Talk) -> None:
    """No process of its group is left, whichever way the question ended, and it was waited for."""
    _kill_group(transport)
    try:
        await asyncio.shield(talk.exited)
    except asyncio.CancelledError:
        await asyncio.wait((talk.exited,))
        raise
    finally:
        transport.close()


def _kill_group(transport: asyncio.SubprocessTransport) -> None:
    """Its own session, so that what it has started goes too. Once it was waited for, its number can be another process's; but not while a
    group has that number, so where there is no such process the group is still ours."""
    pid = transport.get_pid()
    if transport.get_returncode() is None or not Path(f"/proc/{pid}").exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
