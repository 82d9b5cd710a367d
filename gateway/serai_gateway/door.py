"""The one door for all that connects: Core's and users' calls, WebSockets, applications' web pages, our own pages.

Each create passes here, so HTTP goes on without a step of its own: what is returned is the other side's awaitable.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from serai.core.v1 import errors_pb2
from serai_telemetry.counts import Tally

from serai_gateway.access import Access, Answered
from serai_gateway.codec import Codec
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone, Headers, Receive, Scope, Send
from serai_gateway.web.connection import is_for_page
from serai_gateway.ws.paths import SocketPaths
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import INTERNAL, Socket

CONSOLE = "/console"
"""Our own pages are at this path and below it."""
MOST_SOCKETS = 2_000
"""WebSockets at a time, of all kinds; each may cost some 100 KiB."""

_log = structlog.stdlib.get_logger("serai_gateway.door")


class Further(Protocol):
    """Another part of the gateway that takes HTTP requests, or the WebSockets that are not in the table."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]: ...


class Door:
    """The ASGI application that the server is given."""

    def __init__(
        self,
        calls: Further,
        sockets: SocketPaths,
        codec: Codec,
        access: Access | None,
        *,
        web: Further | None = None,
        console: Further | None = None,
        most_sockets: int = MOST_SOCKETS,
        open_now: Tally | None = None,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`calls`: Core's and users'. `web` None = no applications' pages; `console` None = no pages of our own. `open_now`: where open
        WebSockets are counted by template; None = nobody wants to know."""
        self._calls = calls
        self._sockets = sockets
        self._codec = codec
        self._access = access
        self._web = web
        self._console = console
        self._most_sockets = most_sockets
        self._open_now = open_now or Tally()
        self._ticks = ticks
        self._open = 0

    def rules(self, path: str, headers: Headers) -> Rules | None:
        """Those of a WebSocket's handshake; None = nothing here takes it."""
        found = self._sockets.find(path)
        return None if found is None else found[0].rules

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            path = scope.get("path", "")
            if self._web is not None and is_for_page(scope):
                return self._web(scope, receive, send)
            if self._console is not None and (path == CONSOLE or path.startswith(CONSOLE + "/")):
                return self._console(scope, receive, send)
            return self._calls(scope, receive, send)
        if scope["type"] == "websocket":
            return self._socket(scope, receive, send)
        raise RuntimeError(f"connections of type {scope['type']} are not served")

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        started = self._ticks()
        found = self._sockets.find(path)
        template = "none" if found is None else found[0].template
        socket = Socket(scope, receive, send, self._codec, {} if found is None else found[1])
        error_id: str | None = None
        self._open += 1
        self._open_now.add((template,))
        try:
            if found is None:
                why = "Not found: no WebSocket call of this provider has this path"
                await socket.refuse(GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, why))
            elif self._open > self._most_sockets:
                why = "Too many connections are open here right now, try again later"
                await socket.refuse(GatewayError(errors_pb2.ERROR_REASON_RATE_LIMITED, why))
            else:
                await found[0].serve(socket)
                await socket.close()
        except ClientGone:
            pass
        except Exception as error:
            error_id = secrets.token_hex(6)
            _log.error("a WebSocket failed", error_id=error_id, path=template, exc_info=error)
            await _fail(socket, error_id)
        finally:
            self._open -= 1
            self._open_now.add((template,), -1)
            if self._access is not None:
                took_ns = self._ticks() - started
                carried = (socket.received_bytes, socket.sent_bytes)
                self._access.add(Answered("WEBSOCKET", template, socket.status, took_ns, error_id, carried))


async def _fail(socket: Socket, error_id: str) -> None:
    """Fixed text and an id; what happened is in our log under that id."""
    words = f"Internal error of the provider, id {error_id}"
    try:
        if socket.status == 0:
            await socket.refuse(GatewayError(errors_pb2.ERROR_REASON_UNSPECIFIED, words))
        else:
            await socket.close(INTERNAL, words)
    except ClientGone:
        pass
