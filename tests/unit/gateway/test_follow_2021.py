"""Follows of Core of 2021: frames as captured, many on one socket, cancel, ends and errors (facts 2021 §3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.gateway_logs import ERR, RUNNING, SUCCESS, FakeJob, FakeLogs
from fakes.gateway_wire import Wire
from hypothesis import given, settings
from hypothesis import strategies as st
from serai_gateway.auth import AuthError
from serai_gateway.ws.follow import FollowCalls
from serai_gateway.ws.follow_2021 import MOST_STREAMS
from serai_gateway.ws.following import HOLD_S, KEEP_ALIVE_S, MOST_FOLLOWS, Following, Places
from serai_gateway.ws.unproven import MOST_IN_VAIN, WORDS, Unproven
from serai_telemetry.quiet import LINES
from structlog.testing import capture_logs

CALL = "jobs.provider.example.follow"


class OneToken:
    """A Check to which one token is good."""

    def check(self, authorization: bytes | None) -> None:
        if authorization != b"Bearer good":
            raise AuthError("Unauthorized: not the good one")


class Side:
    """Core's side of one socket, and the server behind it."""

    def __init__(self, server: FakeLogs, clock: FakeClock, wire: Wire) -> None:
        self.server = server
        self.clock = clock
        self.wire = wire

    def init(self, stream_id: str, job_id: str = "1", **changed: Any) -> None:
        payload = {"type": "init", "job": {"id": job_id, "owner": {"createdBy": "user"}}}
        self.wire.say(
            {"call": CALL, "streamId": stream_id, "payload": payload, "bearer": "good", "causedBy": None, "project": None} | changed
        )

    def cancel(self, stream_id: str, follow_id: str) -> None:
        self.init(stream_id, payload={"type": "cancel", "streamId": follow_id})

    async def settle(self, seconds: float = 0) -> None:
        for _ in range(40):
            await asyncio.sleep(0)
            self.clock.move(int(seconds * 25))

    async def last(self) -> Any:
        """The newest frame."""
        return json.loads(self.wire.sent[-1])


@asynccontextmanager
async def socket(
    server: FakeLogs,
    *,
    within_s: float = 60,
    most: int = MOST_FOLLOWS,
    headers: dict[bytes, bytes] | None = None,
    before: Callable[[Side], Awaitable[None]] | None = None,
) -> AsyncGenerator[Side]:
    clock = FakeClock()
    following = Following(server, OneToken(), clock, lambda: 0.5, frozenset({"example"}), Unproven(within_s=within_s), Places(most))
    wire = Wire(headers=headers)
    async with wire.served(FollowCalls(following)):
        yield Side(server, clock, wire)
    assert server.open_follows == 0


def data(frame: Any) -> tuple[str, int, str | None, str | None]:
    payload = frame["payload"]
    return frame["streamId"], payload["rank"], payload["stdout"], payload["stderr"]


async def test_a_follow_from_its_first_word_to_its_last() -> None:
    """The first message names the follow, every rank and stream is told, and the response comes once Core knows the job's end."""
    job = FakeJob(replicas=2)
    job.write(b"Hello\n")
    job.write(b"oh\n", 1, ERR)
    async with socket(FakeLogs(jobs={"1": job}), headers={b"ucloud-username": "Zoë".encode()}) as side:
        side.init("0")
        hello, *log = await side.wire.frames(3)
        follow_id = hello["payload"]["streamId"]
        assert hello == {"streamId": "0", "payload": {"streamId": follow_id, "rank": -1, "stdout": None, "stderr": None}, "type": "message"}
        assert [data(frame) for frame in log] == [("0", 0, "Hello\n", None), ("0", 1, None, "oh\n")]
        assert {frame["payload"]["streamId"] for frame in log} == {follow_id}
        job.become(SUCCESS, undelivered=1)
        await side.settle(5)
        assert len(side.wire.sent) == 3  # Core does not know yet
        job.undelivered = 0
        await side.settle(HOLD_S * 0.8)
        assert len(side.wire.sent) == 3  # and then it needs time to look
        await side.settle(HOLD_S)
        assert await side.last() == {
            "streamId": "0",
            "payload": {"streamId": follow_id, "rank": -1, "stdout": None, "stderr": None},
            "status": 200,
            "type": "response",
        }
        assert side.wire.code is None  # the socket stays for the user's other jobs
        assert dict(side.server.metadata[0]) == {"serai-caller": "core", "serai-user": "Zo%C3%AB"}


