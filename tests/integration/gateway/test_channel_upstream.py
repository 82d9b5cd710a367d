"""The server behind a Unix socket: calls, errors, streams, and creates that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai.jobs.v1 import job_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_gateway import errors
from serai_gateway.channel import CREATE, ChannelUpstream
from serai_gateway.upstream import UpstreamError, closing

GET = "/serai.jobs.v1.JobsService/Get"
WATCH = "/serai.jobs.v1.JobsService/Watch"
Context = grpc.aio.ServicerContext[bytes, bytes]


def conflict() -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.ALREADY_EXISTS, message="another job has this id")
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason="JOB_CONFLICT", domain="serai"))
    status.details.append(detail)
    return status


class Server:
    """A real gRPC server that counts what comes and can be held."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.came = asyncio.Event()
        self.calls: list[tuple[str, list[str], dict[str, str]]] = []
        self.timeouts_s: list[float] = []
        self.left = asyncio.Event()

    async def until_calls(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.calls) < count:
                self.came.clear()
                await self.came.wait()

    async def _note(self, method: str, ids: list[str], context: Context) -> None:
        metadata = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if (key.startswith("serai-") or key == "traceparent") and isinstance(value, str)
        }
        self.calls.append((method, ids, metadata))
        self.timeouts_s.append(context.time_remaining() or 0.0)
        self.came.set()
        await self.gate.wait()

    async def create(self, request: bytes, context: Context) -> bytes:
        message = jobs_pb2.CreateRequest.FromString(request)
        await self._note("create", [job.id for job in message.items], context)
        if any(job.id.startswith("bad") for job in message.items):
            status = conflict()
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, status.message)
        return jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob(id=job.id) for job in message.items]).SerializeToString()

    async def create_bulk(self, request: bytes, context: Context) -> bytes:
        message = jobs_pb2.CreateBulkRequest.FromString(request)
        await self._note("bulk", [job.id for one in message.requests for job in one.items], context)
        answer = jobs_pb2.CreateBulkResponse()
        for one in message.requests:
            if any(job.id.startswith("bad") for job in one.items):
                answer.outcomes.add(error_status=conflict().SerializeToString())
            else:
                answer.outcomes.add(created=jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob(id=job.id) for job in one.items]))
        return answer.SerializeToString()

    async def get(self, request: bytes, context: Context) -> bytes:
        if request == b"raise":
            raise RuntimeError("password=hunter2")
        return request

    async def watch(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
            if request == b"break":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    found = Server()
    grpc_server = grpc.aio.server()
    # grpc's stubs know handlers with serializers only; these take bytes.
    once: Any = grpc.unary_unary_rpc_method_handler
    many: Any = grpc.unary_stream_rpc_method_handler
    handlers: Any = {
        "Create": once(found.create),
        "CreateBulk": once(found.create_bulk),
        "Get": once(found.get),
        "Watch": many(found.watch),
    }
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("serai.jobs.v1.JobsService", handlers),))
    grpc_server.add_insecure_port(f"unix:{tmp_path}/serai.sock")
    await grpc_server.start()
    yield found
    found.gate.set()
    await grpc_server.stop(None)


@pytest.fixture
async def upstream(server: Server, tmp_path: Path) -> AsyncGenerator[ChannelUpstream]:
    async with ChannelUpstream(f"unix:{tmp_path}/serai.sock") as found:
        yield found


def request(*ids: str) -> bytes:
    return jobs_pb2.CreateRequest(items=[job_pb2.Job(id=job_id) for job_id in ids]).SerializeToString()


def ids_of(answer: bytes) -> list[str]:
    return [created.id for created in jobs_pb2.CreateResponse.FromString(answer).responses]


async def test_a_lone_create_travels_by_itself(upstream: ChannelUpstream, server: Server) -> None:
    """No waiting for others, metadata along, the deadline with it."""
    answer = await upstream.unary(CREATE, request("a", "b"), {"serai-caller": "core", "serai-user": "u"}, 4.0)
    assert ids_of(answer) == ["a", "b"]
    assert server.calls == [("create", ["a", "b"], {"serai-caller": "core", "serai-user": "u"})]
    assert 0 < server.timeouts_s[0] < 5.0  # gRPC rounds up, and counts anew on this side


async def test_creates_that_wait_travel_together(upstream: ChannelUpstream, server: Server) -> None:
    """While two are on their way the others gather; each gets its own answer or its own error."""
    server.gate.clear()
    waiting = [
        asyncio.create_task(
            upstream.unary(CREATE, request(f"{'bad' if n == 7 else 'job'}{n}"), {"serai-caller": "core", "serai-user": f"u{n}"}, 20)
        )
        for n in range(12)
    ]
    await server.until_calls(2)
    server.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    for n, answer in enumerate(answers):
        if n == 7:
            assert isinstance(answer, UpstreamError)
            told = errors.from_status(answer.status)
            assert told is not None
            assert told.row.http_status == 409
        else:
            assert isinstance(answer, bytes)
            assert ids_of(answer) == [f"job{n}"]
    assert [method for method, _, _ in server.calls[:2]] == ["create", "create"]
    assert sum(len(ids) for _, ids, _ in server.calls) == 12
    assert len(server.calls) <= 4
    bulk = next(call for call in server.calls if call[0] == "bulk")
    assert bulk[2] == {"serai-caller": "core"}  # of different users


