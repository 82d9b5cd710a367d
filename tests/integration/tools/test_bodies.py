"""Requests at the tools' door that do not come, or not whole: of strangers nothing is read, of the others not for ever."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
import pytest
from fakes.nomad_certificates import Authority
from fakes.tools_site import CALL_S, bearer, tools_site
from grpc_health.v1 import health_pb2
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai_server.rpc.body import Bodies
from serai_server.rpc.tls import Files
from serai_server.rpc.tools_door import Place
from serai_server.store.token_model import Role
from serai_server.tokens.certificates import Client

JOBS = "/serai.jobs.v1.JobsService/"
HEALTH = "/grpc.health.v1.Health/"
FOR_EVER_S = 3_600.0

Started = grpc.aio.StreamStreamCall[bytes, bytes]


def started(channel: grpc.aio.Channel, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> Started:
    """A call that sends its metadata, and no request yet, whatever shape the method has."""
    return cast("Started", channel.stream_stream(path, bytes, bytes)(metadata=metadata))


async def end_of(call: Started) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(CALL_S):
        return await call.code(), await call.details()


@pytest.mark.parametrize("path", [JOBS + "Create", JOBS + "Watch", HEALTH + "Watch"])
@pytest.mark.parametrize("shown", [(), bearer("serai_0123456789ab_" + "A" * 43)], ids=["nothing", "a wrong token"])
async def test_a_stranger_is_refused_before_any_request_has_come(tmp_path: Path, path: str, shown: tuple[tuple[str, str], ...]) -> None:
    """So nothing of a large one is kept, and a call without one does not stay open. Watch of the health, which has no end, too."""
    async with tools_site(tmp_path, bodies=Bodies(FOR_EVER_S, FOR_EVER_S)) as site, site.channel() as channel:
        assert (await end_of(started(channel, path, shown)))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_that_is_nobodys_is_refused_as_early(tmp_path: Path) -> None:
    """With a CA of the clients too; a known one is asked for its request."""
    ca = Authority(tmp_path)
    server = ca.issue("localhost", ip="127.0.0.1")
    place = Place(tmp_path, listen="127.0.0.1:0", tls=Files(Path(server.cert), Path(server.key), Path(ca.file)))
    ends: list[grpc.StatusCode] = []
    async with tools_site(tmp_path, place=place, clients=[Client("ci", Role.VIEWER, "")], bodies=Bodies(0.2, FOR_EVER_S)) as site:
        for name in ("stranger", "ci"):
            own = ca.issue(name)
            files = [await asyncio.to_thread(Path(file).read_bytes) for file in (ca.file, own.key, own.cert)]
            async with grpc.aio.secure_channel(site.address, grpc.ssl_channel_credentials(*files)) as channel:
                ends.append((await end_of(started(channel, JOBS + "List")))[0])
    assert ends == [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.DEADLINE_EXCEEDED]


@pytest.mark.parametrize("path", [JOBS + "List", JOBS + "Watch"])
async def test_a_request_that_does_not_come_ends_its_call(tmp_path: Path, path: str) -> None:
    """Of a caller who is known; nothing of it is left, and the others are answered meanwhile."""
    async with tools_site(tmp_path, bodies=Bodies(0.2, FOR_EVER_S)) as site, site.channel() as channel:
        token = await site.token()
        late = started(channel, path, bearer(token))
        code, words = await end_of(late)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not come whole within 0.2 s" in words
        streams = site.tokens.registry.holder(token, 0).streams
        async with asyncio.timeout(CALL_S):
            while streams:  # the answer is out before its task has ended
                await asyncio.wait(set(streams))
        answer = await channel.unary_unary(JOBS + "List", bytes, pb.ListResponse.FromString)(b"", metadata=bearer(token), timeout=CALL_S)
        assert not answer.jobs


async def test_a_call_that_ends_without_a_request_is_refused(tmp_path: Path) -> None:
    """It is not left open; grpc.aio by itself never answers it."""
    async with tools_site(tmp_path) as site, site.channel() as channel:
        call = started(channel, JOBS + "List", bearer(await site.token()))
        await call.done_writing()
        assert await end_of(call) == (grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")


@pytest.mark.parametrize("method", ["Check", "List"])
async def test_open_calls_are_answered_whatever_strangers_leave_open(tmp_path: Path, method: str) -> None:
    """Also while nothing more of strangers is read: whoever asks is answered at once, and not when the others are through."""
    async with tools_site(tmp_path, bodies=Bodies(FOR_EVER_S, FOR_EVER_S, strangers=2)) as site, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(site.channel()) for _ in range(2)]
        calls = [started(channel, HEALTH + "Check") for channel in idle for _ in range(20)]
        answers = {asyncio.ensure_future(call.read()) for call in calls}
        # Two of them are being read; the others are answered without.
        while len(answers) > 2:
            done, answers = await asyncio.wait(answers, timeout=CALL_S, return_when=asyncio.FIRST_COMPLETED)
            assert done
        channel = await stack.enter_async_context(site.channel())
        assert await channel.unary_unary(HEALTH + method, bytes, lambda answer: answer or b"?")(b"", timeout=CALL_S)
        assert not any(answer.done() for answer in answers)
        for call in calls:
            call.cancel()
        await asyncio.wait(answers)


async def test_a_check_that_sends_nothing_is_told_of_the_whole_server(tmp_path: Path) -> None:
    """In a short time; it is not kept open."""
    async with tools_site(tmp_path, bodies=Bodies(FOR_EVER_S, 0.1)) as site, site.channel() as channel:
        call = started(channel, HEALTH + "Check")
        async with asyncio.timeout(CALL_S):
            answer = health_pb2.HealthCheckResponse.FromString(cast("bytes", await call.read()))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await end_of(call))[0] is grpc.StatusCode.OK


async def test_a_check_is_of_the_service_that_it_names(tmp_path: Path) -> None:
    """As long as its request comes, which it does with the call."""
    async with tools_site(tmp_path) as site, site.channel() as channel:
        asked = health_pb2.HealthCheckRequest(service="no.such.Service").SerializeToString()
        assert await channel.unary_unary(HEALTH + "Check", bytes, bytes)(asked, timeout=CALL_S).code() is grpc.StatusCode.NOT_FOUND


async def test_watch_of_the_health_is_for_whoever_is_known(tmp_path: Path) -> None:
    """Any role, also one that is limited to a project; and the operator on the server's own socket."""
    async with tools_site(tmp_path) as site, site.channel() as channel, grpc.aio.insecure_channel(f"unix:{site.own}") as own:
        for through, shown in ((channel, bearer(await site.token(project="p"))), (own, ())):
            call = through.unary_stream(HEALTH + "Watch", bytes, bytes)(b"", metadata=shown, timeout=CALL_S)
            assert await call.read() != grpc.aio.EOF
            call.cancel()
