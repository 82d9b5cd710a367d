"""Answers of Nomad that go on for long: events, logs, shells. One aiohttp session for events, so that nothing keeps them from being opened
anew, one for shells, which stay open, and one for the rest. Together with `requester` they stay below the 100 connections that Nomad allows
an address, unless the settings say more for shells."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import aiohttp

from serai_backends.nomad.client.errors import Answered, Asked, unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from serai_backends.errors import BackendUnavailable
    from serai_backends.nomad.client.requester import Requester

CONNECTIONS = 24
CHUNK_BYTES = 64 * 1024
FAILURES = (aiohttp.ClientError, OSError, TimeoutError)
"""What aiohttp raises when there is no answer, or it breaks off."""
_IDLE_S, _BETWEEN_S, _TIMES = 20, 5, 4
"""A machine that is gone is noticed by TCP: after so long without a word it is asked, so often, so many times. Not by pings of the
websocket: the answer to one waits behind output that a slow reader has not taken."""


class Clock(Protocol):
    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


async def end(task: asyncio.Task[None]) -> None:
    """Cancel it and wait for that; what it died of before is nobody's business."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


class Streams:
    def __init__(self, requester: Requester, clock: Clock, timeout_ms: int, shells: int) -> None:
        """In a running loop. `shells`: so many may be open."""
        self._requester, self.access, self.clock = requester, requester.access, clock
        self.timeout_s = timeout_ms / 1000
        self._events, self._rest, self._shells = self._session(limit=4), self._session(limit=CONNECTIONS), self._session(limit=shells)

    @asynccontextmanager
    async def get(self, path: str, params: list[tuple[str, str]], *, events: bool = False) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer's head has come and it is 2xx; otherwise raises Answered. Leaving closes the connection."""
        await self._requester.refresh()
        session = self._events if events else self._rest
        try:
            async with asyncio.timeout(self.timeout_s):
                response = await session.get(
                    f"{self.access.base}/v1/{path}",
                    params=self._params(params),
                    headers=self.access.headers() | {"Accept-Encoding": "identity"},
                    server_hostname=self._server_name(),
                    allow_redirects=False,
                )
        except FAILURES as error:
            raise unreachable(error, self.access.address) from error
        try:
            if not 200 <= response.status < 300:  # `ok` takes a redirect for an answer
                try:
                    async with asyncio.timeout(self.timeout_s):
                        body = await response.read()
                except FAILURES as error:
                    raise unreachable(error, self.access.address) from error
                raise Answered(response.status, body)
            yield response
        finally:
            response.close()

    async def websocket(
        self, path: str, params: list[tuple[str, str]], need: str, *, lasting: bool = False
    ) -> aiohttp.ClientWebSocketResponse:
        """`lasting`: one of those that count as a shell. No redirect is followed: the token would go along."""
        await self._requester.refresh()
        session = self._shells if lasting else self._rest
        try:
            async with asyncio.timeout(self.timeout_s):
                return await session.ws_connect(
                    f"{self.access.base}/v1/{path}",
                    params=self._params(params),
                    headers=self.access.headers(),
                    server_hostname=self._server_name(),
                    max_msg_size=16 << 20,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise self.trouble(Answered(error.status, error.message.encode()), Asked(f"GET /v1/{path}", need)) from error
        except FAILURES as error:
            raise unreachable(error, self.access.address) from error

    def trouble(self, answer: Answered, asked: Asked) -> BackendUnavailable:
        return self._requester.trouble(answer, asked)

    async def close(self) -> None:
        await self._events.close()
        await self._rest.close()
        await self._shells.close()

    def _params(self, params: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [*self.access.params().items(), *params]

    def _server_name(self) -> str | None:
        return self.access.server_name if self.access.tls is not None and self.access.server_name else None

    def _session(self, limit: int) -> aiohttp.ClientSession:
        access = self.access
        connector: aiohttp.BaseConnector
        if access.socket:
            connector = aiohttp.UnixConnector(access.socket, limit=limit)
        else:
            connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True, limit=limit, socket_factory=_socket)
        forever = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout_s)
        stay = aiohttp.TraceConfig()
        stay.on_request_redirect.append(_sent_elsewhere)
        return aiohttp.ClientSession(connector=connector, timeout=forever, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[stay])


async def _sent_elsewhere(_session: aiohttp.ClientSession, _context: object, asked: aiohttp.TraceRequestRedirectParams) -> None:
    """aiohttp follows redirects of a WebSocket's handshake, and has no other way to be told not to."""
    asked.response.close()
    raise aiohttp.ClientConnectionError("its answer leads elsewhere")


def _socket(info: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _TIMES)
    return made
