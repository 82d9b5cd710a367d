"""Clients that leave, send nonsense or much at once, before they have their answer: nobody else notices, and no log tells of a failure.

On uvloop, as Serai runs: there a write to a connection that is gone raises, where asyncio's own loop lets it pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
import uvloop
from fakes.raw_http import request
from fakes.raw_websocket import BINARY, CLOSE, CONT, PING, TEXT
from serai.core.v1 import errors_pb2
from serai_gateway.codec import Codec
from serai_gateway.door import Door
from serai_gateway.errors import GatewayError
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.http import ClientGone, Receive, Scope, Send, read_body, send_json
from serai_gateway.listeners import listen
from serai_gateway.protocol import bounded
from serai_gateway.ws.paths import SocketPath, SocketPaths
from serai_gateway.ws.protocol import BoundedWebSocket, Rules
from serai_gateway.ws.socket import Socket
from structlog.testing import capture_logs
from uvicorn import Config
from uvicorn.server import ServerState

HANDSHAKE = request(
    "GET",
    "/example/slow",
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
)
MASK = b"\0\0\0\0"


class Written(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b""
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += bytes(data)

    def close(self) -> None:
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """The test reads."""

    def resume_reading(self) -> None:
        """As above."""


class Slow:
    """Answers when it may; `entered` are requests that came, `left` those that are done with."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.entered = self.left = 0
        self.failed: list[Exception] = []

    async def call(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered += 1
        try:
            await read_body(receive, None, 1_000_000)
            await self.go_on.wait()
            await send_json(send, 200, b"{}")
        except ClientGone:
            pass
        finally:
            self.left += 1

    async def socket(self, socket: Socket, answer: Callable[[Socket], Awaitable[None]]) -> None:
        self.entered += 1
        try:
            await self.go_on.wait()
            await answer(socket)
        except ClientGone:
            pass
        except Exception as error:
            self.failed.append(error)
            raise
        finally:
            self.left += 1

    async def accept(self, socket: Socket) -> None:
        await self.socket(socket, Socket.accept)

    async def refuse(self, socket: Socket) -> None:
        error = GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, "Not here")
        await self.socket(socket, lambda socket: socket.refuse(error))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)


def door_to(slow: Slow, *, refuses: bool) -> Door:
    paths = SocketPaths([SocketPath("/{provider}/slow", slow.refuse if refuses else slow.accept, Rules(1_000))], frozenset({"example"}))
    return Door(slow.call, paths, Codec(), None)


@asynccontextmanager
async def serving(slow: Slow, *, refuses: bool = False) -> AsyncGenerator[int]:
    door = door_to(slow, refuses=refuses)
    listener = listen("127.0.0.1", 0)
    server = EmbeddedServer(door, grace_s=2, sockets=door.rules)
    task = asyncio.create_task(server.serve([listener]))
    try:
        await server.wait_started(task)
        yield listener.getsockname()[1]
    finally:
        await server.stop(task)
        listener.close()


def quietly(main: Coroutine[None, None, None], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but warnings and less in any log, also not that a task failed unseen."""
    with capture_logs() as ours:
        uvloop.run(main)
    assert [line for line in ours if line["log_level"] == "error"] == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("behind", [0, 1, 3])
@pytest.mark.parametrize("goodbye", [b"", b"\0\1garbage\r\n\r\n"], ids=["leaves", "garbage"])
def test_a_request_whose_client_is_gone_is_dropped(behind: int, goodbye: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Also when requests wait behind it on the same connection: none of them is begun, and the one under way writes nothing."""

    async def main() -> None:
        slow = Slow()
        async with serving(slow) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("POST", "/", body=b"x") * (1 + behind))
            await slow.until(lambda: slow.entered == 1)
            if goodbye:
                writer.write(goodbye)
            else:
                writer.transport.abort()
            await asyncio.sleep(0.05)  # whichever comes first, nobody may notice
            slow.go_on.set()
            await slow.until(lambda: slow.left == slow.entered)
            writer.transport.abort()

    quietly(main(), caplog)


