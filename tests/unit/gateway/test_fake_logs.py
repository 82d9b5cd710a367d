"""The rules of the fakes with which follows are tested."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.cutting_relay import cutting_relay
from fakes.gateway_logs import ERR, OUT, RUNNING, SERVICE, SUCCESS, FakeJob, FakeLogs
from fakes.raw_websocket import masked
from google.rpc import code_pb2
from serai.jobs.v1 import jobs_service_pb2 as pb2
from serai_gateway.upstream import UpstreamError


async def read(logs: FakeLogs, job_id: str = "1", *, follow: bool = False, at: int = 0) -> list[pb2.FollowResponse]:
    """`at`: offset of rank 0's output."""
    asked = pb2.FollowRequest(job_id=job_id, follow=follow, offsets=[pb2.FollowOffset(rank=0, stream=OUT, offset=at)])
    return [pb2.FollowResponse.FromString(raw) async for raw in logs.stream(SERVICE + "Follow", asked.SerializeToString(), {})]


async def test_follow_gives_what_was_asked_for() -> None:
    """Chunks with offsets, from where one asks; not followed, it ends at the present end."""
    job = FakeJob()
    job.write(b"abcdef")
    job.write(b"oh", 1, ERR)
    found = await read(FakeLogs(jobs={"1": job}, chunk_bytes=4), at=1)
    assert [(chunk.rank, chunk.stream, chunk.offset, chunk.data) for chunk in found] == [
        (0, OUT, 1, b"bcde"),
        (1, ERR, 0, b"oh"),
        (0, OUT, 5, b"f"),
    ]


async def test_follow_ends_with_the_output() -> None:
    """And waits for it until then."""
    job = FakeJob()
    logs = FakeLogs(jobs={"1": job})
    reading = asyncio.create_task(read(logs, follow=True))
    await asyncio.sleep(0)
    job.write(b"x")
    await asyncio.sleep(0)
    assert not reading.done()
    job.become(SUCCESS)
    assert [chunk.data for chunk in await reading] == [b"x"]
    assert logs.open_follows == 0


async def test_what_can_go_wrong() -> None:
    """Unknown jobs, cuts, nobody there."""
    job = FakeJob(over=True)
    job.write(b"abcdef")
    logs = FakeLogs(jobs={"1": job}, chunk_bytes=2, cut_after=2)
    for wanted, code in (("9", code_pb2.NOT_FOUND), ("1", code_pb2.UNAVAILABLE)):
        with pytest.raises(UpstreamError) as error:
            await read(logs, wanted)
        assert error.value.status.code == code
    assert logs.chunks == 2
    logs.down = True
    with pytest.raises(UpstreamError):
        await logs.unary(SERVICE + "Get", pb2.GetRequest(job_id="1").SerializeToString(), {}, 1)


async def test_watch_tells_each_change_until_the_end() -> None:
    """The present state first."""
    job = FakeJob()
    logs = FakeLogs(jobs={"1": job})

    async def watch() -> list[int]:
        request = pb2.WatchRequest(job_id="1").SerializeToString()
        return [pb2.WatchResponse.FromString(raw).job.state async for raw in logs.stream(SERVICE + "Watch", request, {})]

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    job.become(RUNNING)
    await asyncio.sleep(0)
    job.become(SUCCESS)
    assert await watching == [RUNNING, RUNNING, SUCCESS]


async def test_the_relay_cuts_in_the_middle(tmp_path: Path) -> None:
    """What passed before is there; then the connection is gone, and a new one works."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(say, str(tmp_path / "s"))
    async with asyncio.timeout(20), cutting_relay(tmp_path / "r", tmp_path / "s") as relay:
        for cuts in (1, 2):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "r"))
            assert await reader.readexactly(5) == b"hello"
            relay.cut()
            assert await reader.read() == b""
            writer.close()
            assert relay.cuts == cuts
        assert relay.passed == 10
    server.close()


@pytest.mark.parametrize("size", range(10))
def test_masks(size: int) -> None:
    """RFC 6455 §5.3: each byte with that of the key, over and over."""
    data = bytes(range(100, 100 + size))
    assert masked(data) == bytes(byte ^ b"\x11\x22\x33\x44"[n % 4] for n, byte in enumerate(data))
