"""Envoy's access log: no stranger fills it, and what Core and tools do is in it whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web
from fakes.gateway_tokens import claims, key, sign
from fakes.upstreams import Upstreams, upstreams

from .conftest import AS_TOOL, TOOL, Another, Front

CALLS = 200
FEW = 80
"""Lines that there may be of them: 20 at once, and one for each second that this took."""
JOBS = "/ucloud/example/jobs"
GET = "/serai.jobs.v1.JobsService/Get"


def core(*other: str) -> dict[str, str]:
    """`other`: the name of a key that is not Core's."""
    return {"Authorization": f"Bearer {sign(claims(int(time.time() * 1_000)), key(*other))}"}


async def called(front: Front, path: str, headers: dict[str, str] | None = None, *, method: str = "GET", count: int = CALLS) -> set[int]:
    """Statuses of so many calls, some at a time."""
    few = asyncio.Semaphore(20)

    async def one(session: aiohttp.ClientSession) -> int:
        async with few, session.request(method, f"http://127.0.0.1:{front.envoy.port}{path}", headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession(headers={"Host": "localhost"}) as session:
        return set(await asyncio.gather(*(one(session) for _ in range(count))))


async def codes(front: Front, path: str = GET, *metadata: tuple[str, str], count: int = CALLS) -> set[grpc.StatusCode]:
    found: set[grpc.StatusCode] = set()
    async with front.door.channel() as channel:
        for _ in range(count):
            try:
                await channel.unary_unary(path)(b"", metadata=metadata)
                found.add(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                found.add(error.code())
    return found


async def broken_off(front: Front, there: Upstreams, headers: dict[str, str], path: str, count: int = CALLS) -> None:
    """So many requests whose clients leave while the gateway has not answered yet."""
    go = asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.Response()

    there.answer = wait
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **headers}.items())
    for start in range(0, count, 20):
        opened = [await asyncio.open_connection("127.0.0.1", front.envoy.port) for _ in range(20)]
        for _, writer in opened:
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        async with asyncio.timeout(30):
            while len(there.seen) < start + 20:
                await asyncio.sleep(0.01)
        for _, writer in opened:
            writer.transport.abort()
    go.set()


async def written(front: Front, count: int) -> list[dict[str, object]]:
    """The log, when it is known of so many requests that they have a line or are counted as left out."""
    async with asyncio.timeout(30):
        while len(front.envoy.lines()) + left_out(front) < count:
            await asyncio.sleep(0.02)
    return front.envoy.lines()


def left_out(front: Front) -> int:
    return int(front.envoy.admin("/stats?filter=access_log.process_ratelimit.denied").rpartition(": ")[2])


async def answer_500(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


Flood = Callable[[Front, Upstreams], Awaitable[object]]


async def _forged(front: Front, _: Upstreams) -> None:
    assert await called(front, JOBS, core("other")) == {401}


async def _pages(front: Front, _: Upstreams) -> None:
    assert await called(front, "/openapi.json") == {200}


async def _nothing(front: Front, _: Upstreams) -> None:
    assert await called(front, "/nothing-is-here", {"Host": "x" * 20_000}) == {404}


async def _failing(front: Front, there: Upstreams) -> None:
    there.answer = answer_500
    assert await called(front, "/console/") == {500}


async def _leaving(front: Front, there: Upstreams) -> None:
    await broken_off(front, there, {}, "/console/")


async def _without_token(front: Front, _: Upstreams) -> None:
    assert await codes(front) == {grpc.StatusCode.UNAUTHENTICATED}


async def _refused_by_server(front: Front, there: Upstreams) -> None:
    there.abort = grpc.StatusCode.UNAUTHENTICATED, "no such token"
    assert await codes(front, GET, TOOL) == {grpc.StatusCode.UNAUTHENTICATED}


async def _refused_in_v1(front: Front, there: Upstreams) -> None:
    there.abort = grpc.StatusCode.UNAUTHENTICATED, "no such token"
    assert await called(front, "/v1/jobs", {TOOL[0]: TOOL[1]}) == {401}


async def _no_such_method(front: Front, _: Upstreams) -> None:
    assert await codes(front, "/acme.Other/Get", TOOL) == {grpc.StatusCode.UNIMPLEMENTED}


async def _health(front: Front, _: Upstreams) -> None:
    assert await codes(front, "/grpc.health.v1.Health/Check", TOOL) == {grpc.StatusCode.OK}


async def _preflights(front: Front, _: Upstreams) -> None:
    asked = {"Origin": "https://tools.test", "Access-Control-Request-Method": "POST", TOOL[0]: TOOL[1]}
    assert await called(front, GET, asked, method="OPTIONS") == {200}


@pytest.mark.parametrize(
    "flood",
    [
        _forged,
        _pages,
        _nothing,
        _failing,
        _leaving,
        _without_token,
        _refused_by_server,
        _refused_in_v1,
        _no_such_method,
        _health,
        _preflights,
    ],
)
async def test_strangers_do_not_fill_the_log(another: Another, flood: Flood) -> None:
    """Whatever becomes of their requests, only so many have a line, which is short; all are counted."""
    front = another(stranger_lines=1, rate=10_000)
    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock") as there:
        await flood(front, there)
        lines = await written(front, CALLS)
        assert "envoy bug" not in (front.envoy.folder / "envoy.log").read_text()
        assert 20 <= len(lines) <= FEW
        assert len(lines) + left_out(front) == CALLS
    assert max(len(line) for line in (front.envoy.folder / "access.log").read_text().splitlines()) < 1_000


async def test_what_is_known_has_every_line(another: Another) -> None:
    """Core's calls, whatever becomes of them, and those of tools that the server lets in, also while strangers have used up theirs."""
    front = another(stranger_lines=1, rate=10_000)
    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock") as there:
        await called(front, "/openapi.json")
        await called(front, JOBS)
        await written(front, 2 * CALLS)
        before, sent = len(front.envoy.lines()), left_out(front)
        for status in (200, 402, 500):

            async def answer(_: web.Request, status: int = status) -> web.StreamResponse:
                return web.Response(status=status)

            there.answer = answer
            assert await called(front, JOBS, core(), count=40) == {status}
        there.seen.clear()
        await broken_off(front, there, core(), JOBS, 40)
        there.reply = b""
        assert await codes(front, GET, TOOL, count=40) == {grpc.StatusCode.OK}
        assert await called(front, "/v1/jobs", {TOOL[0]: TOOL[1]}, count=40) == {200}
        for _ in range(40):
            web_call = ("-H", "content-type: application/grpc-web+proto", "-X", "POST")
            assert (await front.door.curl(GET, *AS_TOOL, *web_call, body=b"\0" * 5)).status == 200
        there.abort = grpc.StatusCode.NOT_FOUND, "no such job"
        assert await codes(front, GET, TOOL, count=40) == {grpc.StatusCode.NOT_FOUND}
        lines = await written(front, 2 * CALLS + 8 * 40)
        assert (len(lines) - before, left_out(front) - sent) == (8 * 40, 0)
