"""Following a job as today's Core does: one fragmented message, and whatever comes back."""

from __future__ import annotations

import http
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from serai_devcore import DevCore, Generation, Outcome, Settings, acme_request
from serai_devcore.documents import job_document
from serai_devcore.follow import FRAME, Followed, follow
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import JsonObject, dig, parse
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

G2026 = Generation.G2026


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@dataclass
class Streams:
    """A provider's WebSocket side; the test says what it answers."""

    answer: Callable[[ServerConnection], Awaitable[None]]
    refusal: tuple[int, str] | None = None
    frames: list[bytes] = field(default_factory=list[bytes])
    request: Request | None = None

    def door(self, connection: ServerConnection, request: Request) -> Response | None:
        self.request = request
        return None if self.refusal is None else connection.respond(http.HTTPStatus(self.refusal[0]), self.refusal[1])

    async def serve(self, connection: ServerConnection) -> None:
        async for frame in connection.recv_streaming(decode=False):
            self.frames.append(bytes(frame) if not isinstance(frame, str) else frame.encode())
        await self.answer(connection)


@asynccontextmanager
async def both(key: PrivateKey, streams: Streams, *, check_support: bool = False) -> AsyncGenerator[DevCore]:
    async with (
        serve(streams.serve, "127.0.0.1", 0, process_request=streams.door) as server,
        DevCore(Settings(generation=G2026, check_support=check_support)) as core,
    ):
        port = next(iter(server.sockets)).getsockname()[1]
        core.add_provider("example", url=f"http://127.0.0.1:{port}", key=key)
        core.expect([job_document(acme_request("ø" * 5000), "1", 0, G2026)])
        yield core


async def nothing(connection: ServerConnection) -> None:
    pass


async def test_the_init_is_one_fragmented_text_message(key: PrivateKey) -> None:
    """today §8 and core-wire/WS_follow.json: path, usernameHint, Bearer, no Origin and no extension; frames of 4096 bytes that may split a
    character; call, streamId, payload, bearer, project."""
    streams = Streams(nothing)
    async with both(key, streams) as core:
        told = await follow(core, "1")
        assert told == Followed(101, None, (), closed=True)
        assert streams.request is not None
        assert streams.request.path == "/ucloud/jobs.provider.example/websocket?usernameHint=dXNlcg=="
        names = {name.lower() for name, _ in streams.request.headers.raw_items()}
        assert names == {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "authorization", "user-agent"}
        sizes = [len(frame) for frame in streams.frames]
        assert sizes[0] == FRAME == 4096
        assert len(sizes) > 2
        init = parse(b"".join(streams.frames))
        assert {name: init[name] for name in ("call", "streamId", "bearer", "project")} == {
            "call": "jobs.provider.example.follow",
            "streamId": "ignored",
            "bearer": "",
            "project": None,
        }
        assert (dig(init, "payload", "type"), dig(init, "payload", "job", "id")) == ("init", "1")


async def test_messages_come_back_until_the_provider_closes(key: PrivateKey) -> None:
    """today §8: only `payload` is read; other text is kept as it is; a binary message ends the session."""
    line: JsonObject = {"rank": 0, "stdout": "hi\n"}

    async def talk(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "message", "streamId": "1", "payload": line}))
        await connection.send('{"ping":"pong"}')

    async def bytes_first(connection: ServerConnection) -> None:
        await connection.send(b"\0")
        await connection.wait_closed()

    async with both(key, Streams(talk)) as core:
        assert await follow(core, "1") == Followed(101, None, (line, {"ping": "pong"}), closed=True)
        assert core.requests.find(path="/ucloud/jobs.provider")[0].status == 101
    async with both(key, Streams(bytes_first)) as core:
        assert await follow(core, "1") == Followed(101, None)


async def test_a_refused_handshake_tells_status_and_words(key: PrivateKey) -> None:
    """today §8: refusing the handshake ends the user's session; here with what the provider said."""
    streams = Streams(nothing, refusal=(400, '{"why":"Logs are not streamed yet"}'))
    async with both(key, streams) as core:
        assert await follow(core, "1") == Followed(400, {"why": "Logs are not streamed yet"})
        core.providers["example"].url = "http://127.0.0.1:1"
        gone = await follow(core, "1")
        assert isinstance(gone, Followed)
        assert (gone.status, "cannot be reached" in gone.problem) == (0, True)


async def test_core_itself_refuses_what_is_not_declared(key: PrivateKey) -> None:
    """today §4: `logs` decides whether the provider is asked."""
    streams = Streams(nothing)
    async with both(key, streams, check_support=True) as core:
        told = await follow(core, "1")
        assert isinstance(told, Outcome)
        assert (told.status, streams.request) == (400, None)
