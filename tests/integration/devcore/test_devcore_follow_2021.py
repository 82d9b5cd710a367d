"""Following a job as Core of 2021 does: pooled sockets, tokens in frames, and when it asks again (facts 2021 §3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from serai_devcore import DevCore, Generation, Settings, acme_request
from serai_devcore.documents import job_document
from serai_devcore.follow import Followed, follow
from serai_devcore.jobs import Job
from serai_devcore.tokens import PrivateKey, generate_key
from websockets.asyncio.server import ServerConnection, serve

G2021 = Generation.G2021


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


@dataclass
class Provider:
    """A provider's WebSocket side; the test says what it answers to each frame."""

    answer: Callable[[ServerConnection, Any], Awaitable[None]]
    frames: list[Any] = field(default_factory=list[Any])
    users: list[str | None] = field(default_factory=list[str | None])
    """Of each socket."""
    open: int = 0

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert "Authorization" not in connection.request.headers
        self.users.append(connection.request.headers.get("UCloud-Username"))
        self.open += 1
        try:
            async for message in connection:
                frame = json.loads(message)
                self.frames.append(frame)
                await self.answer(connection, frame)
        finally:
            self.open -= 1


@asynccontextmanager
async def both(key: PrivateKey, provider: Provider, *ids: str, state: str = "RUNNING") -> AsyncGenerator[DevCore]:
    async with asyncio.timeout(60), serve(provider.serve, "127.0.0.1", 0) as server, DevCore(Settings(generation=G2021)) as core:
        port = next(iter(server.sockets)).getsockname()[1]
        core.add_provider("example", url=f"http://127.0.0.1:{port}", key=key)
        core.expect([job_document(acme_request(), job_id, 0, G2021) for job_id in ids or ("1",)])
        for job in core.jobs:
            job.state = state
        yield core


def job_of(core: DevCore, job_id: str = "1") -> Job:
    job = core.jobs.get(job_id)
    assert job is not None
    return job


def message(frame: Any, text: str) -> str:
    return json.dumps({"streamId": frame["streamId"], "payload": {"streamId": "f", "rank": 0, "stdout": text}, "type": "message"})


def response(frame: Any, status: int, **payload: Any) -> str:
    return json.dumps({"streamId": frame["streamId"], "payload": payload, "status": status, "type": "response"})


async def silent(connection: ServerConnection, frame: Any) -> None:
    pass


async def test_the_frame_is_as_captured(key: PrivateKey) -> None:
    """facts 2021 §3.2: token in the frame, streams counted from 0, the user's name in a header; nothing of the token is recorded."""

    async def refuse(connection: ServerConnection, frame: Any) -> None:
        await connection.send(response(frame, 404, why="no such job", errorCode=None))

    provider = Provider(refuse)
    async with both(key, provider) as core:
        told = await follow(core, "1", username="zoe")
        assert isinstance(told, Followed)
        assert (told.status, told.end, told.inits) == (404, {"why": "no such job", "errorCode": None}, 1)
        [frame] = provider.frames
        assert list(frame) == ["call", "streamId", "payload", "bearer", "causedBy", "project"]
        assert (frame["call"], frame["streamId"]) == ("jobs.provider.example.follow", "0")
        assert (frame["payload"]["type"], frame["payload"]["job"]["id"]) == ("init", "1")
        assert frame["bearer"].count(".") == 2
        assert provider.users == ["zoe"]
        assert frame["bearer"] not in json.dumps([record.to_json() for record in core.requests.find(path="/ucloud/jobs.provider")])


async def test_a_stream_that_ends_too_early_is_asked_for_again(key: PrivateKey) -> None:
    """facts 2021 §3.4: while Core has the job as RUNNING, from the beginning; so the user reads it twice."""
    rounds = 0

    async def end_early(connection: ServerConnection, frame: Any) -> None:
        nonlocal rounds
        rounds += 1
        await connection.send(message(frame, "x"))
        if rounds == 2:
            job_of(core).state = "SUCCESS"
        await connection.send(response(frame, 200, streamId="f", rank=-1))

    async with both(key, Provider(end_early)) as core:
        told = await follow(core, "1", listen_s=20)
        assert isinstance(told, Followed)
        assert (told.inits, len(told.messages), told.closed) == (2, 2, True)


@pytest.mark.parametrize("state", ["SUCCESS", "IN_QUEUE"])
async def test_only_running_jobs_are_asked_for(key: PrivateKey, state: str) -> None:
    """facts 2021 §3.4: nobody is asked for the log of a job that waits or has ended."""
    provider = Provider(silent)
    async with both(key, provider, state=state) as core:
        told = await follow(core, "1", listen_s=1.5)
        assert isinstance(told, Followed)
        assert (told.status, told.inits, provider.users) == (0, 0, [])
        assert state in told.problem


async def test_follows_of_a_user_share_a_socket_and_its_end(key: PrivateKey) -> None:
    """Another user has another socket; when one follow is left, its socket goes with all that is on it."""
    gone = asyncio.Event()

    async def talk(connection: ServerConnection, frame: Any) -> None:
        await connection.send('{"ping":"pong"}')
        await connection.send("{")
        await connection.send(message({"streamId": "99"}, "of nobody"))
        await connection.send(message(frame, frame["payload"]["job"]["id"]))
        if frame["payload"]["job"]["id"] == "2":
            await gone.wait()

    provider = Provider(talk)
    async with both(key, provider, "1", "2", "3") as core:
        stays = asyncio.create_task(follow(core, "2", listen_s=30))
        other = asyncio.create_task(follow(core, "3", username="other", listen_s=30, at_most=1))
        leaves = await follow(core, "1", listen_s=30, at_most=1)
        gone.set()
        told = await stays
        assert isinstance(leaves, Followed)
        assert isinstance(told, Followed)
        assert [payload["stdout"] for payload in leaves.messages if isinstance(payload, dict)] == ["1"]
        assert (told.status, told.end) == (499, {"why": "the connection is closed", "errorCode": None})
        assert isinstance(await other, Followed)
        assert sorted(str(user) for user in provider.users) == ["other", "user"]


async def test_core_leaves_when_it_sees_the_end_of_the_job(key: PrivateKey) -> None:
    """It looks each second, and closes the socket then; the provider need not say anything."""
    provider = Provider(silent)
    async with both(key, provider) as core:
        following = asyncio.create_task(follow(core, "1", listen_s=30))
        await core.until(lambda: True)
        async with asyncio.timeout(20):
            while not provider.frames:
                await asyncio.sleep(0.01)
            job_of(core).state = "SUCCESS"
            told = await following
            assert isinstance(told, Followed)
            assert (told.status, told.closed, told.end) == (101, False, None)
            while provider.open:
                await asyncio.sleep(0.01)


async def test_a_provider_that_cannot_be_reached(key: PrivateKey) -> None:
    """Nobody listens, or the handshake is refused: words and status."""
    provider = Provider(silent)
    async with both(key, provider) as core:
        core.providers["example"].url = "http://127.0.0.1:1"
        told = await follow(core, "1")
        assert isinstance(told, Followed)
        assert (told.status, "cannot be reached" in told.problem) == (0, True)
