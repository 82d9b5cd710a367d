"""Desktops: a WebSocket of the browser's VNC client to the port of a replica's RFB server.

Most images have an RFB server there, some have websockify before it. The first greets (RFC 6143 §7.1.1); the second waits for a request.
So what stays silent is asked for a WebSocket. The secret is in the path, as UCloud wants it; whoever has it has the desktop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import structlog
from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2

from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone
from serai_gateway.tasks import cancel
from serai_gateway.web.addresses import DESKTOP
from serai_gateway.web.cookies import is_secret
from serai_gateway.web.holds import Holds
from serai_gateway.web.proxy import authority
from serai_gateway.web.sessions import unknown
from serai_gateway.ws.paths import SocketPath
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import Socket

BINARY = "binary"
"""The sub-protocol that UCloud's page asks for."""
PIECE = 64 * 1024
"""Bytes; of each direction at most some of these are in memory."""
LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message of a websockify: a whole screen that did not change in pieces."""
LONGEST_INPUT = 1024 * 1024
"""Bytes of one message of a browser: keys, the mouse, at most what was copied."""
GREETING = b"RFB "
_GOING_AWAY = 1001

_log = structlog.stdlib.get_logger("serai_gateway.web")


class Desktop(Protocol):
    """A replica's end."""

    async def read(self) -> bytes:
        """Some bytes; none = it has ended. OSError."""
        ...

    async def write(self, data: bytes, /) -> None:
        """Returns when it takes more. OSError."""
        ...


class Desktops:
    """Serves the sockets of all desktops."""

    def __init__(self, holds: Holds, *, connect_timeout_s: float, silence_s: float = 2.0) -> None:
        """`silence_s`: after which a server that says nothing is asked for a WebSocket."""
        self._holds = holds
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s

    def path(self) -> SocketPath:
        return SocketPath(DESKTOP, self.serve, Rules(most_bytes=LONGEST_INPUT))

    async def serve(self, socket: Socket) -> None:
        secret = socket.parameters["secret"]
        try:
            if not is_secret(secret.encode()):
                raise unknown()
            async with self._holds.take(secret, pb2.SESSION_KIND_VNC, "", 0) as hold:
                at = hold.authorized
                async with self._connected(at) as desktop:
                    await socket.accept(BINARY if BINARY in socket.subprotocols else None)
                    over = asyncio.Event()
                    take_back = hold.when_over(over.set)
                    try:
                        await _bridge(socket, desktop, over)
                    finally:
                        take_back()
                    await socket.close(_GOING_AWAY if over.is_set() else 1000)
        except GatewayError as error:
            _log.warning("vnc.refused", why=error.row.name.lower())
            await socket.refuse(error)

    @asynccontextmanager
    async def _connected(self, at: pb2.AuthorizeResponse) -> AsyncGenerator[Desktop]:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(at.host, at.port, limit=PIECE)
        except (OSError, TimeoutError):
            raise _no_desktop(at) from None
        try:
            greeting = await self._greeting(reader, at)
            if greeting is not None:
                yield _Raw(greeting, reader, writer)
                return
        finally:
            writer.transport.abort()
        async with _websockify(at, self._connect_timeout_s) as desktop:
            yield desktop

    async def _greeting(self, reader: asyncio.StreamReader, at: pb2.AuthorizeResponse) -> bytes | None:
        """Its first bytes; None = it waits for ours. GatewayError when it is no desktop."""
        try:
            async with asyncio.timeout(self._silence_s):
                greeting = await reader.readexactly(len(GREETING))
        except TimeoutError:
            return None
        except (OSError, asyncio.IncompleteReadError):
            raise _no_desktop(at) from None
        if greeting != GREETING:
            raise _no_desktop(at)
        return greeting


class _Raw:
    """An RFB server that has greeted."""

    def __init__(self, greeting: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._greeting = greeting
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        greeting, self._greeting = self._greeting, b""
        return greeting or await self._reader.read(PIECE)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


class _Websockify:
    """One that speaks by a WebSocket of its own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        message = await self._socket.receive()
        # An empty message is none: what ends it is told by its kind.
        while message.type is aiohttp.WSMsgType.BINARY and not message.data:
            message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


@asynccontextmanager
async def _websockify(at: pb2.AuthorizeResponse, timeout_s: float) -> AsyncGenerator[Desktop]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=None)
    # A desktop is a user's program: by an answer that sends us elsewhere it would reach all that we reach, other jobs first.
    stay = aiohttp.TraceConfig()
    stay.on_request_redirect.append(_sent_elsewhere)
    async with aiohttp.ClientSession(
        timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[stay]
    ) as session:
        try:
            async with asyncio.timeout(timeout_s):
                socket = await session.ws_connect(
                    f"http://{authority(at.host, at.port)}/websockify", protocols=(BINARY,), max_msg_size=LONGEST_MESSAGE, autoping=True
                )
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise _no_desktop(at) from None

        try:
            yield _Websockify(socket)
        finally:
            await socket.close()


async def _sent_elsewhere(_session: aiohttp.ClientSession, _context: object, asked: aiohttp.TraceRequestRedirectParams) -> None:
    """aiohttp follows redirects of a WebSocket's handshake, and has no other way to be told not to."""
    asked.response.close()
    raise aiohttp.ClientConnectionError("the desktop's answer leads elsewhere")


async def _bridge(socket: Socket, desktop: Desktop, over: asyncio.Event) -> None:
    """Until one of the three ends: the browser, the desktop, the session."""
    there, back = asyncio.create_task(_to_browser(socket, desktop)), asyncio.create_task(_to_desktop(socket, desktop))
    ended = asyncio.create_task(over.wait())
    try:
        await asyncio.wait({there, back, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel((there, back, ended))
    for way in (there, back):
        error = None if way.cancelled() else way.exception()
        if error is not None and not isinstance(error, (OSError, ClientGone)):
            raise error


async def _to_browser(socket: Socket, desktop: Desktop) -> None:
    while data := await desktop.read():
        await socket.send(data)


async def _to_desktop(socket: Socket, desktop: Desktop) -> None:
    while (message := await socket.receive()) is not None:
        await desktop.write(message if isinstance(message, bytes) else message.encode())


def _no_desktop(at: pb2.AuthorizeResponse) -> GatewayError:
    words = f"The desktop of job {at.session.job_id}, rank {at.session.rank}, does not answer yet; it may still be starting"
    return GatewayError(errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE, words)
