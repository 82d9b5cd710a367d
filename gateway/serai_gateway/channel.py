"""The server behind a Unix socket: one channel, raw bytes, and creates that wait travel together.

A gRPC call costs several times the rest of a create (facts on speed §4), so while two creates are on their way the others wait and go as
one CreateBulk; each is answered by itself. A lone create is not delayed. Each caller has its own deadline, and one that goes away takes
nothing from the others. (CreateBulk's metadata name the user only when all of its requests have the same one; a job names its owner.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import grpc
import grpc.aio
from google.rpc import code_pb2, status_pb2
from serai.jobs.v1 import jobs_service_pb2
from serai_telemetry.spans import LINKS, MOST_LINKS, TRACEPARENT

from serai_gateway.upstream import USER, UpstreamError, status, varint

CREATE = "/serai.jobs.v1.JobsService/Create"
CREATE_BULK = "/serai.jobs.v1.JobsService/CreateBulk"
LONGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes; as the server's own limit."""
_AT_ONCE = 2
_MOST_GATHERED = 512
_MOST_GATHERED_BYTES = 16 * 1024 * 1024
_DETAILS = "grpc-status-details-bin"

_Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
_Streaming = grpc.aio.UnaryStreamCall[bytes, bytes] | grpc.aio.StreamStreamCall[bytes, bytes]