@pytest.mark.parametrize("cut", [1, 20, 400], ids=["first byte", "first line", "headers"])
def test_a_head_that_begins_behind_a_long_body_is_no_long_head(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    """A pipelined request whose head is cut by the end of a read of more than 64 KiB: the body before it is not its own."""

    async def main() -> None:
        slow = Slow()
        slow.go_on.set()
        config = Config(slow.call, interface="asgi3", ws="none", lifespan="off", log_config=None)
        config.load()
        protocol = bounded(30.0)(config, ServerState(), {})  # by hand: how much a read brings is chance elsewhere
        transport = Written()
        protocol.connection_made(transport)
        second = request("POST", "/", {"X": "y" * 400}, body=b"x")
        protocol.data_received(request("POST", "/", body=b"x" * 150_000) + second[:cut])
        assert not transport.is_closing()
        protocol.data_received(second[cut:])
        await slow.until(lambda: transport.content.count(b"HTTP/1.1 200 ") == 2)
        protocol.connection_lost(None)

    quietly(main(), caplog)


FRAMES = {
    "not masked": bytes([0x80 | TEXT, 1]) + b"x",
    "a reserved bit": bytes([0xC0 | TEXT, 0x81]) + MASK + b"x",
    "an opcode that is none": bytes([0x83, 0x81]) + MASK + b"x",
    "a piece of nothing": bytes([0x80 | CONT, 0x81]) + MASK + b"x",
    "a ping in pieces": bytes([PING, 0x81]) + MASK + b"x",
    "a close of one byte": bytes([0x80 | CLOSE, 0x81]) + MASK + b"x",
    "too long": bytes([0x80 | BINARY, 0xFF]) + b"\xff" * 8 + MASK,
}


@pytest.mark.parametrize("refuses", [False, True], ids=["accepted", "refused"])
@pytest.mark.parametrize("name", list(FRAMES))
def test_a_frame_that_is_none_before_the_handshake_is_answered(name: str, refuses: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends; there is no WebSocket yet on which one could say why. Who would have accepted or refused it is told."""

    async def main() -> None:
        slow = Slow()
        async with serving(slow, refuses=refuses) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HANDSHAKE)
            await slow.until(lambda: slow.entered == 1)
            writer.write(FRAMES[name])
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            slow.go_on.set()
            await slow.until(lambda: slow.left == 1)
            assert slow.failed == []
            writer.close()

    quietly(main(), caplog)


@pytest.mark.parametrize("refuses", [False, True], ids=["accepted", "refused"])
@pytest.mark.parametrize("name", list(FRAMES))
def test_a_frame_that_is_none_while_the_handshake_is_answered(name: str, refuses: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is on its way in the round of the loop in which the frame is read, so nobody has heard yet that the connection is lost."""

    async def main() -> None:
        slow = Slow()
        door = door_to(slow, refuses=refuses)
        config = Config(door, interface="asgi3", ws="none", lifespan="off", log_config=None)
        config.load()
        protocol = BoundedWebSocket(config, ServerState(), {})  # by hand: what comes in one round is chance elsewhere
        transport = Written()
        protocol.connection_made(transport)
        protocol.data_received(HANDSHAKE)
        await slow.until(lambda: slow.entered == 1)
        slow.go_on.set()
        protocol.data_received(FRAMES[name])
        await slow.until(lambda: slow.left == 1)
        await slow.until(lambda: not protocol.tasks)
        assert slow.failed == []
        assert (transport.content, transport.is_closing()) == (b"", True)
        protocol.connection_lost(None)

    quietly(main(), caplog)


@pytest.mark.parametrize("refuses", [False, True], ids=["accepted", "refused"])
def test_a_client_that_leaves_before_its_handshake_is_answered(refuses: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it would have been accepted or refused: who serves it is told that the client has left."""

    async def main() -> None:
        slow = Slow()
        async with serving(slow, refuses=refuses) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HANDSHAKE)
            await slow.until(lambda: slow.entered == 1)
            writer.transport.abort()
            await asyncio.sleep(0.05)  # whichever comes first, nobody may notice
            slow.go_on.set()
            await slow.until(lambda: slow.left == 1)
            assert slow.failed == []

    quietly(main(), caplog)