async def test_a_core_that_cannot_be_told_does_not_hold_a_follow_for_ever() -> None:
    """Half a minute after the job's end it ends all the same."""
    job = FakeJob()
    job.become(SUCCESS, undelivered=2)
    async with socket(FakeLogs(jobs={"1": job})) as side:
        side.init("0")
        async with asyncio.timeout(20):
            while len(side.wire.sent) < 2:
                await side.settle(2)
        assert (await side.last())["status"] == 200


async def test_a_follow_that_waits_for_core_asks_rarely() -> None:
    """Hundreds of jobs may end while Core is away: after a first quick look the looks are seconds apart."""
    looks = 0

    class Counting(FakeLogs):
        async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
            nonlocal looks
            looks += 1
            return await super().unary(method, request, metadata, timeout_s)

    job = FakeJob()
    job.become(SUCCESS, undelivered=2)
    async with socket(Counting(jobs={"1": job})) as side:
        side.init("0")
        async with asyncio.timeout(20):
            while len(side.wire.sent) < 2:
                await side.settle(2)
        assert 5 < looks < 20


async def test_many_follows_share_a_socket() -> None:
    """Also several of one job; each has its own id, its own whole log and its own end."""
    jobs = {str(n): FakeJob() for n in range(3)}
    for n, job in jobs.items():
        job.write(f"job {n}".encode())
    async with socket(FakeLogs(jobs=jobs)) as side:
        for stream_id, job_id in [("a", "0"), ("b", "1"), ("c", "2"), ("d", "0")]:
            side.init(stream_id, job_id)
        frames = await side.wire.frames(8)
        told = {frame["streamId"]: frame["payload"]["stdout"] for frame in frames if frame["payload"]["rank"] == 0}
        assert told == {"a": "job 0", "b": "job 1", "c": "job 2", "d": "job 0"}
        assert len({frame["payload"]["streamId"] for frame in frames}) == 4
        jobs["1"].become(SUCCESS)
        await side.settle(5)
        ended = [json.loads(text) for text in side.wire.sent[8:]]
        assert [(frame["streamId"], frame["status"]) for frame in ended] == [("b", 200)]


async def test_a_cancel_ends_both_streams() -> None:
    """The original with a response, the cancel's own as the reference answers; the other follows go on."""
    jobs = {"1": FakeJob(), "2": FakeJob()}
    async with socket(FakeLogs(jobs=jobs)) as side:
        side.init("0", "1")
        side.init("1", "2")
        frames = await side.wire.frames(2)
        follow_id = next(frame["payload"]["streamId"] for frame in frames if frame["streamId"] == "0")
        side.cancel("2", follow_id)
        frames = (await side.wire.frames(4))[2:]
        assert [(frame["streamId"], frame["status"], frame["payload"]["streamId"]) for frame in frames] == [
            ("0", 200, follow_id),
            ("2", 200, ""),
        ]
        jobs["1"].write(b"nobody reads this")
        jobs["2"].write(b"go on")
        assert data((await side.wire.frames(5))[4]) == ("1", 0, "go on", None)
        side.cancel("3", follow_id)  # once more: it has ended already
        assert (await side.wire.frames(6))[5]["streamId"] == "3"
        assert side.server.open_follows == 1


@pytest.mark.parametrize("bearer", [None, "", "bad"])
async def test_without_the_token_of_core_nothing_is_told(bearer: str | None) -> None:
    """401 on the frame's own stream (facts 2021 §3.2), whatever is asked for."""
    async with socket(FakeLogs(jobs={"1": FakeJob()})) as side:
        side.init("0", bearer=bearer)
        side.init("1", bearer=bearer, payload={"type": "cancel", "streamId": "x"})
        frames = await side.wire.frames(2)
        assert [(frame["streamId"], frame["status"], frame["type"]) for frame in frames] == [("0", 401, "response"), ("1", 401, "response")]
        assert all(frame["payload"] == {"why": "Unauthorized: not the good one", "errorCode": None} for frame in frames)
        assert side.server.asked == []


