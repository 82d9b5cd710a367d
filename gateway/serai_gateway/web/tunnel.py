"""WebSockets of applications, by the gateway's own way: after the handshake the bytes of both sides pass as they are.

So everything that two ends agree on between them works: sub-protocols, compression, pings, codes of closing, frames of any size. Each side
is read only as fast as the other takes it; the connection is cut when the session or its job ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

import structlog
from serai.sessions.v1 import sessions_service_pb2 as pb2
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from serai_gateway.access import Access, Answered
from serai_gateway.http import Headers
from serai_gateway.web import pages
from serai_gateway.web.decision import WEB, Asked, Decisions, Pass
from serai_gateway.web.headers import Pairs, to_application, to_client
from serai_gateway.web.holds import Hold, Holds
from serai_gateway.web.names import Place
from serai_gateway.web.pages import Page
from serai_gateway.web.proxy import not_yet
from serai_gateway.web.site import Site

PIECE = 64 * 1024
"""Bytes of each side that are in memory: about four times as many for one socket."""
ANSWER_S = 30.0
"""For the application's answer to the handshake."""
LAST_WORDS_S = 10.0
"""For the other direction, when one has ended."""
MOST = 5_000
"""WebSockets to applications at a time."""

_log = structlog.stdlib.get_logger("serai_gateway.web")


class Tunnels:
    """All WebSockets to applications."""

    def __init__(
        self,
        site: Site,
        decisions: Decisions,
        holds: Holds,
        access: Access | None,
        *,
        connect_timeout_s: float,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._site = site
        self._decisions = decisions
        self._holds = holds
        self._access = access
        self._ticks = ticks
        self._connect_timeout_s = connect_timeout_s
        self._open = 0

    def start(self, transport: asyncio.Transport, target: bytes, headers: Headers, state: ServerState) -> None:
        """Takes over the connection of a handshake."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=PIECE, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        client = _Client(transport, reader, asyncio.StreamWriter(transport, protocol, reader, loop), target, headers)
        task = loop.create_task(self._serve(client))
        # uvicorn waits for both at a stop, and closes what is in `connections`.
        state.tasks.add(task)
        state.connections.add(client)  # pyright: ignore[reportArgumentType] - it only calls shutdown

        def ended(_: asyncio.Task[None]) -> None:
            state.tasks.discard(task)
            state.connections.discard(client)  # pyright: ignore[reportArgumentType]

        task.add_done_callback(ended)

    async def _serve(self, client: _Client) -> None:
        started = self._ticks()
        self._open += 1
        try:
            async with AsyncExitStack() as stack:
                stack.callback(client.abort)
                await self._answer(client, stack)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two has left
        except Exception as error:
            _log.error("a page's WebSocket failed", exc_info=error)
        finally:
            self._open -= 1
        if self._access is not None:
            carried = (client.received_bytes, client.sent_bytes)
            self._access.add(Answered("WEBSOCKET", "web", client.status, self._ticks() - started, carried=carried))

    async def _answer(self, client: _Client, stack: AsyncExitStack) -> None:
        held: list[Hold] = []

        async def enter(secret: str, place: Place) -> pb2.AuthorizeResponse:
            held.append(await stack.enter_async_context(self._holds.take(secret, WEB, place.job_id, place.rank)))
            return held[0].authorized

        if self._open > MOST:
            await client.answer(pages.told(429, "Too many connections are open here right now, try again later", html=False))
            return
        outcome = await self._decisions.decide(Asked.of("GET", client.target, client.headers), enter)
        if isinstance(outcome, Page):
            await client.answer(outcome)
            return
        stack.callback(held[0].when_over(client.abort))
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(outcome.address, outcome.port, limit=PIECE)
        except (OSError, TimeoutError):
            await client.answer(pages.told(502, not_yet(outcome.place), html=False))
            return
        stack.callback(_abort, writer)
        await self._shake_hands(client, outcome, reader, writer)
        await client.exchange(reader, writer)

    async def _shake_hands(self, client: _Client, to: Pass, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = to_application(
            client.headers, host=to.host, cookie=to.cookie, client=client.address, scheme=self._site.scheme, prefix=to.prefix, upgrade=True
        )
        writer.write(b"GET " + to.target + b" HTTP/1.1\r\n" + _lines(headers))
        try:
            async with asyncio.timeout(ANSWER_S):
                status, found = _head(await reader.readuntil(b"\r\n\r\n"))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await client.answer(pages.told(502, not_yet(to.place), html=False))
            raise ConnectionResetError from None
        passed = to_client(found, shared_origin=self._site.by_path)
        if status == 101:
            passed += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        else:
            # No WebSocket: its answer as it is, and then nothing more on this connection.
            passed += [*((name, value) for name, value in found if name == b"transfer-encoding"), (b"connection", b"close")]
        client.status = status
        client.write(STATUS_LINE[status] + _lines(passed))


class _Client:
    """The browser's side of a WebSocket."""

    def __init__(
        self, transport: asyncio.Transport, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: bytes, headers: Headers
    ) -> None:
        remote = get_remote_addr(transport)
        self.address = remote[0] if remote is not None else ""
        self.target = target
        self.headers = headers
        self.status = 0
        """Of the handshake's answer; 0 = none."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self._transport = transport
        self._reader = reader
        self._writer = writer

    def shutdown(self) -> None:
        """uvicorn stops."""
        self.abort()

    def abort(self) -> None:
        self._transport.abort()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self, page: Page) -> None:
        """Instead of a WebSocket."""
        self.status = page.status
        headers = [(name.encode(), value.encode("latin-1")) for name, value in page.headers if name != "content-length"]
        headers += [(b"content-length", b"%d" % len(page.body)), (b"connection", b"close")]
        self._writer.write(STATUS_LINE[page.status] + _lines(headers) + page.body)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                self._writer.close()
                await self._writer.wait_closed()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Bytes both ways until both have ended, or one has and the other one says nothing more."""

        def received(count: int) -> None:
            self.received_bytes += count

        def sent(count: int) -> None:
            self.sent_bytes += count

        ways = {asyncio.create_task(_pump(self._reader, writer, received)), asyncio.create_task(_pump(reader, self._writer, sent))}
        try:
            _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if left:
                await asyncio.wait(left, timeout=LAST_WORDS_S)
            self._writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._writer.wait_closed()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            for way in ways:
                if not way.cancelled():
                    way.exception()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            count(len(piece))
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _lines(headers: Pairs) -> bytes:
    return b"".join(b"%s: %s\r\n" % pair for pair in headers) + b"\r\n"


def _head(head: bytes) -> tuple[int, Pairs]:
    """Status and headers, names in lower case. ValueError when it is none."""
    first, *lines = head[:-4].split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = int(rest[:3])
    if not version.startswith(b"HTTP/1.") or not (status == 101 or 200 <= status < 600):
        raise ValueError("no answer to a handshake")
    headers: Pairs = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise ValueError("a header cannot be read")
        headers.append((name.lower(), value.strip()))
    return status, headers
