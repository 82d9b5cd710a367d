"""One WebSocket as those who serve it see it: accept or refuse, receive, send, close; and what the access log wants to know of it.

Sends of several tasks go one after the other, so a slow client makes all of them wait and nothing piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import cast

from uvicorn.protocols.utils import ClientDisconnected

from serai_gateway import errors
from serai_gateway.codec import Codec
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone, Headers, Message, Receive, Scope, Send, refuse_websocket

SWITCHED = 101
"""Status of a handshake that was accepted."""
NORMAL = 1000
POLICY = 1008
"""Close codes of RFC 6455 §7.4.1."""
INTERNAL = 1011


class Socket:
    """From its handshake to its end."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, codec: Codec, parameters: Mapping[str, str]) -> None:
        """`parameters`: what stands at the names of the path's template."""
        self.path = scope.get("path", "")
        self.query = scope.get("query_string", b"")
        self.headers: Headers = tuple(scope.get("headers", ()))
        self.subprotocols = tuple(scope.get("subprotocols", ()))
        self.parameters = parameters
        self.status = 0
        """101 = accepted, else that of the refusal; 0 = neither yet."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.close_code: int | None = None
        """RFC 6455's, from whichever side closed first; None = open."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._codec = codec
        self._turn = asyncio.Lock()

    @property
    def open(self) -> bool:
        return self.status == SWITCHED and self.close_code is None

    def header(self, name: bytes) -> bytes | None:
        """The value of the header (`name` in lower case); None = it is not there, b"" = it is there more than once."""
        found = [value for given, value in self.headers if given == name]
        return found[0] if len(found) == 1 else b"" if found else None

    async def accept(self, subprotocol: str | None = None) -> None:
        """ClientGone when the client has left meanwhile."""
        if (await self._receive())["type"] != "websocket.connect":
            raise ClientGone
        await self._put({"type": "websocket.accept", "subprotocol": subprotocol})
        self.status = SWITCHED

    async def refuse(self, error: GatewayError) -> None:
        """Instead of accepting: the handshake's answer is UCloud's error. ClientGone when the client has left meanwhile."""
        self.status = error.row.http_status
        body = self._codec.write(errors.message(error.row, error.why))
        await refuse_websocket(self._scope, self._receive, self._put, self.status, body)

    async def receive(self) -> str | bytes | None:
        """The next message; None = the socket is closed, by either side."""
        if self.close_code is not None:
            return None
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.close_code = self.close_code or cast("int", message.get("code", 1005))
            return None
        text = message.get("text")
        found = cast("str | bytes", text if text is not None else message.get("bytes", b""))
        self.received_bytes += len(found)
        return found

    async def send(self, message: str | bytes) -> None:
        """Returns when the client takes more. ClientGone when it is closed."""
        async with self._turn:
            if self.close_code is not None:
                raise ClientGone
            kind = "text" if isinstance(message, str) else "bytes"
            await self._put({"type": "websocket.send", kind: message})
            self.sent_bytes += len(message)

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Nothing happens when it is closed already. `reason` is for programs' logs: at most 123 bytes."""
        if self.open:
            self.close_code = code
            with contextlib.suppress(ClientGone):
                await self._put({"type": "websocket.close", "code": code, "reason": reason})

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
        except (ClientDisconnected, RuntimeError) as error:
            # RuntimeError is uvicorn's word for a connection that it has begun to close by itself.
            self.close_code = self.close_code or 1006
            raise ClientGone from error
