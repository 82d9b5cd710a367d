"""Shells: UCloud's `jobs.compute.{provider}.shell.open`, which a user's browser speaks to the provider itself (facts 2021 §4.5, today §8).

The session's secret in the first frame is all that it shows. Browsers of both generations take an answer with status 200 for each piece
of input, though today's reference answers with a message; neither shows the text of an error, so that is also written on the terminal.
When the browser's connection is cut the server keeps the shell for a while, and the same secret comes back to it; when the way to the
server is cut, this side comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing

import structlog
from serai.core.v1 import errors_pb2

from serai_gateway.clock import Clock
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone
from serai_gateway.tasks import cancel
from serai_gateway.upstream import Exchanging
from serai_gateway.ws import frames
from serai_gateway.ws.frames import Frame, ShellData, ShellWord
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import NORMAL, Socket
from serai_gateway.ws.telling import told
from serai_gateway.ws.terminal import Ended, Opened, Terminal, size_of
from serai_gateway.ws.unproven import Proof, Unproven

RULES = Rules(most_bytes=512 * 1024)
"""A message is what was typed or pasted at once."""
NOT_OPEN = "This connection has no open shell: the first message is `initialize`"
NOT_READ = "The program does not read what is typed; this was not delivered"

_log = structlog.stdlib.get_logger("serai_gateway.ws.shell")


class ShellCalls:
    """Serves the path of shells."""

    def __init__(
        self, upstream: Exchanging, clock: Clock, random: Callable[[], float], providers: frozenset[str], unproven: Unproven
    ) -> None:
        """`random` gives [0, 1)."""
        self.upstream = upstream
        self.clock = clock
        self.random = random
        self.calls = frozenset(f"jobs.compute.{provider}.shell.open" for provider in providers)
        self.unproven = unproven

    async def __call__(self, socket: Socket) -> None:
        await socket.accept()
        await _Shell(socket, self).run()


class _Shell:
    """That of one socket: a shell and its socket end together."""

    def __init__(self, socket: Socket, calls: ShellCalls) -> None:
        self._socket = socket
        self._calls = calls
        self._terminal: Terminal | None = None
        self._showing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            await self._calls.unproven.serve(self._socket, self._take)
        finally:
            if self._showing is not None:
                await cancel([self._showing])

    async def _take(self, message: str | bytes, proof: Proof) -> None:
        frame = frames.read_frame(message)
        if not proof.given:
            proof.in_vain += 1
        if frame is None:
            return  # dropped, as the reference does
        if frame.call not in self._calls.calls:
            await self._socket.send(frames.unknown_call(frame))
            return
        match frames.read_shell(frame):
            case frames.ShellInitialize() as asked:
                await self._begin(frame, asked, proof)
            case frames.ShellInput(data):
                await self._typed(frame, data)
            case frames.ShellResize(columns, rows):
                await self._resized(frame, columns, rows)
            case wrong:
                await self._refuse(frame.stream_id, GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, wrong))

    async def _begin(self, frame: Frame, asked: frames.ShellInitialize, proof: Proof) -> None:
        if self._terminal is not None:
            why = "This connection has a shell already; open another connection for another shell"
            await self._refuse(frame.stream_id, GatewayError(errors_pb2.ERROR_REASON_WRONG_STATE, why))
            return
        calls = self._calls
        self._terminal = Terminal(calls.upstream, calls.clock, calls.random, asked.session_identifier, size_of(asked.cols, asked.rows))
        self._showing = asyncio.create_task(self._show(frame.stream_id, self._terminal, proof))

    async def _show(self, stream_id: str, terminal: Terminal, proof: Proof) -> None:
        """Everything that comes from the shell, and then the end of the socket."""
        with contextlib.suppress(ClientGone):
            try:
                last = await self._pass_on(stream_id, terminal, proof)
            except ClientGone:
                raise
            except Exception as error:
                last = await self._told(stream_id, error)
            await self._socket.send(last)
        await self._socket.close(NORMAL)

    async def _pass_on(self, stream_id: str, terminal: Terminal, proof: Proof) -> str:
        """The last frame."""
        send = self._socket.send
        async with aclosing(terminal.output()) as output:
            async for one in output:
                match one:
                    case str():
                        await send(frames.message(stream_id, ShellData(one)))
                    case Opened(session):
                        self._calls.unproven.prove(proof)
                        _log.info("a shell is open in a browser", session=session.id, job_id=session.job_id, rank=session.rank)
                        await send(frames.message(stream_id, ShellWord("initialize")))
                    case Ended(words):
                        await send(frames.message(stream_id, _line(words)))
                        break
        return frames.response(stream_id, ShellWord("ack"))

    async def _told(self, stream_id: str, error: Exception) -> str:
        """The last frame, after the same words for the terminal."""
        found = told(error, "a shell ended with an error")
        await self._socket.send(frames.message(stream_id, _line(found.why)))
        return _refusal(stream_id, found)

    async def _typed(self, frame: Frame, data: str) -> None:
        if self._terminal is None:
            await self._not_open(frame)
            return
        try:
            await self._terminal.type(data.encode("utf-8", "replace"))
        except TimeoutError:
            await self._refuse(frame.stream_id, GatewayError(errors_pb2.ERROR_REASON_RATE_LIMITED, NOT_READ))
        else:
            await self._socket.send(frames.response(frame.stream_id, ShellWord("ack")))

    async def _resized(self, frame: Frame, columns: int, rows: int) -> None:
        if self._terminal is None:
            await self._not_open(frame)
            return
        with contextlib.suppress(TimeoutError):  # it is told with the next one, or when the way to the server is back
            await self._terminal.resize(size_of(columns, rows))
        await self._socket.send(frames.response(frame.stream_id, ShellWord("ack")))

    async def _not_open(self, frame: Frame) -> None:
        await self._socket.send(frames.response(frame.stream_id, frames.ErrorPayload(NOT_OPEN), 404))

    async def _refuse(self, stream_id: str, error: GatewayError) -> None:
        await self._socket.send(_refusal(stream_id, error))


def _line(words: str) -> ShellData:
    """Words on a line of their own."""
    return ShellData(f"\r\n{words}\r\n")


def _refusal(stream_id: str, error: GatewayError) -> str:
    # UCloud's status for a session that is not known, on this wire (facts 2021 §4.5).
    status = 404 if error.row.reason == errors_pb2.ERROR_REASON_SESSION_UNKNOWN else error.row.http_status
    return frames.response(stream_id, frames.ErrorPayload(error.why, error.row.error_code), status)
