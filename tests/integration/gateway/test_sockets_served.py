"""WebSockets at the gateway's own HTTP server: which handshakes pass, what a connection may send, how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.raw_http import RawAnswer, request, say
from fakes.raw_websocket import CONT, TEXT, raw_websocket
from serai_gateway.access import AccessLog
from serai_gateway.codec import Codec
from serai_gateway.door import Door
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.http import Receive, Scope, Send, send_json
from serai_gateway.listeners import listen
from serai_gateway.ws.paths import SocketPath, SocketPaths
from serai_gateway.ws.protocol import MOST_PIECES, Rules
from serai_gateway.ws.socket import Socket
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

CODEC = Codec()
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
LIMIT = 10_000


async def calls(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, 200, b'{"of":"calls"}')


async def console(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, 200, b'{"of":"console"}')


async def echo(socket: Socket) -> None:
    await socket.accept()
    while (message := await socket.receive()) is not None:
        await socket.send(message)


async def pour(socket: Socket) -> None:
    await socket.accept()
    while True:
        await socket.send("x" * 30_000)


async def broken(socket: Socket) -> None:
    await socket.accept()
    raise ValueError("inside")


async def early(socket: Socket) -> None:
    raise ValueError("inside")


class Pages:
    """Applications' web pages, by host name."""

    def wants(self, path: str, headers: Any) -> bool:
        return (b"host", b"app.example.org") in headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send_json(send, 200, b'{"of":"web"}')

    def tunnel(self, transport: asyncio.Transport, target: bytes, headers: Any, state: ServerState) -> None:
        transport.write(b"HTTP/1.1 421 X\r\ncontent-length: %d\r\n\r\n%s" % (len(target), target))
        transport.close()


class Served:
    def __init__(self, port: int, lines: list[bytes], access: AccessLog, stop: Callable[[], Awaitable[None]]) -> None:
        self.port = port
        self.stop = stop
        self._lines = lines
        self._access = access

    def connect(self, path: str, **kwargs: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, ping_interval=None, close_timeout=5, **kwargs)

    async def access(self, count: int) -> list[dict[str, Any]]:
        """The first lines of the access log, once there are that many."""
        async with asyncio.timeout(10):
            while True:
                self._access.close()
                lines = b"".join(self._lines).splitlines()
                if len(lines) >= count:
                    return [json.loads(line) for line in lines]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(*, most_sockets: int = 100, grace_s: float = 2, request_timeout_s: float = 30) -> AsyncGenerator[Served]:
    lines: list[bytes] = []
    access = AccessLog(FakeClock(), write=lines.append)
    handlers = {"echo": echo, "pour": pour, "broken": broken, "early": early}
    entries = [SocketPath(f"/{{provider}}/{name}", serve, Rules(LIMIT)) for name, serve in handlers.items()]
    paths = SocketPaths(entries, frozenset({"example"}))
    pages = Pages()
    door = Door(calls, paths, CODEC, access, web=pages, console=console, most_sockets=most_sockets)
    listener = listen("127.0.0.1", 0)
    server = EmbeddedServer(door, grace_s=grace_s, request_timeout_s=request_timeout_s, sockets=door.rules, pages=pages)
    task = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(60):
            await server.wait_started(task)
            yield Served(listener.getsockname()[1], lines, access, lambda: server.stop(task))
    finally:
        await server.stop(task)
        access.close()
        listener.close()


async def test_messages_go_both_ways() -> None:
    """Text and binary, whole and in pieces; one access line with the bytes of both ways."""
    async with serving() as served:
        async with served.connect("/example/echo?session=hidden") as client:
            for message in ("grüße", b"\x00\xff"):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "pieces"])
            assert await client.recv() == "in three pieces"
        [line] = await served.access(1)
    assert (line["method"], line["path"], line["status"]) == ("WEBSOCKET", "/{provider}/echo", 101)
    assert line["received_bytes"] == line["sent_bytes"] == len("grüße") + 2 + len("in three pieces")


@pytest.mark.parametrize(
    ("host", "path", "who"),
    [
        ("x", "/other", "calls"),
        ("x", "/console", "console"),
        ("x", "/console/jobs", "console"),
        ("x", "/consoles", "calls"),
        ("app.example.org", "/console", "web"),
        ("app.example.org", "/ucloud/example/jobs", "web"),
    ],
)
async def test_requests_go_to_the_part_that_they_are_for(host: str, path: str, who: str) -> None:
    """An application's host name wins over every path: those are the application's own."""
    async with serving() as served:
        answer = await say(served.port, request("GET", path, {"Host": host}))
    assert answer.document == {"of": who}


async def test_a_socket_of_a_name_is_the_names() -> None:
    """The connection of a WebSocket of an application's host name is handed to the applications' part, whatever its path."""
    async with serving() as served:
        answer = await handshake(served, {"Host": "app.example.org"}, path="/any%2Fthing?x")
        assert (answer.status, answer.body) == (421, b"/any%2Fthing?x")
        assert (await handshake(served, {}, path="/anything")).status == 404


async def handshake(served: Served, changed: dict[str, str | None], *, verb: str = "GET", path: str = "/example/echo") -> RawAnswer:
    headers = {name: value for name, value in (UPGRADE | changed).items() if value is not None}
    return await say(served.port, request(verb, path, headers))


