"""The gRPC server on its Unix socket: what a client really sees, who may connect, and how the server stops."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast

import grpc
import grpc.aio
import pytest
from fakes.front import Front, Served, served
from fakes.usecases import job
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from serai.events.v1.events_service_pb2 import SubscribeRequest
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.job_pb2 import JOB_STATE_IN_QUEUE, JOB_STATE_SUCCESS
from serai_server.errors import InvalidRequest
from serai_server.rpc.server import SocketInUse, grpc_server

DEADLINE_S = 20.0
"""A test that hangs fails after this; none of them waits for it."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path / "run" / "serai.sock") as running:
        yield running


def details(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata = error.trailing_metadata()
    assert metadata is not None
    found = dict(metadata)["grpc-status-details-bin"]
    assert isinstance(found, bytes)
    return status_pb2.Status.FromString(found)


Message = TypeVar("Message")
Message_co = TypeVar("Message_co", covariant=True)


class Readable(Protocol[Message_co]):
    async def read(self) -> object | Message_co: ...


async def read(call: Readable[Message]) -> Message:
    """The next message; a test that has come to the end instead fails."""
    message = await call.read()
    assert message is not grpc.aio.EOF
    return cast("Message", message)


def raw(data: bytes) -> bytes:
    """Wire bytes as they are."""
    return data


async def until(condition: Callable[[], bool]) -> None:
    """Give way until `condition()` holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_call_arrives_and_is_answered(server: Served) -> None:
    """The seed's way: a job in, one empty answer out."""
    answer = await server.jobs.Create(pb.CreateRequest(items=[job("1")]), timeout=DEADLINE_S)
    assert len(answer.responses) == 1
    assert (await server.jobs.Get(pb.GetRequest(job_id="1"), timeout=DEADLINE_S)).job.state == JOB_STATE_IN_QUEUE


async def test_an_error_has_its_details(server: Served) -> None:
    """ErrorInfo and BadRequest travel as every gRPC client expects them."""
    server.front.jobs.wrong = InvalidRequest("expected 1 or more", field="items[0].specification.replicas")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.jobs.Create(pb.CreateRequest(items=[job("1")]), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    first, second = details(caught.value).details
    assert first.Unpack(info)
    assert second.Unpack(request)
    assert (info.domain, info.reason) == ("serai", "INVALID_REQUEST")
    assert request.field_violations[0].field == "items[0].specification.replicas"


@pytest.mark.parametrize(
    "wrong", [RuntimeError("secret-token"), asyncio.CancelledError("secret-token")], ids=["error", "stray cancellation"]
)
async def test_what_is_unknown_is_answered_and_not_told(server: Served, wrong: BaseException) -> None:
    """One call and one stream: neither hangs, and neither learns the exception's text."""
    await server.front.jobs.create([job("1")])
    server.front.jobs.wrong = wrong
    for call in (
        server.jobs.Get(pb.GetRequest(job_id="1"), timeout=DEADLINE_S),
        server.jobs.Watch(pb.WatchRequest(job_id="1"), timeout=DEADLINE_S),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret-token" not in str(details(caught.value))


async def test_an_error_in_mid_stream_comes_after_what_was_sent(server: Served) -> None:
    """What was answered before stays answered."""
    await server.front.jobs.create([job("1")])
    call = server.jobs.Watch(pb.WatchRequest(job_id="1"), timeout=DEADLINE_S)
    assert (await read(call)).job.id == "1"
    server.front.jobs.wrong = RuntimeError("secret-token")
    await server.front.jobs.change("1", JOB_STATE_SUCCESS, "")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_client_that_leaves_frees_its_stream(server: Served) -> None:
    """Cancelling a watch or a subscription ends the use case's iterator on the server."""
    await server.front.jobs.create([job("1")])
    watch = server.jobs.Watch(pb.WatchRequest(job_id="1"))
    subscription = server.events.Subscribe(SubscribeRequest(consumer="tool"))
    await watch.read()
    await until(lambda: server.front.events.open_iterators == 1)
    watch.cancel()
    subscription.cancel()
    await until(lambda: server.front.jobs.open_iterators == 0 and server.front.events.open_iterators == 0)


async def test_a_quiet_stream_is_told_to_be_open(server: Served) -> None:
    """Its client can tell a server that has nothing to say from one that is away. One that is answered or refused at once is not."""
    await server.front.jobs.create([job("1")])
    subscription = server.events.Subscribe(SubscribeRequest(consumer="tool"), timeout=DEADLINE_S)
    assert ("serai-stream", "open") in tuple(await subscription.initial_metadata())
    await server.front.jobs.change("1", JOB_STATE_SUCCESS, "")
    watch = server.jobs.Watch(pb.WatchRequest(job_id="1"), timeout=DEADLINE_S)
    assert (await read(watch)).job.state == JOB_STATE_SUCCESS
    assert not tuple(await watch.initial_metadata())
    refused = server.jobs.Watch(pb.WatchRequest(job_id="unknown"), timeout=DEADLINE_S)
    assert not tuple(await refused.initial_metadata())
    subscription.cancel()


async def test_a_message_over_grpcs_own_limit_passes(server: Served) -> None:
    """1,000 jobs with big parameters are more than the 4 MiB that grpc allows by itself."""
    big = job("1")
    big.specification.name = "x" * 6_000_000
    async with grpc.aio.insecure_channel(f"unix:{server.socket}") as channel:
        call = channel.unary_unary("/serai.jobs.v1.JobsService/Create", raw, raw)
        assert await call(pb.CreateRequest(items=[big]).SerializeToString(), timeout=DEADLINE_S)


async def test_bytes_that_are_no_message(server: Served) -> None:
    """A client with another proto gets INVALID_ARGUMENT."""
    call = server.channel.unary_unary("/serai.jobs.v1.JobsService/Create", raw, raw)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_unknown_method(server: Served) -> None:
    """UNIMPLEMENTED, from grpc itself."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.channel.unary_unary("/serai.jobs.v1.JobsService/Nope", raw, raw)(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_only_the_owner_can_connect(server: Served) -> None:
    """Socket 0600 in a folder 0700: whoever reaches it is the operator."""
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700


async def test_a_second_server_is_refused(server: Served) -> None:
    """grpc by itself would take the socket away from the server that listens on it."""
    with pytest.raises(SocketInUse, match="another server serves"):
        async with grpc_server(Front().dispatcher(), server.socket):
            pass
    await server.jobs.List(pb.ListRequest(), timeout=DEADLINE_S)


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed server left behind does not keep the next one from starting."""
    path = tmp_path / "serai.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    async with served(path) as server:
        await server.jobs.List(pb.ListRequest(), timeout=DEADLINE_S)
    assert not path.exists()


async def test_somebody_elses_socket_is_left_alone(tmp_path: Path) -> None:
    """A listener that is no Serai server holds no lock of ours, and keeps its socket."""
    path = tmp_path / "serai.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(path))
        other.listen()
        with pytest.raises(SocketInUse, match="somebody listens"):
            async with grpc_server(Front().dispatcher(), path):
                pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))


async def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    """A path that was mistyped does not cost anybody a file."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(SocketInUse, match="not a socket"):
        async with grpc_server(Front().dispatcher(), path):
            pass
    assert path.read_text() == "mine"


async def test_a_path_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    """Not with grpc's own words, which say nothing of the reason."""
    with pytest.raises(SocketInUse, match="107 bytes"):
        async with grpc_server(Front().dispatcher(), tmp_path / ("x" * 120)):
            pass


async def test_stopping_ends_streams_and_lets_calls_finish(tmp_path: Path) -> None:
    """Streams have no end of their own: they get UNAVAILABLE at once. A call in flight is answered."""
    front, entered, go = Front(), asyncio.Event(), asyncio.Event()
    list_jobs = front.jobs.list

    async def slow(request: pb.ListRequest) -> pb.ListResponse:
        entered.set()
        await go.wait()
        return await list_jobs(request)

    front.jobs.list = slow  # a use case that takes its time
    await front.jobs.create([job("1")])
    path = tmp_path / "serai.sock"
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        async with grpc_server(front.dispatcher(), path, stop_grace_s=DEADLINE_S):
            watch = channel.unary_stream("/serai.jobs.v1.JobsService/Watch", raw, raw)(pb.WatchRequest(job_id="1").SerializeToString())
            await watch.read()
            listing = asyncio.ensure_future(channel.unary_unary("/serai.jobs.v1.JobsService/List", raw, raw)(b""))
            await entered.wait()
            ended = asyncio.ensure_future(watch.read())
            ended.add_done_callback(lambda _: go.set())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ended
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert pb.ListResponse.FromString(await listing).jobs[0].id == "1"
        assert front.jobs.open_iterators == 0


async def test_health_answers_and_watches(server: Served) -> None:
    """The standard health client works, and sees a change."""
    request, parse = health_pb2.HealthCheckRequest().SerializeToString(), health_pb2.HealthCheckResponse.FromString
    watch = server.channel.unary_stream("/grpc.health.v1.Health/Watch", raw, parse)(request)
    check = server.channel.unary_unary("/grpc.health.v1.Health/Check", raw, parse)
    assert (await read(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    server.front.health.tell("store", up=True)
    server.front.health.tell("reconciler", up=True)
    assert (await read(watch)).status == health_pb2.HealthCheckResponse.SERVING
    assert (await check(request, timeout=DEADLINE_S)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


@pytest.mark.parametrize("service", ["grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"])
async def test_reflection_lists_our_services(server: Served, service: str) -> None:
    """Tools such as grpcurl find the API, under the old name of reflection and the new one."""
    call = server.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await read(call)
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="serai.jobs.v1.JobsService"))
    file = await read(call)
    await call.done_writing()
    assert {"serai.jobs.v1.JobsService", "serai.events.v1.EventsService"} <= {s.name for s in listed.list_services_response.service}
    assert file.file_descriptor_response.file_descriptor_proto
