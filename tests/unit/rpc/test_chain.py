"""The chain in all four call shapes: identity, error mapping, deadline, cancellation, log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

import pytest
import structlog
from google.rpc import code_pb2
from serai.jobs.v1.jobs_service_pb2 import GetRequest
from serai_server.errors import JobUnknown, Unauthenticated
from serai_server.rpc.access import NOBODY, OPEN, Rule
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.chain import Chain, Identify
from serai_server.rpc.marks import by_marks
from serai_server.rpc.methods import Method, Request, Shape
from serai_server.rpc.status import Failures, RpcFailure

Body = Callable[[Call], Awaitable[None]]

FOR_CORE = Rule(callers=frozenset({Caller.CORE}))


async def each(items: list[bytes]) -> AsyncIterator[bytes]:
    for item in items:
        yield item


class Probe:
    """One method of the given shape that runs `body` and then echoes every request that it got."""

    def __init__(self, shape: Shape, body: Body | None = None, limit_s: float = 30.0, rule: Rule = FOR_CORE) -> None:
        self.shape = shape
        self.body = body
        self.calls: list[Call] = []
        self.closed = 0
        log = structlog.get_logger()
        self.chain = Chain(Failures(log, error_id=lambda: "e1d"), log, limit_s=limit_s)
        self.method = Method(
            "/test/Echo",
            shape,
            self._read,
            once=None if shape.many_answers else self._once,
            many=self._many if shape.many_answers else None,
            rule=rule,
        )

    def _read(self, request: Request) -> object:
        if isinstance(request, bytes):
            return each([request])
        return request

    async def _gather(self, requests: object, call: Call) -> list[GetRequest]:
        self.calls.append(call)
        if self.body is not None:
            await self.body(call)
        return [GetRequest.FromString(r) async for r in cast("AsyncIterator[bytes]", requests)]

    async def _once(self, requests: object, call: Call) -> GetRequest:
        return GetRequest(job_id="".join(r.job_id for r in await self._gather(requests, call)))

    async def _many(self, requests: object, call: Call) -> AsyncIterator[GetRequest]:
        try:
            for request in await self._gather(requests, call):
                yield request
        finally:
            self.closed += 1

    async def call(self, metadata: dict[str, str] | None = None, identify: Identify = by_marks) -> str:
        """Everything that was answered, joined."""
        one, two = GetRequest(job_id="a").SerializeToString(), GetRequest(job_id="b").SerializeToString()
        request: Request = each([one, two]) if self.shape.many_requests else one
        if self.shape.many_answers:
            answers = [a async for a in self.chain.many(self.method, request, metadata or {}, identify)]
        else:
            answers = [await self.chain.once(self.method, request, metadata or {}, identify)]
        return "".join(GetRequest.FromString(a).job_id for a in answers)


SHAPES = pytest.mark.parametrize("shape", list(Shape), ids=lambda s: s.name)


@SHAPES
async def test_requests_and_answers_pass(shape: Shape) -> None:
    """Each shape carries all of its messages, in order."""
    assert await Probe(shape).call() == ("ab" if shape.many_requests else "a")


@SHAPES
async def test_a_domain_error_is_told(shape: Shape) -> None:
    """The caller sees code and words of the error."""

    async def body(_: Call) -> None:
        raise JobUnknown("no job '9' is known here")

    with pytest.raises(RpcFailure) as caught:
        await Probe(shape, body).call()
    assert (caught.value.status.code, caught.value.status.message) == (code_pb2.NOT_FOUND, "no job '9' is known here")


@SHAPES
async def test_an_unknown_error_is_not_told(shape: Shape) -> None:
    """grpc.aio would send the exception's text to the caller; the chain does not."""

    async def body(_: Call) -> None:
        raise RuntimeError("secret-token")

    with pytest.raises(RpcFailure) as caught:
        await Probe(shape, body).call()
    assert caught.value.status.code == code_pb2.INTERNAL
    assert "secret-token" not in str(caught.value.status)


@SHAPES
async def test_a_stray_cancellation_is_an_error(shape: Shape) -> None:
    """A CancelledError that did not come from cancelling this call would leave the caller without any answer."""

    async def body(_: Call) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    with pytest.raises(RpcFailure) as caught:
        await Probe(shape, body).call()
    assert caught.value.status.code == code_pb2.INTERNAL


@SHAPES
async def test_a_real_cancellation_stays_one(shape: Shape) -> None:
    """Who cancels a call gets a cancellation, and the handler sees it."""
    inside, seen = asyncio.Event(), asyncio.Event()

    async def body(_: Call) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.set()

    task = asyncio.create_task(Probe(shape, body).call())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen.is_set()


@pytest.mark.parametrize("shape", [s for s in Shape if not s.many_answers], ids=lambda s: s.name)
async def test_a_stuck_call_is_ended(shape: Shape) -> None:
    """A call with one answer gets DEADLINE_EXCEEDED after the server's own limit."""

    async def body(_: Call) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RpcFailure) as caught:
        await Probe(shape, body, limit_s=0.01).call()
    assert caught.value.status.code == code_pb2.DEADLINE_EXCEEDED


