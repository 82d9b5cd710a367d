"""A small application with a web page, as a notebook server is one: HTTP, a WebSocket to a kernel, own cookies, a check of Origin.

Runs as a program of its own with the standard library only (`python notebook.py PORT`, at the machine's own name, so that two ranks may do
it), so that a sandbox can run it, or inside a test. It answers what it got, so that a test can see what came through.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import struct
import sys
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

PAGE = """<!doctype html><title>Notebook</title><h1>Notebook</h1>
<input id="code" autofocus><pre id="out"></pre><p id="state">connecting</p>
<script>
const socket = new WebSocket(location.href.replace(/^http/, "ws") + "api/kernel", "kernel.v1");
const out = document.getElementById("out"), code = document.getElementById("code"), state = document.getElementById("state");
socket.onopen = () => { state.textContent = "connected"; };
socket.onclose = () => { state.textContent = "closed"; };
socket.onmessage = (event) => { out.textContent += event.data + "\\n"; };
code.onkeydown = (event) => { if (event.key === "Enter") { socket.send("=" + code.value); code.value = ""; } };
</script>
"""
PIECE = 64 * 1024
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_PAGES = {
    "/": (PAGE.encode(), ["Content-Type: text/html", "Set-Cookie: _xsrf=2|a|b; Path=/"]),
    "/evil": (
        b"evil",
        [
            "Set-Cookie: __Host-serai-session=x; Path=/; Secure",
            "Set-Cookie: serai-session=planted; Domain=localhost",
            "Set-Cookie: own=1; Path=/",
        ],
    ),
    "/early": (b"x" * 100, ["X-Serai-Target: 1.2.3.4:5", "Connection: close, x-secret", "X-Secret: 1"]),
    "/none": (b"", ['ETag: "a"']),
}


@dataclass
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass
class Notebook:
    """The application. `port` is set by `start`."""

    name: str = "notebook"
    port: int = 0
    requests: list[Request] = field(default_factory=list[Request])
    sockets: int = 0
    """WebSockets that are open."""
    streams: int = 0
    """Answers without an end that are open."""
    sent: int = 0
    """Bytes of downloads that the other side has taken, or the buffers on the way."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """Until then a body at /asleep is not read."""
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> Notebook:
        self.server = await asyncio.start_server(self._serve, host, port)
        self.port = int(self.server.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """As a replica that is killed: everything that is open breaks."""
        if self.server is not None:
            self.server.close()
        for writer in [*self.writers]:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while (request := await _read_head(reader)) is not None:
                self.requests.append(request)
                if request.header("upgrade").lower() == "websocket":
                    await self._socket(request, reader, writer)
                    return
                if not await self._answer(request, reader, writer):
                    return
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            pass  # the other side has left, or the program ends
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        parts = urlsplit(request.target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/asleep":
            await self.awake.wait()
        length, digest = await _read_body(request, reader)
        match parts.path:
            case "/download":
                return await self._stream(writer, int(query["n"]), chunked="chunked" in query)
            case "/events":
                return await self._events(writer)
            case "/short":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
                await writer.drain()
                return False
            case path:
                told = {"name": self.name, "method": request.method, "target": request.target, "headers": request.headers}
                echo = json.dumps({**told, "length": length, "sha256": digest}).encode(), ["Content-Type: application/json"]
                body, headers = _PAGES.get(path, echo)
                return await _send(writer, request, 304 if path == "/none" else 200, body, headers)

    async def _stream(self, writer: asyncio.StreamWriter, size: int, *, chunked: bool) -> bool:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        piece = bytes(range(256)) * (PIECE // 256)
        while size:
            part = piece[: min(size, PIECE)]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            await writer.drain()
            size -= len(part)
            self.sent += len(part)
        if chunked:
            writer.write(b"0\r\n\r\n")
        return True

    async def _events(self, writer: asyncio.StreamWriter) -> bool:
        """Server-sent events, one at once and then one a second, until the client leaves."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.streams += 1
        try:
            while not writer.is_closing():
                writer.write(b"f\r\ndata: a tick\n\n\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.2)
        finally:
            self.streams -= 1
        return False

    async def _socket(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not request.target.split("?")[0].endswith("/api/kernel"):
            await _send(writer, request, 404, b"no kernel here", [])
            return
        if urlsplit(request.header("origin")).netloc not in ("", request.header("host")):
            await _send(writer, request, 403, b"another origin", [])
            return
        accept = base64.b64encode(hashlib.sha1(request.header("sec-websocket-key").encode() + _MAGIC).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
        if offered := request.header("sec-websocket-protocol"):
            lines.append(f"Sec-WebSocket-Protocol: {offered.split(',')[0].strip()}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        self.sockets += 1
        try:
            await _kernel(reader, writer)
        finally:
            self.sockets -= 1


async def _kernel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echoes frames as they are; `=1+2` is answered with 3; `close 4001` closes with that code."""
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        mask = await reader.readexactly(4)
        data = _unmasked(await reader.readexactly(length), mask)
        opcode = first & 0x0F
        if opcode == 8:
            writer.write(_frame(0x88, data))
            await writer.drain()
            return
        if opcode == 9:
            first = 0x80 | 10
        elif first == 0x81 and data.startswith(b"="):
            data = _evaluated(data[1:].decode()).encode()
        elif first == 0x81 and data.startswith(b"close "):
            first, data = 0x88, struct.pack("!H", int(data[6:])) + b"bye"
        writer.write(_frame(first, data))
        await writer.drain()


def _unmasked(data: bytes, mask: bytes) -> bytes:
    whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)], "big")
    return whole.to_bytes(len(data), "big")


def _evaluated(code: str) -> str:
    return str(sum(int(number) for number in code.split("+")))


def _frame(first: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return bytes((first, size)) + data
    return (bytes((first, 126)) + struct.pack("!H", size) if size < 65_536 else bytes((first, 127)) + struct.pack("!Q", size)) + data


async def _read_head(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split("\r\n")
    method, target, _ = first.split(" ")
    return Request(method, target, [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])


async def _read_body(request: Request, reader: asyncio.StreamReader) -> tuple[int, str]:
    digest, length = hashlib.sha256(), 0
    if request.header("transfer-encoding").lower() == "chunked":
        while size := int((await reader.readline()).strip(), 16):
            digest.update(await reader.readexactly(size))
            await reader.readexactly(2)
            length += size
        await reader.readline()
    else:
        left = int(request.header("content-length") or 0)
        while left:
            piece = await reader.read(min(left, PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            digest.update(piece)
            left -= len(piece)
            length += len(piece)
    return length, digest.hexdigest()


async def _send(writer: asyncio.StreamWriter, request: Request, status: int, body: bytes, headers: list[str]) -> bool:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if request.method == "HEAD" else body))
    await writer.drain()
    return "connection: close" not in {line.lower()[:17] for line in headers}


async def main(port: int) -> None:
    host = socket.gethostname()
    notebook = await Notebook(host).start(port, host)
    assert notebook.server is not None
    with contextlib.suppress(asyncio.CancelledError):
        await notebook.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
