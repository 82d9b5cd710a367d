"""The few pieces of ASGI that the gateway needs: reading a body with a limit, sending an answer. Thin on purpose: every create pays for it.

Source of the message forms: the ASGI specification 3.0, HTTP and WebSocket message format.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Required, TypedDict, cast

from serai.core.v1 import errors_pb2

from serai_gateway.errors import GatewayError

Headers = Iterable[tuple[bytes, bytes]]
Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Scope(TypedDict, total=False):
    """What a server tells of a connection; only the keys that are read here."""

    type: Required[str]
    """"http", "websocket" or "lifespan"."""
    method: str
    http_version: str
    client: tuple[str, int] | None
    """Address and port of the other side; None on a Unix socket."""
    path: str
    """Percent-decoded."""
    raw_path: bytes
    """As it came."""
    query_string: bytes
    """As it came, without the question mark."""
    headers: Headers
    """Names in lower case."""
    extensions: dict[str, object] | None
    subprotocols: Iterable[str]
    """Of a WebSocket's handshake."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


_JSON = (b"content-type", b"application/json")


def _too_large(limit: int) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_TOO_LARGE, f"The request's body is longer than the limit of {limit} bytes")


async def read_body(receive: Receive, declared: bytes | None, limit: int) -> bytes:
    """The whole body; `declared` is the Content-Length header. GatewayError (413) as soon as it is sure to be too long; ClientGone."""
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body, more = _part(await receive())
    if more:
        parts = [body]
        size = len(body)
        while more and size <= limit:
            body, more = _part(await receive())
            parts.append(body)
            size += len(body)
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] != "http.request":
        raise ClientGone
    return cast("bytes", message.get("body", b"")), bool(message.get("more_body"))


async def send_json(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    """The answer; a 304 has no body, and the length that it would name is not that of nothing."""
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *extra] if status != 304 else list(extra)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_websocket(scope: Scope, receive: Receive, send: Send, status: int, body: bytes) -> None:
    """Answers a WebSocket handshake with an error: as HTTP where the server can, else with its plain refusal (403)."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