async def test_a_timeout_of_the_handlers_own_is_not_the_limit() -> None:
    """A TimeoutError from inside is an error like any other: it says nothing of the caller's deadline."""

    async def body(_: Call) -> None:
        raise TimeoutError("secret-token")

    with pytest.raises(RpcFailure) as caught:
        await Probe(Shape.UNARY_UNARY, body).call()
    assert caught.value.status.code == code_pb2.INTERNAL


@SHAPES
async def test_the_gateway_is_known(shape: Shape) -> None:
    """`serai-caller: core` is Core, with the user for whom it calls."""
    probe = Probe(shape)
    await probe.call({"serai-caller": "core", "serai-user": "alice"})
    assert [(c.caller, c.user) for c in probe.calls] == [(Caller.CORE, "alice")]


@SHAPES
async def test_a_tool_is_known(shape: Shape) -> None:
    """Without metadata it is a tool; it cannot speak for a user."""
    probe = Probe(shape)
    await probe.call({"serai-user": "alice"})
    assert [(c.caller, c.user) for c in probe.calls] == [(Caller.TOOL, "")]


@SHAPES
async def test_nobody_else_gets_in(shape: Shape) -> None:
    """An unknown caller is refused before the request is read."""
    probe = Probe(shape)
    with pytest.raises(RpcFailure) as caught:
        await probe.call({"serai-caller": "mallory"})
    assert caught.value.status.code == code_pb2.UNAUTHENTICATED
    assert probe.calls == []


async def test_a_request_id_is_taken_over() -> None:
    """A caller can find its call again in the log; an odd id is replaced, so that nobody writes lines into the log."""
    probe = Probe(Shape.UNARY_UNARY)
    with structlog.testing.capture_logs() as logged:
        await probe.call({"serai-request-id": "abc-1"})
        await probe.call({"serai-request-id": "a\nb"})
        await probe.call()
    ids = [line["request_id"] for line in logged]
    assert ids[0] == "abc-1"
    assert "\n" not in ids[1]
    assert len(set(ids)) == 3


@SHAPES
async def test_each_call_has_one_line(shape: Shape) -> None:
    """One line for a call that went well, one for a call that was refused; neither has the request in it."""

    async def body(_: Call) -> None:
        raise JobUnknown("no such job")

    with structlog.testing.capture_logs() as logged:
        await Probe(shape).call()
        with pytest.raises(RpcFailure):
            await Probe(shape, body).call()
    assert [(line["event"], line["log_level"], line["method"]) for line in logged] == [
        ("call", "debug", "/test/Echo"),
        ("call refused", "info", "/test/Echo"),
    ]


@pytest.mark.parametrize("shape", [s for s in Shape if s.many_answers], ids=lambda s: s.name)
async def test_a_stream_that_is_left_is_closed(shape: Shape) -> None:
    """Who stops reading closes the handler, at once and not when the garbage collector comes by."""
    probe = Probe(shape)
    request = GetRequest(job_id="a").SerializeToString()
    answers = probe.chain.many(probe.method, each([request, request]) if shape.many_requests else request, {})
    assert await anext(answers)
    await answers.aclose()
    assert probe.closed == 1


async def test_an_answer_that_cannot_be_encoded_is_an_error() -> None:
    """Encoding is inside the chain too."""

    class Odd(Probe):
        async def _once(self, requests: object, call: Call) -> GetRequest:
            return object()  # pyright: ignore[reportReturnType] - the point of the test

    with pytest.raises(RpcFailure) as caught:
        await Odd(Shape.UNARY_UNARY).call()
    assert caught.value.status.code == code_pb2.INTERNAL


@SHAPES
@pytest.mark.parametrize("mark", ["user", "session", "console"])
async def test_who_a_method_is_not_for_is_refused_before_the_request_is_read(shape: Shape, mark: str) -> None:
    """PERMISSION_DENIED, in each shape, for each of those for whom the gateway calls but the one of the rule."""
    probe = Probe(shape)
    with pytest.raises(RpcFailure) as caught:
        await probe.call({"serai-caller": mark, "serai-user": "alice"})
    assert caught.value.status.code == code_pb2.PERMISSION_DENIED
    assert probe.calls == []


@SHAPES
async def test_a_method_without_a_rule_is_for_nobody(shape: Shape) -> None:
    """Neither for the operator nor for Core: one that was added and forgotten does not stand open."""
    for metadata in ({}, {"serai-caller": "core"}):
        probe = Probe(shape, rule=NOBODY)
        with pytest.raises(RpcFailure) as caught:
            await probe.call(metadata)
        assert caught.value.status.code == code_pb2.PERMISSION_DENIED
        assert probe.calls == []


@SHAPES
async def test_an_open_method_asks_nobody_who_they_are(shape: Shape) -> None:
    """Not even at a door where nobody is known."""

    def nobody(_call: Call, _metadata: Mapping[str, str]) -> None:
        raise Unauthenticated("nobody is known here")

    assert await Probe(shape, rule=OPEN).call(identify=nobody)
    with pytest.raises(RpcFailure) as caught:
        await Probe(shape).call(identify=nobody)
    assert caught.value.status.code == code_pb2.UNAUTHENTICATED