async def test_an_unknown_job_and_an_unknown_call() -> None:
    """404 each: the job with words, the call with an empty object as the reference (facts 2021 §3.2)."""
    async with socket(FakeLogs()) as side:
        side.init("0", "7")
        side.init("1", call="jobs.provider.other.follow")
        side.init("2", call="files.provider.example.follow")
        side.init("3", payload={"type": "init"})
        frames = await side.wire.frames(5)
        by_stream = {frame["streamId"]: frame for frame in frames if frame["type"] == "response"}
        assert by_stream["0"]["status"] == 404
        assert "no job '7' is known here" in by_stream["0"]["payload"]["why"]
        assert by_stream["1"] == {"streamId": "1", "payload": {}, "status": 404, "type": "response"}
        assert by_stream["2"]["status"] == 404
        assert by_stream["3"]["status"] == 400
        assert "job" in by_stream["3"]["payload"]["why"]


async def test_what_is_no_frame_is_dropped() -> None:
    """Silently (facts 2021 §3.2); so are binary messages. What follows is answered."""
    async with socket(FakeLogs(jobs={"1": FakeJob()})) as side:
        for nonsense in ("", "{", "[]", b"\x00\x01", '{"call":"x"}'):
            side.wire.say(nonsense)
        side.init("0")
        assert (await side.wire.frames(1))[0]["streamId"] == "0"


async def test_a_stream_id_that_is_in_use_is_left_alone() -> None:
    """An answer on it would be taken for the end of the follow that is there."""
    job = FakeJob()
    async with socket(FakeLogs(jobs={"1": job})) as side:
        side.init("0")
        side.init("0")
        await side.wire.frames(1)
        job.write(b"x")
        frames = await side.wire.frames(2)
        assert data(frames[1]) == ("0", 0, "x", None)
        assert side.server.open_follows == 1


async def test_the_end_of_the_socket_ends_its_follows() -> None:
    """Core of 2021 cancels by closing (facts 2021 §3.4)."""
    async with socket(FakeLogs(jobs={"1": FakeJob()})) as side:
        side.init("0")
        side.init("1")
        await side.wire.frames(2)
        await side.settle()
        assert side.server.open_follows == 2


async def test_a_silent_socket_is_kept_alive() -> None:
    """A minute in which nothing was sent; not while there is output."""
    job = FakeJob()
    async with socket(FakeLogs(jobs={"1": job})) as side:
        side.init("0")
        await side.wire.frames(1)
        await side.settle(KEEP_ALIVE_S * 0.9)
        job.write(b"x")
        await side.wire.frames(2)
        await side.settle(KEEP_ALIVE_S * 0.2)
        assert len(side.wire.sent) == 2
        await side.settle(KEEP_ALIVE_S * 1.2)
        assert side.wire.sent[2:] == ['{"ping":"pong"}']


async def test_a_client_that_shows_nothing_is_closed() -> None:
    """Also one that talks without a token: after its time, or after so many frames, of which some are logged."""
    async with socket(FakeLogs(), within_s=0.05) as side:
        assert await side.wire.closed() == 1008
        assert side.wire.reason == WORDS
    async with socket(FakeLogs()) as side:
        with capture_logs() as lines:
            for _ in range(MOST_IN_VAIN + 1):
                side.init("0", bearer="guess")
            assert await side.wire.closed() == 1008
        assert len([line for line in lines if line["event"] == "a follow was refused"]) == LINES
    async with socket(FakeLogs(jobs={"1": FakeJob()}), within_s=1) as side:
        side.init("0")
        await asyncio.sleep(1.1)
        assert side.wire.code is None