@pytest.mark.parametrize(
    ("changed", "verb", "path", "status", "why"),
    [
        ({}, "GET", "/example/none", 404, "no WebSocket call"),
        ({}, "GET", "/other/echo", 404, "no WebSocket call"),
        ({}, "POST", "/example/echo", 400, "is a GET"),
        ({"Sec-WebSocket-Version": "8"}, "GET", "/example/echo", 400, "expected 13"),
        ({"Sec-WebSocket-Version": None}, "GET", "/example/echo", 400, "expected 13"),
        ({"Sec-WebSocket-Key": "eA=="}, "GET", "/example/echo", 400, "16 bytes"),
        ({"Sec-WebSocket-Key": "no base64!"}, "GET", "/example/echo", 400, "16 bytes"),
        ({"Sec-WebSocket-Key": None}, "GET", "/example/echo", 400, "16 bytes"),
        ({"Content-Length": "3"}, "GET", "/example/echo", 400, "no body"),
        ({"X": "y" * 9_000}, "GET", "/example/echo", 400, "at most"),
        ({f"X{n}": "y" for n in range(200)}, "GET", "/example/echo", 400, "at most"),
    ],
)
async def test_handshakes_that_are_wrong(changed: dict[str, str | None], verb: str, path: str, status: int, why: str) -> None:
    """UCloud's error, and the connection ends."""
    async with serving() as served:
        answer = await handshake(served, changed, verb=verb, path=path)
    assert (answer.status, answer.headers.get("connection")) == (status, "close")
    assert why in answer.why


async def test_a_handshake_that_does_not_come_whole_ends() -> None:
    """It has the same time as any other request."""
    async with serving(request_timeout_s=0.3) as served:
        answer = await say(served.port, b"GET /example/echo HTTP/1.1\r\nUpgrade: websocket\r\n")
    assert "did not come whole" in answer.why


async def test_a_handshake_behind_a_request_that_waits_ends_the_connection() -> None:
    """Nobody could say which of the two an answer is for; but one behind an answered request is good."""
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request("GET", "/first"))
        head = await reader.readuntil(b"}")
        writer.write(request("GET", "/example/echo", UPGRADE))
        switched = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        answer = await say(served.port, request("POST", "/first", body=b"x") + request("GET", "/example/echo", UPGRADE))
    assert head.startswith(b"HTTP/1.1 200")
    assert switched.startswith(b"HTTP/1.1 101")
    assert answer.status in {0, 200}


async def closed(client: ClientConnection) -> int:
    """The code with which the other side closes."""
    with pytest.raises(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code is not None
    return client.close_code


async def test_messages_over_the_limit_end_the_connection() -> None:
    """In one frame or in many; and one of endless empty pieces, which have no size."""
    async with serving() as served:
        async with served.connect("/example/echo") as client:
            await client.send("x" * LIMIT)
            assert await client.recv() == "x" * LIMIT
            await client.send("x" * (LIMIT + 1))
            assert await closed(client) == 1009
        async with served.connect("/example/echo") as client:
            with pytest.raises(ConnectionClosedError):
                await client.send(["x" * (LIMIT - 1), "xx"])
                await client.recv()
            assert client.close_code == 1009
        async with served.connect("/example/echo") as client:
            with pytest.raises(ConnectionClosedError):
                await client.send([""] * (MOST_PIECES + 10))
                await client.recv()
            assert client.close_code == 1009


async def test_broken_text_ends_the_connection_and_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """1007 for bytes that are no UTF-8, whole or in pieces; whoever sends them cannot fill the log with them."""
    async with serving() as served:
        for pieces in ([b"\xff"], [b"\xc3", b"("]):
            async with raw_websocket(served.port, "/example/echo", {"Host": "x"}) as client:
                for index, piece in enumerate(pieces):
                    await client.frame(CONT if index else TEXT, piece, fin=index == len(pieces) - 1)
                assert await client.next() is None
                assert client.code == 1007
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_failure_inside_is_told_by_its_id_only(caplog: pytest.LogCaptureFixture) -> None:
    """Fixed words and an id, before and after accepting."""
    async with serving() as served:
        async with served.connect("/example/broken") as client:
            assert await closed(client) == 1011
        with pytest.raises(InvalidStatus) as refused:
            await served.connect("/example/early")
        lines = await served.access(2)
    assert [line["status"] for line in lines] == [101, 500]
    ids = [line["error_id"] for line in lines]
    assert ids[0] in str(client.close_reason)
    body = json.loads(refused.value.response.body)
    assert body["why"] == f"Internal error of the provider, id {ids[1]}"


async def test_too_many_sockets_are_refused() -> None:
    """429 in UCloud's form; when one has left there is room again."""
    async with serving(most_sockets=2) as served:
        async with served.connect("/example/echo"), served.connect("/example/echo"):
            with pytest.raises(InvalidStatus) as refused:
                await served.connect("/example/echo")
            assert refused.value.response.status_code == 429
        async with asyncio.timeout(10):
            while True:
                try:
                    async with served.connect("/example/echo") as client:
                        await client.send("x")
                        assert await client.recv() == "x"
                        break
                except InvalidStatus:
                    await asyncio.sleep(0.01)


async def test_nothing_of_an_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The query and the path may hold secrets: no log line of any level has them."""
    caplog.set_level(logging.DEBUG)
    async with serving() as served:
        async with served.connect("/example/echo?session=topsecret"):
            pass
        with pytest.raises(InvalidStatus):
            await served.connect("/example/early?session=topsecret")
        lines = await served.access(2)
    assert "topsecret" not in json.dumps(lines)
    server = [record for record in caplog.records if not record.name.startswith("websockets.client")]
    assert "topsecret" not in "\n".join(record.getMessage() for record in server)


async def test_a_stop_tells_open_sockets() -> None:
    """1012, "service restart", to those who listen; one that does not read is dropped within the grace."""
    async with serving(grace_s=10) as served, served.connect("/example/echo") as client, served.connect("/example/pour"):
        async with asyncio.timeout(9):
            stopping = asyncio.ensure_future(served.stop())
            assert await closed(client) == 1012
            await stopping
