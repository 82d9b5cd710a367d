"""One open shell at the server: what it shows as text, what is typed as bytes, and coming back to it when the way there breaks.

The server plays the last of the output again to one who comes back, so the terminal is reset before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from google.rpc import code_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2

from serai_gateway.clock import Clock
from serai_gateway.control.backoff import Backoff
from serai_gateway.upstream import HOLDER, SESSIONS, Exchanging, UpstreamError, closing, status
from serai_gateway.ws.text import Text
from serai_gateway.ws.typed import Typed

SHELL = SESSIONS + "Shell"
RESET = "\x1bc"
"""Full reset of a terminal (RIS, ECMA-48)."""
PIECE_BYTES = 64 * 1024
"""Most bytes of input in one message (sessions_service.proto)."""
PATIENCE_MS = 60_000
"""ms for which one tries to come back: as long as the server keeps a shell to which nobody is connected."""
MOST_SIDE = 1_000
"""Columns and rows (sessions_service.proto)."""
_WAITING = 16
"""Messages on their way to the server; then who types waits."""
TYPE_S = 20.0
"""Longest that what is typed waits for a program that does not read."""
# Also "open in another window", which is this one for as long as the server does not know that it was cut.
_PASSING = frozenset(
    {
        code_pb2.UNAVAILABLE,
        code_pb2.DEADLINE_EXCEEDED,
        code_pb2.CANCELLED,
        code_pb2.ABORTED,
        code_pb2.UNKNOWN,
        code_pb2.RESOURCE_EXHAUSTED,
        code_pb2.FAILED_PRECONDITION,
    }
)
_RETRY_BASE_MS = 200
_RETRY_CAP_MS = 5_000

_log = structlog.stdlib.get_logger("serai_gateway.ws.shell")


@dataclass(frozen=True, slots=True)
class Opened:
    """It is there, and what is typed goes to it."""

    session: pb2.Session


@dataclass(frozen=True, slots=True)
class Ended:
    """Its program has ended, or was ended."""

    words: str
    """For the one who looks at the terminal."""


def size_of(columns: int, rows: int) -> pb2.TerminalSize:
    """The nearest size that a terminal can have; browsers tell 0 for windows that are not shown."""
    return pb2.TerminalSize(columns=min(max(columns, 1), MOST_SIDE), rows=min(max(rows, 1), MOST_SIDE))


class Terminal:
    """Of one session of kind SHELL."""

    def __init__(self, upstream: Exchanging, clock: Clock, random: Callable[[], float], secret: str, size: pb2.TerminalSize) -> None:
        """`random` gives [0, 1)."""
        self._upstream = upstream
        self._clock = clock
        self._secret = secret
        self._size = size
        self._typed = Typed(_WAITING)
        self._backoff = Backoff(base_ms=_RETRY_BASE_MS, cap_ms=_RETRY_CAP_MS, random=random)
        self._lost_at_ms: int | None = None
        """ms since epoch when the way to the server broke; None = it is there."""

    async def output(self) -> AsyncGenerator[Opened | str | Ended]:
        """Opened, text as it comes, and Ended. UpstreamError when the server does not open it, or cannot be reached any more."""
        opened = False
        ended: Ended | None = None
        while True:
            text = Text(errors="replace")
            try:
                async with aclosing(self._answers()) as answers:
                    async for answer in answers:
                        match answer.WhichOneof("message"):
                            case "opened":
                                self._lost_at_ms = None
                                self._backoff.succeeded()
                                yield RESET if opened else Opened(answer.opened.session)
                                opened = True
                            case "output":
                                for piece in text.pieces(answer.output):
                                    yield piece
                            case "exited":
                                ended = Ended(words_of(answer.exited))  # the server lets go of the shell when this was read to its end
                            case _:
                                pass  # of a newer server
            except UpstreamError as error:
                if ended is not None:
                    yield ended
                    return
                if not opened:
                    raise
                await self._pause(error)

    async def _answers(self) -> AsyncGenerator[pb2.ShellResponse]:
        """Those of one exchange, which ends with an error unless it is left."""
        requests = self._typed.requests(pb2.ShellRequest(open=pb2.ShellOpen(secret=self._secret, size=self._size)))
        try:
            async with closing(self._upstream.exchange(SHELL, requests, HOLDER)) as answers:
                async for raw in answers:
                    yield pb2.ShellResponse.FromString(raw)
        finally:
            requests.over = True
        # A server that stops may end it without a word.
        raise UpstreamError(status(code_pb2.UNAVAILABLE, "the server ended the connection"))

    async def type(self, data: bytes) -> None:
        """Returns when all of it is on its way to the server."""
        for start in range(0, len(data), PIECE_BYTES):
            await self._put(pb2.ShellRequest(input=data[start : start + PIECE_BYTES]))

    async def resize(self, size: pb2.TerminalSize) -> None:
        """As `type`; the size is also that with which one comes back."""
        self._size = size
        await self._put(pb2.ShellRequest(resize=size))

    async def _put(self, request: pb2.ShellRequest) -> None:
        """TimeoutError after a while: the program does not read, or the server is away."""
        if not self._typed.full:  # no timer for each key
            await self._typed.put(request)
            return
        async with asyncio.timeout(TYPE_S):
            await self._typed.put(request)

    async def _pause(self, error: UpstreamError) -> None:
        """Before one tries to come back; raises the error when that is of no use."""
        now_ms = self._clock.now_ms()
        if self._lost_at_ms is None:
            self._lost_at_ms = now_ms
            _log.info("the way to a shell broke, it is opened again", cause=str(error))
        if error.status.code not in _PASSING or now_ms - self._lost_at_ms >= PATIENCE_MS:
            raise error
        await self._clock.sleep(self._backoff.failed() / 1_000)


def words_of(exited: pb2.ShellExited) -> str:
    """How a shell ended, in a sentence."""
    if exited.why:
        return f"The shell has ended: {exited.why.rstrip('.')}."
    if exited.HasField("exit_code"):
        return f"The shell has ended with exit code {exited.exit_code}."
    return "The shell has ended."
