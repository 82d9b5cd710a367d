"""Limits of Envoy, and what it says when what is behind it is slow, away or broken."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import msgspec
import pytest
from aiohttp import web
from fakes.envoy import Envoy, rendered, running_file, whole
from fakes.gateway_tokens import claims, key, sign, user_claims
from fakes.up import FrontDoor
from fakes.upstreams import upstreams
from serai_gateway.settings import GatewaySettings

from .conftest import AS_TOOL, TOOL, Another, Front, settings

JOBS = "/ucloud/example/jobs"
AWAY = "The provider cannot be reached right now, try again"


def core() -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {sign(claims(int(time.time() * 1_000)))}"


def user() -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {sign(user_claims(int(time.time() * 1_000)), key('users'))}"


def behind(front: Front) -> tuple[GatewaySettings, Path]:
    """Where the upstreams of an Envoy of its own are."""
    return front.envoy.settings, front.envoy.folder / "tools.sock"


@pytest.mark.parametrize("h2", [False, True])
async def test_a_long_body(front: Front, h2: bool) -> None:
    """413 with the limit in its words, for Core's and users' calls and /v1. Nobody behind acts on it; one that just fits passes."""
    for path, who in ((JOBS, core()), ("/api/licenses/update", user()), ("/v1/jobs", AS_TOOL)):
        answer = await front.door.curl(path, *who, body=b'{"a":"' + b"x" * 1_000_001 + b'"}', h2=h2)
        if answer.status or not h2:  # over HTTP/2 curl may see no more than that the stream was ended
            assert answer.why == "The request's body is longer than the limit of 1000000 bytes"
            assert answer.status == 413
    assert front.behind.seen == front.behind.messages == []
    assert (await front.door.curl(JOBS, *core(), body=b"x" * 1_000_000, h2=h2)).status == 200
    assert front.behind.seen[-1].size == 1_000_000


@pytest.mark.parametrize("path", ["/v1/jobs/4711:follow", "/v1/jobs:terminate", "/v1/tokens"])
async def test_a_long_body_of_what_brings_no_job(front: Front, path: str) -> None:
    """Envoy keeps JSON until it is whole: what needs little may bring little, also without its length, and `:submit` much."""
    for more in ((), ("-H", "Transfer-Encoding: chunked")):
        answer = await front.door.curl(path, *AS_TOOL, *more, body=b'{"a":"' + b"x" * 270_000, h2=False)
        assert (answer.status, answer.why) == (413, "The request's body is longer than the limit of 262144 bytes")
    assert front.behind.messages == []
    long = b'{"owner":"' + b"x" * 270_000 + b'"}'
    assert [(await front.door.curl(path, *AS_TOOL, body=long)).status for path in ("/v1/jobs", "/v1/jobs:submit")] == [200, 200]


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
async def test_a_body_of_what_takes_none(front: Front, verb: str) -> None:
    """Is refused, and not taken for the request: what is asked for stands in the address."""
    for more in ((), ("-H", "Transfer-Encoding: chunked")):
        answer = await front.door.curl(
            "/v1/jobs" if verb == "GET" else "/v1/consumers/a", "-X", verb, *AS_TOOL, *more, body=b"{}", h2=False
        )
        assert answer.status == 413
    assert front.behind.messages == []


async def test_a_long_body_in_chunks(front: Front) -> None:
    """Cut when the limit is reached; what had begun behind never became whole."""
    answer = await front.door.curl(JOBS, *core(), "-H", "Transfer-Encoding: chunked", body=b"x" * 1_500_000, h2=False)
    assert answer.status == 413
    assert front.behind.seen == []


async def test_a_long_body_without_a_token(front: Front) -> None:
    """The token comes first, wherever there is a rule for one."""
    assert (await front.door.curl(JOBS, body=b"x" * 1_500_000, h2=False)).status == 401
    assert (await front.door.curl("/ucloud/example/integration/welcome", body=b"x" * 1_500_000, h2=False)).status == 413


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("-H", f"X-Long: {'x' * 70_000}"), 431),
        (tuple(part for number in range(120) for part in ("-H", f"X-{number}: 1")), 431),
        (("-H", "under_score: x"), 400),
        (("-H", "Content-Length: 3", "-H", "Transfer-Encoding: chunked", "-d", "abc"), 400),
    ],
)
async def test_odd_heads(front: Front, arguments: tuple[str, ...], status: int) -> None:
    """Too long, too many, ambiguous: refused before anybody reads them."""
    answer = await front.door.curl("/healthz", *arguments, h2=False)
    assert (answer.status, front.behind.seen) == (status, [])


async def burst(front: Front, count: int, path: str, token: str = "") -> list[int]:
    """Statuses of so many calls at once, to a plain Envoy."""
    headers = {"Host": "localhost", **({"Authorization": f"Bearer {token}"} if token else {})}

    async def one(session: aiohttp.ClientSession) -> int:
        async with session.get(f"http://127.0.0.1:{front.envoy.port}{path}", headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return list(await asyncio.gather(*(one(session) for _ in range(count))))


async def test_a_rate_for_each_address(another: Another) -> None:
    """Twice the rate at once, then 429 with the time to wait. To say that one comes from elsewhere does not help."""
    front = another(rate=3)
    async with upstreams(*behind(front)):
        assert (await burst(front, 40, "/healthz")).count(429) >= 20
        forged = [await front.door.curl("/console/", "-H", f"X-Forwarded-For: 10.0.0.{number}") for number in range(12)]
        refused = [answer for answer in forged if answer.status == 429]
        assert refused[0].why == "Too many requests, try again in a moment"
        assert int(refused[0].header("retry-after")) >= 1
        async with front.door.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                for _ in range(20):
                    await channel.unary_unary("/serai.jobs.v1.JobsService/Get")(b"", metadata=(TOOL,))
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_core_has_a_rate_of_its_own(another: Another) -> None:
    """It is known by its token; who has none is refused for that, and uses up nobody's rate."""
    front, slow = another(rate=1), another(core_rate=1)
    token = sign(claims(int(time.time() * 1_000)))
    async with upstreams(*behind(front)), upstreams(*behind(slow)):
        assert await burst(front, 40, JOBS, token) == [200] * 40
        assert await burst(slow, 40, JOBS) == [401] * 40
        assert (await burst(slow, 40, JOBS, token)).count(429) >= 20
        assert await burst(slow, 20, "/healthz") == [200] * 20


