"""A WebSocket client over a bare socket: sends the frames that a test wants to send and answers nothing by itself, not even pings.

So it can be a recorded client: Core of 2021 reads its sockets raw and answers no ping (facts 2021 §3.2); Core of 2026 sends its message in
pieces of 4096 bytes and leaves without a close frame (facts today §8).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x11\x22\x33\x44"


def masked(data: bytes) -> bytes:
    key = int.from_bytes(MASK * (len(data) // 4 + 1), "big") >> (8 * (4 - len(data) % 4))
    return (int.from_bytes(data, "big") ^ key).to_bytes(len(data), "big") if data else b""


class RawWebSocket:
    """After its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pings = 0
        self.received_bytes = 0
        """Payloads of all frames."""
        self.code: int | None = None
        """Of the server's close frame."""

    async def frame(self, opcode: int, data: bytes, *, fin: bool = True) -> None:
        head = bytes([(0x80 if fin else 0) | opcode])
        size = len(data)
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65_536:
            head += bytes([0x80 | 126]) + struct.pack("!H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", size)
        self._writer.write(head + MASK + masked(data))
        await self._writer.drain()

    async def text(self, value: Any, *, pieces: int = 0) -> None:
        """A text message with JSON; `pieces` > 0: fragments of so many bytes."""
        data = (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)).encode()
        parts = [data[start : start + pieces] for start in range(0, len(data), pieces)] if pieces else [data]
        for index, part in enumerate(parts):
            await self.frame(CONT if index else TEXT, part, fin=index == len(parts) - 1)

    async def next(self) -> Any:
        """The next text message, decoded; None = the server closed, with or without a frame."""
        while True:
            try:
                first, second = await self._reader.readexactly(2)
                assert second < 0x80, "a server masks nothing"
                size = second
                if size == 126:
                    (size,) = struct.unpack("!H", await self._reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
                data = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            self.received_bytes += size
            match first & 0x0F:
                case 1:
                    assert first & 0x80, "messages come whole"
                    return json.loads(data)
                case 8:
                    self.code = int.from_bytes(data[:2], "big")
                    return None
                case 9:
                    self.pings += 1
                case other:
                    raise AssertionError(f"opcode {other}")


@asynccontextmanager
async def raw_websocket(port: int, path: str, headers: dict[str, str], *, receive_buffer: int = 0) -> AsyncGenerator[RawWebSocket]:
    """Connected by a handshake with these headers besides the needed ones. `receive_buffer`: bytes that the kernel keeps for us; 0 = its
    own choice. At the end the connection is cut without a word."""
    import socket

    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 16)
    try:
        head = {
            "Host": f"localhost:{port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "ht25O0QA2jc+1yBnSqxHHg==",
        } | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield RawWebSocket(reader, writer)
    finally:
        writer.close()
