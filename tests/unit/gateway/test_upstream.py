"""The way to the server inside one process: its answers, its errors, its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import pytest
from google.rpc import code_pb2, status_pb2
from serai_gateway.upstream import InProcessUpstream, UpstreamError, closing, varint


class RpcFailure(Exception):
    """As the server's own errors: known by its `status` only."""

    def __init__(self) -> None:
        super().__init__("not found")
        self.status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="not found")


class Dispatcher:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.never = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = False

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str]) -> bytes:
        if self.error is not None:
            raise self.error
        if method == "/never":
            try:
                await self.never.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return request + metadata["k"].encode()

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
        try:
            yield request
            yield metadata["k"].encode()
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
        try:
            async for request in requests:
                yield request + metadata["k"].encode()
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def several(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_an_exchange_passes_each_way() -> None:
    """Each request has its answer, the server's error its status, and who leaves early closes the server's side."""
    upstream = InProcessUpstream(Dispatcher())
    assert [answer async for answer in upstream.exchange("/m", several(b"a", b"c"), {"k": "b"})] == [b"ab", b"cb"]
    with pytest.raises(UpstreamError, match="NOT_FOUND"):
        async for _ in InProcessUpstream(Dispatcher(RpcFailure())).exchange("/m", several(b"a"), {"k": "b"}):
            pass
    dispatcher = Dispatcher()
    async with closing(InProcessUpstream(dispatcher).exchange("/m", several(b"a", b"c"), {"k": "b"})) as answers:
        async for _ in answers:
            break
    assert dispatcher.closed


async def test_an_answer_comes_back_as_it_is() -> None:
    """Bytes in, bytes out, metadata along."""
    upstream = InProcessUpstream(Dispatcher())
    assert await upstream.unary("/m", b"a", {"k": "b"}, 1.0) == b"ab"
    assert [message async for message in upstream.stream("/m", b"a", {"k": "b"})] == [b"a", b"b"]


async def test_the_servers_error_carries_its_status() -> None:
    """In a single answer and in a stream."""
    upstream = InProcessUpstream(Dispatcher(RpcFailure()))
    with pytest.raises(UpstreamError) as caught:
        await upstream.unary("/m", b"", {}, 1.0)
    assert caught.value.status.code == code_pb2.NOT_FOUND
    got: list[bytes] = []
    with pytest.raises(UpstreamError, match="NOT_FOUND"):
        async for message in upstream.stream("/m", b"a", {"k": "b"}):
            got.append(message)  # noqa: PERF401 - what came before the error counts
    assert got == [b"a", b"b"]


async def test_other_errors_stay_what_they_are() -> None:
    """A fault of ours is not dressed up as an answer; a TimeoutError from inside is not our time-out."""
    for error in (ValueError("a fault"), TimeoutError("another's")):
        with pytest.raises(type(error)):
            await InProcessUpstream(Dispatcher(error)).unary("/m", b"", {}, 60.0)


async def test_no_answer_in_time() -> None:
    """DEADLINE_EXCEEDED, and the server's work is cancelled."""
    dispatcher = Dispatcher()
    with pytest.raises(UpstreamError) as caught:
        await InProcessUpstream(dispatcher).unary("/never", b"", {"k": ""}, 0.01)
    assert caught.value.status.code == code_pb2.DEADLINE_EXCEEDED
    assert dispatcher.cancelled.is_set()


async def test_a_stream_that_is_left_is_closed_at_once() -> None:
    """The server must not keep a subscriber that has gone."""
    dispatcher = Dispatcher()
    async with closing(InProcessUpstream(dispatcher).stream("/m", b"a", {"k": "b"})) as stream:
        async for _ in stream:
            break
        assert not dispatcher.closed
    assert dispatcher.closed


@pytest.mark.parametrize(
    ("number", "wire"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (1 << 32, b"\x80\x80\x80\x80\x10")]
)
def test_lengths_are_written_as_protobuf_does(number: int, wire: bytes) -> None:
    """Seven bits at a time, the lowest first."""
    assert varint(number) == wire