async def test_what_is_no_token_has_a_rate(another: Another) -> None:
    """Before it is looked at, so that nobody can have tokens checked without end; addresses without a limit have none here either."""
    front, free = another(flood_rate=2), another(flood_rate=2, unlimited=("127.0.0.1",))
    token = sign(claims(int(time.time() * 1_000)), key("other"))
    async with upstreams(*behind(front)), upstreams(*behind(free)):
        assert (await burst(front, 40, JOBS, token)).count(429) >= 20
        checked = front.envoy.admin("/stats?filter=http.api.jwt_authn.denied")
        assert int(checked.rpartition(": ")[2]) <= 20
        assert await burst(free, 40, JOBS, token) == [401] * 40


async def test_addresses_without_a_limit(another: Another) -> None:
    """Those of the setting; nobody else is let off by it."""
    front, other = another(rate=1, unlimited=("10.0.0.0/8", "127.0.0.1")), another(rate=1, unlimited=("10.0.0.0/8", "::1/128"))
    async with upstreams(*behind(front)), upstreams(*behind(other)):
        assert await burst(front, 40, "/healthz") == [200] * 40
        assert (await burst(other, 40, "/healthz")).count(429) >= 20


async def test_a_gateway_that_is_away_or_breaks_off(another: Another) -> None:
    """Never 503, which Core would repeat; the log tells the causes apart. A call that broke off was sent once."""
    front = another()
    answer = await front.door.curl(JOBS, *core(), body=b"{}")
    assert (answer.status, answer.why) == (502, AWAY)
    assert (await front.logged("core"))["flags"] == "UF"
    async with upstreams(*behind(front)) as there:
        there.answer = _break_off
        assert (await front.door.curl(JOBS, *core(), body=b"{}")).why == AWAY
        assert len(there.seen) == 1
        assert (await front.logged("core"))["flags"] == "UC"


