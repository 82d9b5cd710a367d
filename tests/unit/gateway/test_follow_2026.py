"""The follow of today's Core: a token in the handshake, one message, and payloads until it may close (facts today §8)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.gateway_logs import ERR, IN_QUEUE, RUNNING, SUCCESS, FakeJob, FakeLogs
from fakes.gateway_wire import Wire
from serai_gateway.auth import AuthError
from serai_gateway.ws.follow import FollowCalls
from serai_gateway.ws.following import HOLD_S, KEEP_ALIVE_S, MOST_FOLLOWS, Following, Places
from serai_gateway.ws.frames import PING
from serai_gateway.ws.log import PATIENCE_MS
from serai_gateway.ws.unproven import Unproven

CALL = "jobs.provider.example.follow"
GOOD = {b"authorization": b"Bearer good"}


class OneToken:
    """A Check to which one token is good."""

    def check(self, authorization: bytes | None) -> None:
        if authorization != b"Bearer good":
            raise AuthError("Unauthorized: not the good one")


class Side:
    """Core's side of the socket."""

    def __init__(self, server: FakeLogs, clock: FakeClock, wire: Wire) -> None:
        self.server = server
        self.clock = clock
        self.wire = wire

    def init(self, job_id: str = "1", **changed: Any) -> None:
        payload: dict[str, Any] = {"type": "init", "job": {"id": job_id, "updates": []}}
        frame: dict[str, Any] = {
            "call": "jobs.provider.example.follow",
            "streamId": "ignored",
            "payload": payload,
            "bearer": "",
            "project": None,
        }
        self.wire.say(frame | changed)

    async def settle(self, seconds: float = 0) -> None:
        for _ in range(40):
            await asyncio.sleep(0)
            self.clock.move(int(seconds * 25))

    def payloads(self) -> list[tuple[int, str | None, str | None]]:
        found = [json.loads(text)["payload"] for text in self.wire.sent]
        return [(payload["rank"], payload["stdout"], payload["stderr"]) for payload in found]


@asynccontextmanager
async def socket(
    server: FakeLogs, *, headers: dict[bytes, bytes] = GOOD, query: bytes = b"", most: int = MOST_FOLLOWS
) -> AsyncGenerator[Side]:
    clock = FakeClock()
    following = Following(server, OneToken(), clock, lambda: 0.5, frozenset({"example"}), Unproven(), Places(most))
    wire = Wire(headers=headers, query=query)
    async with wire.served(FollowCalls(following)):
        yield Side(server, clock, wire)
    assert server.open_follows == 0


async def test_a_follow_from_the_handshake_to_the_close() -> None:
    """Ranks and streams as payloads; closed about two seconds after Core knows the job's end, not before."""
    job = FakeJob(replicas=2)
    job.write("grüße\n".encode())
    job.write(b"oh\n", 1, ERR)
    hint = base64.urlsafe_b64encode("Zoë?>".encode())
    async with socket(FakeLogs(jobs={"1": job}), query=b"usernameHint=" + hint) as side:
        side.init()
        await side.wire.frames(2)
        assert side.payloads() == [(0, "grüße\n", None), (1, None, "oh\n")]
        job.become(SUCCESS, undelivered=1)
        await side.settle(5)
        assert side.wire.code is None
        job.undelivered = 0
        await side.settle(HOLD_S * 0.8)
        assert side.wire.code is None
        await side.settle(HOLD_S)
        assert side.wire.code == 1000
        assert len(side.wire.sent) == 2  # no last word: Core would show it
        assert dict(side.server.metadata[0])["serai-user"] == "Zo%C3%AB%3F%3E"


@pytest.mark.parametrize("authorization", [b"Bearer bad", b"", b"good"])
async def test_a_handshake_without_a_good_token_is_refused(authorization: bytes) -> None:
    """401 and UCloud's error; nothing is accepted."""
    async with socket(FakeLogs(), headers={b"authorization": authorization}) as side:
        await side.wire.until(lambda: side.wire.refusal is not None)
        assert (side.wire.status, side.wire.refusal["statusCode"]) == (401, 401)
        assert side.wire.refusal["why"] == "Unauthorized: not the good one"


async def test_a_job_that_waits_or_is_paused_stays_open() -> None:
    """Its output comes when it comes."""
    job = FakeJob(state=IN_QUEUE)
    async with socket(FakeLogs(jobs={"1": job})) as side:
        side.init()
        await side.settle(30)
        assert (side.wire.sent, side.wire.code) == ([], None)
        job.become(RUNNING)
        job.write(b"x")
        await side.wire.frames(1)


async def test_silence_is_broken_for_users_who_have_left() -> None:
    """Core notices only by messages that it cannot deliver; each is an empty piece of log to a user who is there, so they are rare."""
    async with socket(FakeLogs(jobs={"1": FakeJob()})) as side:
        side.init()
        await side.settle(KEEP_ALIVE_S * 0.9)
        assert side.wire.sent == []
        await side.settle(KEEP_ALIVE_S * 2)
        assert set(side.wire.sent) == {PING}
        assert len(side.wire.sent) <= 2


async def test_what_goes_wrong_is_a_line_of_the_log() -> None:
    """Core shows nothing else to the user; then the close."""
    async with socket(FakeLogs()) as side:
        side.init("7")
        assert await side.wire.closed() == 1000
        assert side.payloads() == [(0, None, "The output cannot be shown: no job '7' is known here\n")]


async def test_more_follows_than_there_is_room_for() -> None:
    """The user reads so."""
    server = FakeLogs(jobs={"1": FakeJob()})
    async with socket(server, most=0) as side:
        side.init()
        assert await side.wire.closed() == 1000
        assert side.payloads() == [(0, None, "The output cannot be shown: Too many jobs are followed here right now, try again later\n")]
        assert server.asked == []


async def test_a_server_that_is_away_is_waited_for() -> None:
    """And when it stays away, the user reads so."""
    server = FakeLogs(jobs={"1": FakeJob()}, down=True)
    async with socket(server) as side:
        side.init()
        await side.settle(PATIENCE_MS / 2_000)
        assert set(side.wire.sent) <= {PING}
        async with asyncio.timeout(20):
            while side.wire.code is None:
                await side.settle(100)
        side.wire.sent = [text for text in side.wire.sent if text != PING]
        assert side.payloads() == [(0, None, "The output cannot be shown: The provider cannot be reached right now, try again\n")]


async def test_what_is_no_follow_is_not_taken_for_one() -> None:
    """The socket waits for the real one; what comes after it means nothing."""
    job = FakeJob()
    job.write(b"x")
    async with socket(FakeLogs(jobs={"1": job})) as side:
        side.wire.say("{")
        side.wire.say(b"\x00")
        side.init(call="jobs.provider.other.follow")
        side.init(payload={"type": "cancel", "streamId": "1"})
        side.init(payload={"type": "init", "job": {}})
        side.init()
        side.init("7")
        side.wire.say("}")
        await side.wire.frames(1)
        assert side.payloads() == [(0, "x", None)]
        assert len(side.server.asked) == 1


async def test_the_end_of_the_socket_ends_the_follow() -> None:
    """Also while Core does not read, and while the server is away."""
    job = FakeJob()
    server = FakeLogs(jobs={"1": job}, chunk_bytes=10)
    async with socket(server) as side:
        side.init()
        job.write(b"x" * 10_000)
        await side.wire.frames(1)
        side.wire.reads.clear()
        await side.settle()
    server.down = True
    async with socket(server) as side:
        side.init()
        await side.settle()