async def test_what_travels_together_stays_in_its_traces(upstream: ChannelUpstream, server: Server) -> None:
    """The call is in the trace of one of them and has links to the others; of one user's creates the user is still named."""
    server.gate.clear()
    spans = [f"00-{n:032x}-{1:016x}-01" for n in range(1, 11)]
    waiting = [
        asyncio.create_task(
            upstream.unary(CREATE, request(f"job{n}"), {"serai-caller": "core", "serai-user": "u", "traceparent": span}, 20)
        )
        for n, span in enumerate(spans)
    ]
    await server.until_calls(2)
    server.gate.set()
    await asyncio.gather(*waiting)
    bulk = next(metadata for method, _, metadata in server.calls if method == "bulk")
    assert bulk["serai-user"] == "u"
    told = [metadata["traceparent"] for _, _, metadata in server.calls]
    links = [link for _, _, metadata in server.calls for link in metadata.get("serai-trace-links", "").split(",") if link]
    assert sorted(told + links) == spans


async def test_a_caller_that_goes_away_takes_nothing_from_the_others(upstream: ChannelUpstream, server: Server) -> None:
    """Cancelled while it waits, while it is alone on its way, and while it is in a bulk."""
    server.gate.clear()
    tasks = [asyncio.create_task(upstream.unary(CREATE, request(f"job{n}"), {}, 20)) for n in range(8)]
    await server.until_calls(2)
    tasks[0].cancel()
    tasks[5].cancel()
    await server.until_calls(3)  # the bulk that took the cancelled call's place
    tasks[6].cancel()
    server.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [n in {0, 5, 6} for n in range(8)]
    assert all(ids_of(answer) == [f"job{n}"] for n, answer in enumerate(answers) if isinstance(answer, bytes))
    assert "job5" not in [job for _, ids, _ in server.calls for job in ids]


async def test_each_caller_has_its_own_deadline(upstream: ChannelUpstream, server: Server) -> None:
    """One that cannot wait gets DEADLINE_EXCEEDED; those that travel with it get their answers."""
    server.gate.clear()
    first = [asyncio.create_task(upstream.unary(CREATE, request(f"first{n}"), {}, 20)) for n in range(2)]
    await server.until_calls(2)
    patient = asyncio.create_task(upstream.unary(CREATE, request("patient"), {}, 20))
    with pytest.raises(UpstreamError) as caught:
        await upstream.unary(CREATE, request("hasty"), {}, 0.02)
    assert caught.value.status.code == code_pb2.DEADLINE_EXCEEDED
    server.gate.set()
    assert ids_of(await patient) == ["patient"]
    await asyncio.gather(*first)


@pytest.mark.parametrize("call", [CREATE, GET])
async def test_no_server_is_unavailable(tmp_path: Path, call: str) -> None:
    """A socket that nobody serves: 503 for Core."""
    async with ChannelUpstream(f"unix:{tmp_path}/nobody.sock") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.unary(call, b"", {}, 5)
    assert caught.value.status.code == code_pb2.UNAVAILABLE
    told = errors.from_status(caught.value.status)
    assert told is not None
    assert told.row.http_status == 503


async def test_errors_carry_the_servers_status(upstream: ChannelUpstream) -> None:
    """With its details where it sent them; a server's unmapped exception is nothing that may be told."""
    with pytest.raises(UpstreamError) as caught:
        await upstream.unary(CREATE, request("bad"), {}, 5)
    assert caught.value.status == conflict()
    with pytest.raises(UpstreamError) as caught:
        await upstream.unary(GET, b"raise", {}, 5)
    assert errors.from_status(caught.value.status) is None


async def test_a_stream_ends_with_the_servers_error(upstream: ChannelUpstream) -> None:
    """What came before is delivered, then UpstreamError."""
    got: list[bytes] = []
    with pytest.raises(UpstreamError, match="UNAVAILABLE"):
        async for message in upstream.stream(WATCH, b"break", {}):
            got.append(message)  # noqa: PERF401 - what came before the error counts
    assert got == [b"one", b"two"]


async def test_a_stream_that_is_left_ends_at_the_server(upstream: ChannelUpstream, server: Server) -> None:
    """The server learns that its subscriber has gone."""
    async with closing(upstream.stream(WATCH, b"", {})) as stream:
        async for _ in stream:
            break
    async with asyncio.timeout(20):
        await server.left.wait()


async def test_closing_answers_all_who_wait(server: Server, tmp_path: Path) -> None:
    """Nobody hangs when the gateway stops."""
    server.gate.clear()
    async with ChannelUpstream(f"unix:{tmp_path}/serai.sock") as upstream:
        tasks = [asyncio.create_task(upstream.unary(CREATE, request(f"job{n}"), {}, 20)) for n in range(6)]
        await server.until_calls(2)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, UpstreamError) for answer in answers)
