"""Spans of calls: each has its code, and only what is the server's fault is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import pytest
from fakes.kept_spans import Kept
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from serai.jobs.v1.jobs_service_pb2 import GetRequest
from serai_server.rpc.access import OPEN
from serai_server.rpc.body import Coming
from serai_server.rpc.call import Call
from serai_server.rpc.chain import Identify
from serai_server.rpc.marks import by_marks
from serai_server.rpc.methods import Method, Request, Shape
from serai_server.rpc.status import RpcFailure
from serai_server.rpc.traced import TracedChain
from serai_telemetry.spans import REASON

FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
BOTH = pytest.mark.parametrize("shape", [Shape.UNARY_UNARY, Shape.UNARY_STREAM], ids=lambda shape: shape.name)


class Ends:
    """A chain whose calls all end in one way."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    async def once(self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks) -> bytes:
        if self.error is not None:
            raise self.error
        return b"answer"

    async def many(
        self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks
    ) -> AsyncGenerator[bytes, None]:
        yield b"answer"
        if self.error is not None:
            raise self.error


async def once(request: object, call: Call) -> Message:
    raise NotImplementedError


async def many(request: object, call: Call) -> AsyncIterator[Message]:
    raise NotImplementedError
    yield GetRequest()


def method(shape: Shape) -> Method:
    is_stream = shape.many_answers
    return Method("/test/Call", shape, lambda read: read, once=None if is_stream else once, many=many if is_stream else None, rule=OPEN)


async def span_of(shape: Shape, error: BaseException | None = None) -> ReadableSpan:
    """Of one call that ends so."""
    kept = Kept()
    chain = TracedChain(Ends(error), kept.traces)
    try:
        if shape.many_answers:
            assert [answer async for answer in chain.many(method(shape), b"", {})] == [b"answer"]
        else:
            assert await chain.once(method(shape), b"", {}) == b"answer"
    except (RpcFailure, asyncio.CancelledError) as raised:
        assert raised is error
    return kept.spans()["test/Call"]


def code_of(span: ReadableSpan) -> object:
    return (span.attributes or {})["rpc.grpc.status_code"]


@BOTH
async def test_what_went_well_has_a_code_too(shape: Shape) -> None:
    """0: so calls that went well can be asked for."""
    span = await span_of(shape)
    assert code_of(span) == 0
    assert span.status.is_unset


@BOTH
@pytest.mark.parametrize("code", [code for code in code_pb2.Code.keys() if code != "OK"])  # noqa: SIM118 - an enum of protobuf
async def test_only_faults_are_errors(shape: Shape, code: str) -> None:
    """Whoever watches for errors is not woken by a caller's typing mistake; its code and reason are there all the same."""
    number = code_pb2.Code.Value(code)
    span = await span_of(shape, RpcFailure(status_pb2.Status(code=number)))
    assert code_of(span) == number
    assert (span.status.status_code is StatusCode.ERROR) == (code in FAULTS)
    assert (span.attributes or {})["error.type" if code in FAULTS else REASON] == code


@BOTH
async def test_a_caller_that_goes_is_no_error(shape: Shape) -> None:
    """The code is CANCELLED."""
    span = await span_of(shape, asyncio.CancelledError())
    assert code_of(span) == code_pb2.CANCELLED
    assert span.status.is_unset


async def test_a_stream_that_nobody_reads_on_is_cancelled() -> None:
    """A follower that has seen enough."""
    kept = Kept()
    async with aclosing(TracedChain(Ends(), kept.traces).many(method(Shape.UNARY_STREAM), b"", {})) as answers:
        await anext(answers)
    span = kept.spans()["test/Call"]
    assert code_of(span) == code_pb2.CANCELLED
    assert span.status.is_unset
