"""Watching and following over a server that breaks off, with both clients."""

# The fake answers only the calls that these tests make.
# pyright: reportAbstractUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from fake_serai import AWAY, DROPPED, RESET, SILENT_END, FakeSerai, serving
from serai_client import AsyncClient, Client, Options, is_final, reason
from serai_client.api.jobs.v1 import jobs_service_pb2 as pb

LOG = b"a log of some length"


async def collect(address: str, offsets: Iterable[pb.FollowOffset] = (), **options: float) -> bytes:
    async with AsyncClient(address, **Options(patience_s=options.get("patience_s", 60))) as client:
        return b"".join([piece.data async for piece in client.follow("1", offsets=offsets)])


async def collect_plainly(address: str, offsets: Iterable[pb.FollowOffset] = (), **options: float) -> bytes:
    def collect_() -> bytes:
        with Client(address, **Options(patience_s=options.get("patience_s", 60))) as client:
            return b"".join(piece.data for piece in client.follow("1", offsets=offsets))

    return await asyncio.to_thread(collect_)


Collect = Callable[..., Awaitable[bytes]]
both = pytest.mark.parametrize("collect", [collect, collect_plainly], ids=["asyncio", "plain"])


@both
@pytest.mark.parametrize("back", [0, 1, 3])
async def test_follow_goes_on_where_it_was(collect: Collect, back: int, short: Path) -> None:
    """Output is whole and nothing comes twice, however the stream breaks, also when a server begins a little before what was asked for."""
    fake = FakeSerai(LOG, breaks=[AWAY, RESET, DROPPED], back=back)
    async with serving(fake, short) as address:
        assert await collect(address) == LOG
    assert fake.streams == 4


@both
async def test_a_quiet_stream_does_not_use_up_patience(collect: Collect, short: Path) -> None:
    """However long a stream had nothing to tell, it is opened again after a break, and after the next one."""
    fake = FakeSerai(LOG, breaks=[AWAY, RESET], quiet_s=0.3)
    async with serving(fake, short) as address:
        assert await collect(address, patience_s=0.1) == LOG
    assert fake.streams == 3


async def test_a_quiet_watch_does_not_use_up_patience(short: Path) -> None:
    """As following."""
    for plain in (False, True):
        fake, options = FakeSerai(breaks=[AWAY, RESET], quiet_s=0.3), Options(patience_s=0.1)
        async with serving(fake, short) as address:
            if plain:
                with Client(address, **options) as client:
                    assert is_final((await asyncio.to_thread(client.until_final, "1")).state)
            else:
                async with AsyncClient(address, **options) as client:
                    assert is_final((await client.until_final("1")).state)
        assert fake.streams == 3


@both
async def test_output_that_is_left_out_is_an_error(collect: Collect, short: Path) -> None:
    """Nobody takes what is there for the whole."""
    fake = FakeSerai(LOG, breaks=[AWAY], back=-2)
    async with serving(fake, short) as address:
        with pytest.raises(grpc.RpcError, match="bytes 6 to 8 of the output of rank 0 did not come"):
            await collect(address)
    assert fake.streams == 2


async def test_closing_a_client_ends_its_watch(short: Path) -> None:
    """It does not look for the server again."""
    with Client(f"unix:{short / 'nobody'}") as client:
        watching = asyncio.ensure_future(asyncio.to_thread(client.until_final, "1"))
        await asyncio.sleep(0.3)
    with pytest.raises(grpc.RpcError):
        async with asyncio.timeout(30):
            await watching


@both
async def test_follow_begins_at_offsets(collect: Collect, short: Path) -> None:
    """Whoever kept the offset goes on from there."""
    async with serving(FakeSerai(LOG), short) as address:
        assert await collect(address, [pb.FollowOffset(stream=pb.OUTPUT_STREAM_STDOUT, offset=9)]) == b"some length"


@both
@pytest.mark.parametrize(("code", "word"), [(grpc.StatusCode.NOT_FOUND, "JOB_UNKNOWN"), (grpc.StatusCode.INTERNAL, "UNSPECIFIED")], ids=str)
async def test_errors_of_serai_end_streams(collect: Collect, code: grpc.StatusCode, word: str, short: Path) -> None:
    """An error that Serai sent is an answer and not a break."""
    fake = FakeSerai(LOG, breaks=[(code, word)])
    async with serving(fake, short) as address:
        with pytest.raises(grpc.RpcError) as raised:
            await collect(address)
    assert (reason(raised.value), fake.streams) == (word, 1)


@both
async def test_patience_ends(collect: Collect, short: Path) -> None:
    """A server that stays away is told as what it is when patience is over."""
    with pytest.raises(grpc.RpcError) as raised:
        await collect(f"unix:{short / 'nobody'}", patience_s=0)
    assert isinstance(raised.value, grpc.Call | grpc.aio.AioRpcError)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watch_ends_with_the_final_report(short: Path) -> None:
    """Whatever broke before it, also when the server ends the stream as if it had told everything."""
    fake = FakeSerai(breaks=[AWAY, SILENT_END])
    async with serving(fake, short) as address:
        async with AsyncClient(address) as client:
            assert is_final((await client.until_final("1")).state)
        fake.breaks = [*fake.breaks, AWAY, SILENT_END]
        fake.streams = 2
        with Client(address) as client:
            assert is_final((await asyncio.to_thread(client.until_final, "1")).state)
    assert fake.streams == 5


async def test_leaving_a_loop_ends_the_call(short: Path) -> None:
    """The server need not write for a reader who is gone."""
    fake = FakeSerai(b"x" * 1_000_000)
    async with serving(fake, short) as address:
        async with AsyncClient(address) as client, aclosing(client.follow("1")) as pieces:
            await anext(pieces)
        with Client(address) as client:
            plain = client.follow("1")
            await asyncio.to_thread(next, plain)
            plain.close()
            async with asyncio.timeout(30):
                assert [await fake.ended.get() for _ in range(2)] == [True, True]


async def test_cancelling_a_task_ends_its_wait(short: Path) -> None:
    """A program that is being stopped does not wait for a server that is away."""
    async with AsyncClient(f"unix:{short / 'nobody'}") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.until_final("1")


async def _get(address: str, options: Options, own_s: float | None) -> None:
    async with AsyncClient(address, **options) as client:
        await client.jobs.Get(pb.GetRequest(), timeout=own_s)


async def _get_plainly(address: str, options: Options, own_s: float | None) -> None:
    with Client(address, **options) as client:
        await asyncio.to_thread(lambda: client.jobs.Get(pb.GetRequest(), timeout=own_s))


@pytest.mark.parametrize("get", [_get, _get_plainly], ids=["asyncio", "plain"])
async def test_calls_carry_the_token_and_a_deadline(get: Callable[[str, Options, float | None], Awaitable[None]], short: Path) -> None:
    """A time-out of the call's own is kept."""
    fake = FakeSerai()
    async with serving(fake, short) as address:
        options = Options(token="serai_1_secret", call_timeout_s=100)
        await get(address, options, None)
        assert fake.metadata["authorization"] == "Bearer serai_1_secret"
        assert 80 < fake.left_s < 120
        await get(address, options, 50)
        assert 30 < fake.left_s < 60
