"""HTTP connections with bounds of their own: how long a head may be, how long a request may take to come, and errors in UCloud's form.

uvicorn leaves the first two to whatever stands in front of it and answers broken HTTP in plain text. Envoy does stand in front, but
Core's way in must hold without it as well: a client without any token must not be able to keep memory or connections for ever.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import cast
from urllib.parse import unquote

import msgspec
from serai.core.v1 import errors_pb2
from serai.core.v1.errors_pb2 import ErrorReason
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serai_gateway.errors import TABLE
from serai_gateway.http import Scope
from serai_gateway.web.connection import Connection, Pages
from serai_gateway.ws.protocol import BoundedWebSocket, Find, Rules

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers; a token of Core has about 1 KiB. Checked after each read, so what is kept is at most one read more."""
UPGRADE_LINE_LIMIT = 8_000
"""Bytes of one line of a handshake's head; the WebSocket library takes no longer ones."""
UPGRADE_HEADERS_LIMIT = 120
_KEY_BYTES = 16


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `request_timeout_s`: within which each request must have come whole, and the first one after connecting."""

    request_timeout_s = 30.0
    find: Find | None = None
    """Which WebSockets there are; None = none."""
    pages: Pages | None = None
    """Who serves applications' pages; None = nobody. A request for one may take as long as it takes: only its head has a bound."""
    _page: Connection | None = None
    """An application's page was asked for on this connection."""
    _unhurried = False
    """The request that comes is for an application's page."""
    _head_bytes = 0
    """Of the head that is being read or comes next; -1 = a body is being read."""
    _ended = False
    """A request became whole in this read, so not all of it is of the head that is being read."""
    _quiet_bytes = 0
    """Of a body's framing since its last byte of content: a chunked body's trailers would otherwise be kept without end."""
    _coming = True
    """Part of a request is still to come."""
    _reading = b""
    """What the parser is being fed now."""
    _deadline: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    """The request that is being answered; `cycle` is the last one that came, and others may wait between them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.request_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_deadline()
        answering = self._answering
        if answering is not None and not answering.response_complete:
            # uvicorn tells the last one only: this one would write where nothing can be written any more.
            answering.disconnected = True
            answering.message_event.set()
        super().connection_lost(exc)
        if self._page is not None:
            self._page.lost()

    def data_received(self, data: bytes) -> None:
        self._reading, self._ended = data, False
        super().data_received(data)
        self._reading = b""
        if self._coming:
            if self._deadline is None and not self._unhurried:
                self._deadline = self.loop.call_later(self.request_timeout_s, self._too_slow)
            if self._head_bytes >= 0:
                self._head_bytes += 0 if self._ended else len(data)
            else:
                self._quiet_bytes += len(data)
            if max(self._head_bytes, self._quiet_bytes) > HEAD_LIMIT_BYTES and not self.transport.is_closing():
                self._refuse(errors_pb2.ERROR_REASON_TOO_LARGE, f"The request's head is longer than the limit of {HEAD_LIMIT_BYTES} bytes")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = True
        self._unhurried = False

    def on_body(self, body: bytes) -> None:
        # What this read brought beside its content counts from the next read on.
        self._quiet_bytes = -len(self._reading)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises for a target that is no path: then the head is still what is wrong
        self._head_bytes = -1
        if self.pages is not None and self.pages.wants(self.scope.get("path", ""), self.headers):
            self._page_begins()

    def _page_begins(self) -> None:
        self._unhurried = True
        self._no_deadline()
        self._page = self._page or Connection(self.transport)
        self._page.put_into(cast("Scope", self.scope), self.url)

    def on_message_complete(self) -> None:
        self._coming, self._ended = False, True
        self._head_bytes = self._quiet_bytes = 0
        if self._deadline is not None:
            self._no_deadline()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        # What is not let through is refused here and closed: a handshake that nobody answers would hold its connection for ever.
        self._head_bytes = 0
        raw_path = self.url.partition(b"?")[0].decode("ascii", "replace")
        pages = self.pages if self.pages is not None and self.pages.wants(unquote(raw_path), self.headers) else None
        rules = None if self.find is None else self.find(unquote(raw_path), self.headers)
        if rules is None and pages is None:
            self._refuse(errors_pb2.ERROR_REASON_NO_ROUTE, "Not found: no WebSocket call of this provider has this path")
        elif (wrong := _wrong_with(self.scope["method"], self.scope["http_version"], self.url, self.headers)) is not None:
            self._refuse(errors_pb2.ERROR_REASON_INVALID_REQUEST, wrong)
        elif not self._may_answer():
            self._refuse(errors_pb2.ERROR_REASON_INVALID_REQUEST, "A handshake must not come while another request is being answered")
        elif pages is not None:
            self._no_deadline()
            self.connections.discard(self)
            pages.tunnel(self.transport, self.url, self.headers, self.server_state)
        elif rules is not None:
            self._hand_over(rules)

    def _hand_over(self, rules: Rules) -> None:
        """From here on the connection is a WebSocket's: uvicorn's own way of it, with rules."""
        self._no_deadline()
        self.connections.discard(self)
        head = [b"GET ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        head.append(b"\r\n")
        socket = BoundedWebSocket(self.config, self.server_state, self.app_state)
        socket.rules = rules
        socket.connection_made(self.transport)
        socket.data_received(b"".join(head))
        if not socket.handshake_initiated:  # the library would not read it, and says nothing
            self.connections.discard(socket)
            self.connections.add(self)
            self.send_400_response("")
            return
        self.transport.set_protocol(socket)

    def send_400_response(self, msg: str) -> None:
        self._refuse(errors_pb2.ERROR_REASON_INVALID_REQUEST, "The request is not HTTP that this provider can read")

    def _too_slow(self) -> None:
        self._deadline = None
        if self._coming and not self.transport.is_closing():
            self._refuse(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, f"The request did not come whole within {self.request_timeout_s:g} seconds"
            )

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, reason: ErrorReason.ValueType, why: str) -> None:
        self._no_deadline()
        if self._may_answer():
            row = TABLE[reason]
            body = msgspec.json.encode({"statusCode": row.http_status, "why": why, "errorCode": row.error_code, "detailedCode": 0})
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[row.http_status] + head + body)
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether what we write now would be taken for the answer to the request that is being refused, and not to one before it."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request, whatever its type says
        if self._head_bytes >= 0:
            return cycle is None or cycle.response_complete
        return cycle is not None and cycle.more_body and not cycle.response_started and not self.pipeline


def _wrong_with(method: str, version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> str | None:
    """What is wrong with a WebSocket's handshake (RFC 6455 §4.2.1), for the one who sent it; None = nothing."""
    found = dict(headers)
    if method != "GET" or version != "1.1":
        return "A WebSocket's handshake is a GET of HTTP/1.1"
    if found.get(b"sec-websocket-version") != b"13":
        return "Sec-WebSocket-Version: expected 13"
    if not _is_key(found.get(b"sec-websocket-key", b"")):
        return "Sec-WebSocket-Key: expected 16 bytes in base64"
    if found.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in found:
        return "A WebSocket's handshake has no body"
    longest = max(len(url), *(len(name) + len(value) for name, value in headers))
    if longest > UPGRADE_LINE_LIMIT or len(headers) > UPGRADE_HEADERS_LIMIT:
        return f"A WebSocket's handshake has at most {UPGRADE_HEADERS_LIMIT} headers of at most {UPGRADE_LINE_LIMIT} bytes"
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def bounded(request_timeout_s: float, find: Find | None = None, pages: Pages | None = None) -> type[BoundedProtocol]:
    """The protocol with these bounds; uvicorn makes its connections itself, so they belong to a class. `find` None = no WebSockets; `pages`
    None = no applications' pages."""
    kept = None if find is None else staticmethod(find)
    return type("BoundedProtocol", (BoundedProtocol,), {"request_timeout_s": request_timeout_s, "find": kept, "pages": pages})