async def _break_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("status", [200, 400, 402, 404, 449, 500, 503])
async def test_what_the_gateway_says_passes(front: Front, status: int) -> None:
    """Word for word, 503 too: that one is the gateway's own decision."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=b'{"why":"so"}', content_type="application/json")

    front.behind.answer = answer
    got = await front.door.curl(JOBS, *core(), body=b"{}")
    assert (got.status, got.body) == (status, b'{"why":"so"}')


async def test_a_slow_gateway(another: Another) -> None:
    """504 somewhat after the gateway's own time-out and before Core's 5 s."""

    front = another(lambda settings: msgspec.structs.replace(settings, upstream_timeout_ms=200))
    forever = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    async with upstreams(*behind(front)) as there:
        there.answer = never
        answer = await front.door.curl(JOBS, *core(), body=b"{}")
        forever.set()
        assert (answer.status, answer.why) == (504, "The provider did not answer in time, try again")
        assert len(there.seen) == 1


async def test_by_default_an_answer_comes_before_core_gives_up(front: Front) -> None:
    """The route's time-out, from the configuration that runs: more than the gateway's 4.5 s, less than 5 s."""
    (route,) = [route for route in front.envoy.routes() if route["name"] == "core"]
    assert route["route"]["timeout"] == "4.800s"


async def test_too_many_calls_at_a_time(another: Another) -> None:
    """Beyond the setting they are refused at once, in place of waiting; those under way are not disturbed."""
    front, go = another(open_calls=10), asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.Response()

    async with upstreams(*behind(front)) as there:
        there.answer = wait
        calls = asyncio.create_task(burst(front, 60, "/console/"))
        async with asyncio.timeout(30):
            while len(front.envoy.lines()) < 30:  # those that are refused are over
                await asyncio.sleep(0.02)
        go.set()
        answers = await calls
    assert (answers.count(200), answers.count(502)) == (len(there.seen), 60 - len(there.seen))
    assert 10 <= len(there.seen) <= 30  # as many again may wait for a connection
    assert {line["flags"] for line in front.envoy.lines() if line["status"] == 502} == {"UO"}


async def test_calls_under_way_of_others_are_not_counted_with_cores(another: Another) -> None:
    """When no further ones of theirs are taken, Core's still are."""
    front, go = another(max_calls=10), asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        if request.path != JOBS:
            await go.wait()
        return web.Response()

    async with upstreams(*behind(front)) as there:
        there.answer = wait
        calls = asyncio.create_task(burst(front, 60, "/api/licenses/browse", sign(user_claims(int(time.time() * 1_000)), key("users"))))
        async with asyncio.timeout(30):
            while len(front.envoy.lines()) < 30:
                await asyncio.sleep(0.02)
        assert (await front.door.curl(JOBS, *core(), body=b"{}")).status == 200
        go.set()
        assert (await calls).count(502) >= 30


async def test_too_many_connections(another: Another) -> None:
    """Further ones are closed at once; administration is not counted."""
    front = another(max_connections=10)
    async with upstreams(*behind(front)):
        held = [await asyncio.open_connection("127.0.0.1", front.envoy.port) for _ in range(10)]
        assert (await front.door.curl("/healthz")).status == 0
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(20):
            while (await front.door.curl("/healthz")).status != 200:
                await asyncio.sleep(0.05)


async def test_strangers_do_not_take_the_connections_of_those_who_are_named(another: Another) -> None:
    """However many one of them opens, Core comes in by the quarter that is kept for the addresses of `unlimited`."""
    front = another(max_connections=16, unlimited=("127.0.0.2", "::1/128"))
    async with upstreams(*behind(front)):
        held = [await asyncio.open_connection("127.0.0.1", front.envoy.port) for _ in range(20)]
        assert (await front.door.curl("/healthz")).status == 0
        for _ in range(3):
            assert (await front.door.curl(JOBS, *core(), "--interface", "127.0.0.2", body=b"{}")).status == 200
        refused = front.envoy.admin("/stats?filter=connection_limit.api.limited_connections")
        assert int(refused.rpartition(": ")[2]) >= 8
        for _, writer in held:
            writer.close()


