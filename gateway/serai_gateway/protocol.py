"""HTTP connections with bounds of their own: how long a head may be, how long a request may take to come, and errors in UCloud's form.

uvicorn leaves the first two to whatever stands in front of it and answers broken HTTP in plain text. Envoy does stand in front, but
Core's way in must hold without it as well: a client without any token must not be able to keep memory or connections for ever.
"""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec
from serai.core.v1 import errors_pb2
from serai.core.v1.errors_pb2 import ErrorReason
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serai_gateway.errors import TABLE

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers; a token of Core has about 1 KiB. Checked after each read, so what is kept is at most one read more."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `request_timeout_s`: within which each request must have come whole, and the first one after connecting."""

    request_timeout_s = 30.0
    _head_bytes = 0
    """Of the head that is being read or comes next; -1 = a body is being read."""
    _quiet_bytes = 0
    """Of a body's framing since its last byte of content: a chunked body's trailers would otherwise be kept without end."""
    _coming = True
    """Part of a request is still to come."""
    _reading = b""
    """What the parser is being fed now."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.request_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._reading = data
        super().data_received(data)
        self._reading = b""
        if self._coming:
            if self._deadline is None:
                self._deadline = self.loop.call_later(self.request_timeout_s, self._too_slow)
            if self._head_bytes >= 0:
                self._head_bytes += len(data)
            else:
                self._quiet_bytes += len(data)
            if max(self._head_bytes, self._quiet_bytes) > HEAD_LIMIT_BYTES and not self.transport.is_closing():
                self._refuse(errors_pb2.ERROR_REASON_TOO_LARGE, f"The request's head is longer than the limit of {HEAD_LIMIT_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = True

    def on_body(self, body: bytes) -> None:
        # What this read brought beside its content counts from the next read on.
        self._quiet_bytes = -len(self._reading)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises for a target that is no path: then the head is still what is wrong
        self._head_bytes = -1

    def on_message_complete(self) -> None:
        self._coming = False
        self._head_bytes = self._quiet_bytes = 0
        if self._deadline is not None:
            self._no_deadline()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        # Refused here and closed: a handshake that nobody answers would hold its connection for ever.
        self._head_bytes = 0
        self._refuse(errors_pb2.ERROR_REASON_UNSUPPORTED, "This provider has no WebSocket calls yet")

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


def bounded(request_timeout_s: float) -> type[BoundedProtocol]:
    """The protocol with this bound; uvicorn makes its connections itself, so the bound belongs to a class."""
    return type("BoundedProtocol", (BoundedProtocol,), {"request_timeout_s": request_timeout_s})
