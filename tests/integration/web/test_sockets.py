"""WebSockets of applications, by both ways: frames pass as they are, and no faster than the other side takes them."""

from __future__ import annotations

import asyncio
import os
import struct

import pytest
from fakes.web_site import COOKIE, Site, read_answer

SETTLED_S = 0.3
"""A sender that was stopped by the other side's slowness makes no step in this time; one that is not makes hundreds."""


class Socket:
    """A client that says each frame by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def put(self, first: int, data: bytes) -> None:
        """`first`: FIN, reserved bits and opcode."""
        size = len(data)
        length = (
            bytes((0x80 | size,))
            if size < 126
            else bytes((0xFE,)) + struct.pack("!H", size)
            if size < 65_536
            else b"\xff" + struct.pack("!Q", size)
        )
        self.writer.write(bytes((first,)) + length + b"\0\0\0\0" + data)

    async def take(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return first, await self.reader.readexactly(size)


async def connected(web: Site, cookie: str, **headers: str) -> tuple[Socket, str]:
    """A socket to the kernel, and the sub-protocol that was agreed on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1 << 24)
    given = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {**given, **headers}.items())
    writer.write(f"GET /api/kernel?x=a%2Fb HTTP/1.1\r\nHost: {web.host()}\r\nCookie: a=1; {COOKIE}={cookie}\r\n{lines}\r\n".encode())
    answer = await read_answer(reader)
    assert answer.status == 101, answer
    assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    return Socket(reader, writer), answer.header("sec-websocket-protocol")


async def test_everything_that_two_ends_say_passes(web: Site) -> None:
    """Sub-protocols, text and binary, pieces, pings between pieces, the largest frames; the application sees its cookies only."""
    socket, protocol = await connected(web, await web.enter(), Sec_WebSocket_Protocol="kernel.v1, other")
    assert protocol == "kernel.v1"
    async with asyncio.timeout(60):
        socket.put(0x81, b"=2+3")
        assert await socket.take() == (0x81, b"5")
        for first, data in (
            (0x01, b"a"),
            (0x00, b""),
            (0x80, b"b"),
            (0x82, b"\xff" * 70_000),
            (0xC1, b"reserved bit"),
            (0x82, os.urandom(1 << 22)),
        ):
            socket.put(first, data)
            assert await socket.take() == (first, data)
        socket.put(0x89, b"ping")
        assert await socket.take() == (0x8A, b"ping")
    request = web.app().requests[-1]
    assert (request.target, request.header("cookie"), request.header("host")) == ("/api/kernel?x=a%2Fb", "a=1", web.host())
    socket.writer.close()


@pytest.mark.parametrize("who", ["application", "browser"])
async def test_codes_of_closing_pass(web: Site, who: str) -> None:
    """Whoever closes first; then both connections end."""
    socket, _ = await connected(web, await web.enter())
    async with asyncio.timeout(30):
        if who == "application":
            socket.put(0x81, b"close 4001")
            assert await socket.take() == (0x88, b"\x0f\xa1bye")
        else:
            socket.put(0x88, struct.pack("!H", 4002) + b"done")
            assert await socket.take() == (0x88, b"\x0f\xa2done")
        socket.writer.close()
        while web.app().sockets:
            await asyncio.sleep(0.02)


async def test_an_application_may_refuse_a_socket(web: Site) -> None:
    """Its own answer comes through: a path that has no socket."""
    cookie = await web.enter()
    answer = await web.get(
        "/other",
        cookie=cookie,
        Connection="Upgrade",
        Upgrade="websocket",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
    )
    assert (answer.status, answer.body) == (404, b"no kernel here")


async def test_a_browser_that_does_not_read_stops_the_application(web: Site) -> None:
    """What was echoed and not read is bounded: some MiB in all buffers on the way, and then nothing more is taken from the sender."""
    socket, _ = await connected(web, await web.enter())
    transport = socket.writer.transport
    transport.set_write_buffer_limits(0)
    piece, taken = b"x" * 65_000, 0
    async with asyncio.timeout(60):
        while True:
            socket.put(0x82, piece)
            try:
                await asyncio.wait_for(socket.writer.drain(), SETTLED_S)
            except TimeoutError:
                break
            taken += len(piece)
            assert taken < 256 << 20
        for _ in range(taken // len(piece)):
            assert (await socket.take())[1] == piece
    socket.writer.close()


async def test_a_session_that_is_closed_ends_its_sockets(own_way: Site) -> None:
    """By the gateway's own way, at once; Envoy asks once for each socket, and keeps it until its application or its browser ends it."""
    web = own_way
    cookie = await web.enter()
    socket, _ = await connected(web, cookie)
    other, _ = await connected(web, await web.enter())
    web.sessions.close(web.sessions.held[0].told.id)
    async with asyncio.timeout(30):
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await socket.take()
        other.put(0x81, b"=1+1")
        assert await other.take() == (0x81, b"2")
    other.writer.close()
    socket.writer.close()


async def test_a_stop_of_the_gateway_ends_its_sockets(own_way: Site) -> None:
    """It does not wait for what has no end; sockets through Envoy are not its own, and go on."""
    web = own_way
    socket, _ = await connected(web, await web.enter())
    async with asyncio.timeout(30):
        await web.gateway.__aexit__(None, None, None)
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await socket.take()
    socket.writer.close()