class ChannelUpstream:
    """The Upstream over grpc.aio; use as `async with`."""

    def __init__(self, address: str) -> None:
        """`address` as gRPC writes it: "unix:/path" or "host:port"."""
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, _Unary] = {}
        self._creates: _Creates | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            self._address,
            options=[
                ("grpc.max_receive_message_length", LONGEST_MESSAGE),
                ("grpc.max_send_message_length", LONGEST_MESSAGE),
                # A server that restarts is found again soon, and no proxy of the environment stands in between.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 2_000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._creates = _Creates(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._creates is not None:
            await self._creates.close()
        if self._channel is not None:
            await self._channel.close()
        self._channel = None
        self._methods.clear()

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method == CREATE and self._creates is not None:
            return await self._creates.create(request, metadata, timeout_s)
        return await self.call(method, request, metadata, timeout_s)

    async def call(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        """One RPC as it is."""
        known = self._methods.get(method)
        if known is None:
            known = self._methods[method] = cast("_Unary", self._open().unary_unary(method))
        try:
            return await known(request, timeout=timeout_s, metadata=tuple(metadata.items()))
        except grpc.aio.AioRpcError as error:
            raise UpstreamError(_status_of(error)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The call was cancelled, not its caller: the channel has been closed meanwhile.
            raise UpstreamError(status(code_pb2.UNAVAILABLE, "the gateway stops")) from error

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        caller = cast("grpc.aio.UnaryStreamMultiCallable[bytes, bytes]", self._open().unary_stream(method))
        async with aclosing(_answers_of(caller(request, metadata=tuple(metadata.items())))) as messages:
            async for message in messages:
                yield message

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        caller = cast("grpc.aio.StreamStreamMultiCallable[bytes, bytes]", self._open().stream_stream(method))
        async with aclosing(_answers_of(caller(requests, metadata=tuple(metadata.items())))) as messages:
            async for message in messages:
                yield message

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the channel is used outside of `async with`")
        return self._channel


async def _answers_of(call: _Streaming) -> AsyncGenerator[bytes]:
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        raise UpstreamError(_status_of(error)) from error
    finally:
        call.cancel()


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except ValueError:
                break
    code = cast("tuple[int, str]", error.code().value)[0]
    return status_pb2.Status(code=code, message=error.details() or "")


@dataclass(slots=True)
class _Waiting:
    request: bytes
    metadata: Mapping[str, str]
    deadline_s: float
    """In the loop's time."""
    answer: asyncio.Future[bytes]


class _Creates:
    """Gathers creates while others are on their way."""

    def __init__(self, channel: ChannelUpstream) -> None:
        self._channel = channel
        self._waiting: deque[_Waiting] = deque()
        self._in_flight = 0
        self._bulks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def create(self, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if self._in_flight < _AT_ONCE:
            self._in_flight += 1
            try:
                return await self._channel.call(CREATE, request, metadata, timeout_s)
            finally:
                self._landed()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, metadata, loop.time() + timeout_s, loop.create_future())
        self._waiting.append(waiting)
        timeout = asyncio.timeout(timeout_s)
        try:
            async with timeout:
                return await waiting.answer
        except TimeoutError as error:
            raise UpstreamError(status(code_pb2.DEADLINE_EXCEEDED, "no answer in time")) from error

    async def close(self) -> None:
        self._closed = True
        for task in self._bulks:
            task.cancel()
        if self._bulks:
            await asyncio.wait(self._bulks)
        self._fail([*self._waiting], UpstreamError(status(code_pb2.UNAVAILABLE, "the gateway stops")))
        self._waiting.clear()

    def _landed(self) -> None:
        self._in_flight -= 1
        batch = [] if self._closed else self._gather()
        if batch:
            self._in_flight += 1
            task = asyncio.create_task(self._send(batch))
            self._bulks.add(task)
            task.add_done_callback(self._bulks.discard)

    def _gather(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < _MOST_GATHERED and (not batch or size < _MOST_GATHERED_BYTES):
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # done = its caller has gone
                batch.append(waiting)
                size += len(waiting.request)
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            await self._send_bulk(batch)
        except UpstreamError as error:
            self._fail(batch, error)
        except asyncio.CancelledError:
            self._fail(batch, UpstreamError(status(code_pb2.UNAVAILABLE, "the gateway stops")))
            raise
        finally:
            self._landed()

    async def _send_bulk(self, batch: list[_Waiting]) -> None:
        # Each caller watches its own deadline; the call itself lives as long as the latest of them.
        timeout_s = max(0.001, max(waiting.deadline_s for waiting in batch) - asyncio.get_running_loop().time())
        metadata = _common(batch)
        if len(batch) == 1:
            _resolve(batch[0], await self._channel.call(CREATE, batch[0].request, metadata, timeout_s))
            return
        request = b"".join(part for waiting in batch for part in (b"\x0a", varint(len(waiting.request)), waiting.request))
        answer = jobs_service_pb2.CreateBulkResponse.FromString(await self._channel.call(CREATE_BULK, request, metadata, timeout_s))
        if len(answer.outcomes) != len(batch):
            raise UpstreamError(status(code_pb2.INTERNAL, "CreateBulk answered another number of requests"))
        for waiting, outcome in zip(batch, answer.outcomes, strict=True):
            if outcome.WhichOneof("outcome") == "error_status":
                _reject(waiting, UpstreamError(status_pb2.Status.FromString(outcome.error_status)))
            else:
                _resolve(waiting, outcome.created.SerializeToString())

    def _fail(self, batch: Sequence[_Waiting], error: UpstreamError) -> None:
        for waiting in batch:
            _reject(waiting, UpstreamError(error.status))


def _resolve(waiting: _Waiting, answer: bytes) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _reject(waiting: _Waiting, error: UpstreamError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _common(batch: Sequence[_Waiting]) -> Mapping[str, str]:
    """What is true of all of them; and of which traces they are, when there are any."""
    first = batch[0].metadata
    if all(waiting.metadata == first for waiting in batch):
        return first
    spans = [span for waiting in batch if (span := waiting.metadata.get(TRACEPARENT))]
    if not spans:
        return first if _same(batch) else {key: value for key, value in first.items() if key != USER}
    kept = {key: value for key, value in first.items() if key != TRACEPARENT and (key != USER or _same(batch))}
    # One of them gets the call into its trace, the others are linked to it.
    return {**kept, TRACEPARENT: spans[0], LINKS: ",".join(spans[1 : MOST_LINKS + 1])}


def _same(batch: Sequence[_Waiting]) -> bool:
    """All come from the same one."""
    return len({waiting.metadata.get(USER) for waiting in batch}) == 1
