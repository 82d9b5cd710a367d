"""HTTP to Core: what is no answer, whatever goes wrong on the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from serai_gateway.control.transport import LONGEST_ANSWER, Answer, CoreUnreachable, HttpTransport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_call_and_its_answer() -> None:
    """The token and the content type of generation 2021 along, redirects not followed, the connection kept."""
    heads: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await head_of(reader)
            heads.append(head)
            assert await reader.readexactly(2) == b"{}"
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 3\r\n\r\nabc")

    async with listening(serve) as url, HttpTransport(url + "/", timeout_ms=10_000) as transport:
        assert await transport.post("/a/b", b"{}", "the-token") == Answer(302, b"abc")
        assert await transport.post("/c", b"{}", None) == Answer(302, b"abc")
    assert connections == 1
    assert heads[0].startswith(b"POST /a/b HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer the-token\r\n" in heads[0]
    assert b"\r\nContent-Type: application/json; charset=UTF-8\r\n" in heads[0]
    assert b"authorization" not in heads[1].lower()


async def test_a_question_and_its_answer() -> None:
    """GET with its query as it was written, the token along, no body and no type of one; the connection is shared with POST."""
    heads: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await head_of(reader)
            heads.append(head)
            if head.startswith(b"POST"):
                await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with listening(serve) as url, HttpTransport(url, timeout_ms=10_000) as transport:
        assert await transport.get("/browse?itemsPerPage=250&next=a%40b%2F1-", "the-token") == Answer(200, b"{}")
        assert await transport.post("/c", b"{}", None) == Answer(200, b"{}")
    assert connections == 1
    line, _, rest = heads[0].partition(b"\r\n")
    assert line in {b"GET /browse?itemsPerPage=250&next=a%40b%2F1- HTTP/1.1", b"GET /browse?itemsPerPage=250&next=a@b/1- HTTP/1.1"}
    assert b"\r\nAuthorization: Bearer the-token\r\n" in rest
    assert b"content-type" not in rest.lower()
    assert b"content-length" not in rest.lower()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await reader.read()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)


async def cut_in_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")


async def too_long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (10 * LONGEST_ANSWER))
    for _ in range(10 * LONGEST_ANSWER // 65536):
        writer.write(b" " * 65536)
        await writer.drain()


async def bad_gzip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")


@pytest.mark.parametrize("serve", [silent, slow_body, cut, cut_in_body, no_http, too_long, bad_gzip])
@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_what_is_no_answer(serve: Serve, verb: str) -> None:
    """CoreUnreachable, in words without the token."""
    async with listening(serve) as url, HttpTransport(url, timeout_ms=500) as transport:
        with pytest.raises(CoreUnreachable) as caught:
            await (transport.get("/x", "the-token") if verb == "GET" else transport.post("/x", b"{}", "the-token"))
    assert str(caught.value)
    assert "the-token" not in str(caught.value)


async def test_nobody_listens() -> None:
    """Refused connections and unknown names are no answer either."""
    async with listening(silent) as url:
        pass
    for address in (url, "http://no-such-host.invalid"):
        async with HttpTransport(address, timeout_ms=5_000) as transport:
            with pytest.raises(CoreUnreachable):
                await transport.post("/x", b"{}", None)