async def test_a_slow_reader_slows_all_follows_of_its_socket() -> None:
    """Nothing piles up: one message waits for each, whatever the jobs write; when Core reads again, each gets its turn."""
    jobs = {str(n): FakeJob() for n in range(20)}
    async with socket(FakeLogs(jobs=jobs, chunk_bytes=1_000)) as side:
        for n in jobs:
            side.init(n, n)
        await side.wire.frames(20)
        side.wire.reads.clear()
        for job in jobs.values():
            job.write(b"x" * 1_000_000)
        await side.settle()
        assert side.server.chunks <= 20
        side.wire.reads.set()
        frames = await side.wire.frames(220)
        turns = [frame["streamId"] for frame in frames[20:]]
        assert all(8 <= turns.count(n) <= 12 for n in jobs)


async def test_a_hundred_follows_on_one_socket() -> None:
    """Up to a limit, and one more is told so."""
    jobs = {"1": FakeJob()}
    jobs["1"].write(b"x")
    async with socket(FakeLogs(jobs=jobs)) as side:
        for n in range(MOST_STREAMS + 1):
            side.init(str(n))
        frames = await side.wire.frames(2 * MOST_STREAMS + 1)
        refused = [frame for frame in frames if frame["type"] == "response"]
        assert [(frame["streamId"], frame["status"]) for frame in refused] == [(str(MOST_STREAMS), 429)]
        jobs["1"].become(RUNNING)
        jobs["1"].become(SUCCESS)
        async with asyncio.timeout(20):
            while len(side.wire.sent) < 3 * MOST_STREAMS + 1:
                await side.settle(1)


async def test_all_sockets_together_have_so_many_follows() -> None:
    """One more is told so, with nothing asked of the server for it; where one ends there is a place again."""
    jobs = {"1": FakeJob(), "2": FakeJob()}
    async with socket(FakeLogs(jobs=jobs), most=3) as side:
        for n in range(4):
            side.init(str(n), "1" if n == 0 else "2")
        frames = await side.wire.frames(4)
        [refused] = [frame for frame in frames if frame["type"] == "response"]
        assert (refused["streamId"], refused["status"]) == ("3", 429)
        assert "Too many jobs are followed here" in refused["payload"]["why"]
        await side.settle()
        assert len(side.server.asked) == 3
        side.cancel("c", next(frame["payload"]["streamId"] for frame in frames if frame["streamId"] == "1"))
        await side.wire.frames(6)
        side.init("4", "2")
        assert (await side.wire.frames(7))[6]["type"] == "message"
        jobs["1"].become(SUCCESS)
        await side.settle(5)
        side.init("5", "2")
        assert (await side.wire.frames(9))[8]["type"] == "message"


async def test_a_failure_of_ours_is_an_id_on_that_stream_only() -> None:
    """The others go on; what happened is in our log under the id."""

    class Broken(FakeLogs):
        async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
            if b"bad" in request:
                raise ValueError("secret inside")
            async for answer in super().stream(method, request, metadata):
                yield answer

    job = FakeJob()
    job.write(b"x")
    async with socket(Broken(jobs={"1": job, "bad": FakeJob()})) as side:
        side.init("0", "bad")
        side.init("1", "1")
        frames = await side.wire.frames(4)
        [refused] = [frame for frame in frames if frame["type"] == "response"]
        assert (refused["streamId"], refused["status"]) == ("0", 500)
        assert "secret" not in json.dumps(refused)


FRAMES = st.fixed_dictionaries(
    {
        "call": st.sampled_from([CALL, "x"]),
        "streamId": st.sampled_from(["0", "1", ""]),
        "bearer": st.sampled_from(["good", "bad", None]),
        "payload": st.sampled_from(
            [{}, {"type": "init", "job": {"id": "1"}}, {"type": "init", "job": 1}, {"type": "cancel", "streamId": "x"}, {"type": "cancel"}]
        ),
    }
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=20), FRAMES), max_size=30))
def test_no_order_of_frames_breaks_a_socket(messages: list[Any]) -> None:
    """Whatever comes: the socket lives, and a good follow after it is answered."""

    async def run() -> None:
        async with socket(FakeLogs(jobs={"1": FakeJob(), "9": FakeJob()})) as side:
            for message in messages:
                side.wire.say(message)
            side.init("good", "9")
            await side.wire.until(lambda: any('"streamId":"good"' in text for text in side.wire.sent))

    asyncio.run(run())