@pytest.fixture
def changed(tmp_path: Path) -> Generator[Callable[[str, str], Front]]:
    """Makes a plain Envoy with a number of its configuration changed to one that shows within a test."""
    with ExitStack() as stack:

        def make(before: str, after: str) -> Front:
            found = settings(tmp_path, tls=False)
            file = rendered(whole(found, tmp_path, tools_socket=str(tmp_path / "tools.sock")), tmp_path)
            text = file.read_text()
            assert before in text
            file.write_text(text.replace(before, after))
            process = stack.enter_context(running_file(file, Path(found.envoy.admin_socket)))
            return Front(FrontDoor(found.envoy.port, "localhost"), Envoy(found, tmp_path, process))

        yield make


async def test_when_memory_is_short(changed: Callable[[str, str], Front]) -> None:
    """New requests are refused with words and not with a 503; administration still answers."""
    front = changed("max_heap_size_bytes: 1073741824", "max_heap_size_bytes: 1000")
    async with upstreams(*behind(front)) as there:
        async with asyncio.timeout(30):
            while (answer := await front.door.curl("/healthz")).status == 200:
                await asyncio.sleep(0.05)  # it looks at its memory now and then
        assert (answer.status, answer.why) == (502, AWAY)
        seen = len(there.seen)
        assert (await front.door.curl(JOBS, *core(), body=b"{}")).status == 502
        assert len(there.seen) == seen
    assert "overload.envoy.overload_actions.shrink_heap.active: 1" in front.envoy.admin("/stats?filter=overload")


async def test_a_connection_without_a_request_ends(changed: Callable[[str, str], Front]) -> None:
    """Soon, also when it never sent one; a WebSocket may be silent for longer."""
    front = changed("idle_timeout: 30s", "idle_timeout: 1s")
    async with upstreams(*behind(front)) as there:
        go = asyncio.Event()

        async def socket(request: web.Request) -> web.StreamResponse:
            opened = web.WebSocketResponse()
            await opened.prepare(request)
            await go.wait()
            await opened.send_str("still here")
            await opened.close()
            return opened

        there.answer = socket
        reader, writer = await asyncio.open_connection("127.0.0.1", front.envoy.port)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{front.envoy.port}/ucloud/example/websocket"
            async with session.ws_connect(url, headers={"Host": "localhost"}) as opened:
                assert await asyncio.wait_for(reader.read(), 30) == b""
                go.set()
                assert await opened.receive_str() == "still here"
        writer.close()


def test_what_a_connection_may_hold(front: Front) -> None:
    """By HTTP/2 windows and buffers, from the configuration that runs: a stranger's connection is no MiB for each of its streams."""
    (manager,) = front.envoy.connection_managers()
    assert manager["http2_protocol_options"]["initial_stream_window_size"] == 65_536
    assert manager["http2_protocol_options"]["initial_connection_window_size"] == 1_048_576
    sizes = re.findall(r'"per_connection_buffer_limit_bytes": (\d+)', front.envoy.admin("/config_dump"))
    assert set(sizes) == {"32768"}


async def test_an_open_call_whose_body_does_not_come_ends_soon(another: Another) -> None:
    """Nobody's token is asked for, so it has little time: the gateway's for its answer, and some seconds."""
    front = another(lambda found: msgspec.structs.replace(found, upstream_timeout_ms=10))
    async with upstreams(*behind(front)):
        unsent = ("-H", "content-length: 100", "--max-time", "20", "-X", "POST")
        began = [front.door.curl("/ucloud/example/integration/welcome", *unsent, h2=False) for _ in range(3)]
        assert [one.status for one in await asyncio.gather(*began)] == [408] * 3


async def test_pages_of_jobs_have_a_rate_before_the_gateway_is_asked(another: Another) -> None:
    """From one address; nobody answers the question here, which is a 502."""

    def with_pages(found: GatewaySettings) -> GatewaySettings:
        web = msgspec.structs.replace(found.web, mode="host", domain="apps.test")
        return msgspec.structs.replace(found, web=web)

    front = another(with_pages, flood_rate=3)
    door = FrontDoor(front.envoy.apps_port, "localhost")
    statuses = [(await door.curl("/")).status for _ in range(20)]
    assert set(statuses) == {429, 502}
