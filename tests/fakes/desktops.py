"""What may listen at a desktop's port: an RFB server that greets, a websockify that waits, and things that are neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve

GREETING = b"RFB 003.008\n"


@dataclass
class Listening:
    """`greet` first, then every byte comes back."""

    greet: bytes
    port: int = 0
    connections: int = 0
    """That are open."""
    paths: list[str] = field(default_factory=list[str])

    async def raw(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            writer.write(self.greet)
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            writer.close()

    async def socket(self, connection: ServerConnection) -> None:
        self.connections += 1
        assert connection.request is not None
        self.paths.append(connection.request.path)
        try:
            await connection.send(self.greet)
            async for message in connection:
                await connection.send(message)
        finally:
            self.connections -= 1


@asynccontextmanager
async def rfb_server(greet: bytes = GREETING) -> AsyncGenerator[Listening]:
    """As x11vnc does; with another greeting, something else that speaks first."""
    async with _raw(Listening(greet)) as found:
        yield found


@asynccontextmanager
async def websockify() -> AsyncGenerator[Listening]:
    found = Listening(GREETING)
    async with serve(found.socket, "127.0.0.1", 0, subprotocols=["binary"], compression=None) as server:  # pyright: ignore[reportArgumentType]
        found.port = int(next(iter(server.sockets)).getsockname()[1])
        yield found


@asynccontextmanager
async def redirecting(port: int) -> AsyncGenerator[int]:
    """What answers every request by sending it to another port of this machine; the port that it is at itself."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/elsewhere\r\nContent-Length: 0\r\n\r\n" % port)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@asynccontextmanager
async def _raw(found: Listening) -> AsyncGenerator[Listening]:
    serving: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]] = found.raw
    server = await asyncio.start_server(serving, "127.0.0.1", 0)
    found.port = int(server.sockets[0].getsockname()[1])
    try:
        yield found
    finally:
        server.close()
