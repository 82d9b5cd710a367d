"""A WebSocket without a network: the two ends of ASGI, for what serves a Socket. A test says what comes and sees what is sent.

Rules of uvicorn that matter: `receive` gives messages one by one and then the disconnect; a send after the end fails; a client that does
not read makes `send` wait.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from serai_gateway.codec import Codec
from serai_gateway.ws.socket import Socket
from uvicorn.protocols.utils import ClientDisconnected

_CODEC = Codec()


class Wire:
    """The client's end."""

    def __init__(self, *, query: bytes = b"", headers: Mapping[bytes, bytes] | None = None) -> None:
        self.sent: list[str] = []
        self.status = 0
        """101 or the refusal's; 0 = neither yet."""
        self.refusal: Any = None
        """Body of the refusal."""
        self.code: int | None = None
        """With which the server closed."""
        self.reason = ""
        self.reads = asyncio.Event()
        """The client takes what is sent."""
        self.reads.set()
        self.news = asyncio.Event()
        self._gone = False
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        scope: Any = {
            "type": "websocket",
            "path": "/test",
            "query_string": query,
            "headers": list((headers or {}).items()),
            "extensions": {"websocket.http.response": {}},
        }
        self.socket = Socket(scope, self._receive, self._send, _CODEC, {})

    @asynccontextmanager
    async def served(self, serve: Callable[[Socket], Awaitable[None]]) -> AsyncGenerator[asyncio.Task[None]]:
        """Serves the socket meanwhile; at the end the client goes, and the server's work must end by that."""
        task = asyncio.ensure_future(self._serve(serve))
        try:
            async with asyncio.timeout(20):
                yield task
                self.leave()
                await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _serve(self, serve: Callable[[Socket], Awaitable[None]]) -> None:
        from serai_gateway.http import ClientGone

        try:
            await serve(self.socket)
            await self.socket.close()
        except ClientGone:
            pass

    def say(self, message: str | bytes | dict[str, Any]) -> None:
        """From the client; a dict as JSON."""
        if isinstance(message, bytes):
            self._incoming.put_nowait({"type": "websocket.receive", "bytes": message})
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        """The client's connection ends."""
        self._gone = True
        self.reads.set()
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until something is sent that makes it true; TimeoutError after 10 s."""
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def frames(self, count: int) -> list[Any]:
        """The first `count` messages, decoded."""
        await self.until(lambda: len(self.sent) >= count)
        return [json.loads(message) for message in self.sent[:count]]

    async def closed(self) -> int:
        """The code with which the server closes."""
        await self.until(lambda: self.code is not None)
        assert self.code is not None
        return self.code

    async def _receive(self) -> Any:
        return await self._incoming.get()

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        if self._gone:
            raise ClientDisconnected
        match message["type"]:
            case "websocket.accept":
                self.status = 101
            case "websocket.send":
                assert self.code is None
                self.sent.append(message["text"])
            case "websocket.close":
                self.code, self.reason = message["code"], message["reason"]
                self._incoming.put_nowait({"type": "websocket.disconnect", "code": self.code})
            case "websocket.http.response.start":
                self.status = message["status"]
            case _:
                self.refusal = json.loads(message["body"])
        self.news.set()
