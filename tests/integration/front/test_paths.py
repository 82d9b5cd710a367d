"""Which paths lead where, and that no spelling of one leads past its rule."""

from __future__ import annotations

import time
from typing import cast

import grpc.aio
import msgspec
import pytest
from fakes.gateway_tokens import claims, sign
from fakes.upstreams import upstreams

from .conftest import TOOL, Another, Front

WELCOME = "/ucloud/example/integration/welcome"
BRANDING = "/ucloud/example/provider/branding/retrieveInfo"
SOCKET = (
    "-H",
    "Connection: Upgrade",
    "-H",
    "Upgrade: websocket",
    "-H",
    "Sec-WebSocket-Version: 13",
    "-H",
    "Sec-WebSocket-Key: dGhl",
    "--http1.1",
)


@pytest.mark.parametrize(
    ("path", "socket", "verb"),
    [
        ("/ucloud/jobs.provider.example/websocket?usernameHint=x", True, "GET"),
        ("/ucloud/example/websocket", True, "GET"),
        ("/ucloud/example/jobs/vnc/Abc_-1", True, "GET"),
        ("/ucloud/example/jobs/../websocket", True, "GET"),
        (WELCOME, False, "POST"),
        ("/ucloud/example/./integration/./welcome?x", False, "POST"),
        (BRANDING, False, "GET"),
        ("/console/api/jobs", False, "GET"),
        ("/console/socket", True, "GET"),
        ("/healthz", False, "GET"),
        ("/readyz", False, "GET"),
        ("/openapi.json", False, "GET"),
        ("/v1/openapi.json", False, "GET"),
    ],
)
async def test_what_passes_without_a_token(front: Front, path: str, socket: bool, verb: str) -> None:
    """The gateway looks at what comes with these."""
    answer = await front.door.curl(path, "-X", verb, *(SOCKET if socket else ()), "--max-time", "5")
    assert answer.status == 200, answer
    assert len(front.behind.seen) == 1


@pytest.mark.parametrize(
    ("path", "socket", "verb", "status"),
    [
        ("/ucloud/example/websocket", False, "GET", 401),
        ("/ucloud/example/websocket", False, "POST", 401),
        ("/ucloud/example/websocket", True, "POST", 403),
        ("/ucloud/example/websocket/", True, "GET", 403),
        ("/ucloud/example/websocket/x", True, "GET", 403),
        ("/ucloud/example/x/websocket", True, "GET", 403),
        ("/ucloud/other/websocket", True, "GET", 403),
        ("/ucloud/examplex/websocket", True, "GET", 403),
        ("/ucloud/jobsxproviderxexample/websocket", True, "GET", 403),
        ("/ucloud/example/websocket%2f..%2fjobs", True, "GET", 400),
        ("/ucloud/example/websocket%5c..%5cjobs", True, "GET", 400),
        ("/ucloud/example/websocket/../jobs", True, "GET", 403),
        ("/ucloud/example/websocket;x", True, "GET", 403),
        ("/ucloud/example\\..\\websocket", True, "GET", 403),
        ("/ucloud/example/jobs/vnc/", True, "GET", 403),
        ("/ucloud/example/jobs/vnc/a/b", True, "GET", 403),
        ("/ucloud/example/jobs/vnc/a.b", True, "GET", 403),
        ("/ucloud/example/jobs/vnc/../retrieveProducts", True, "GET", 403),
        ("/ucloud/example/jobs/vnc/abc", False, "GET", 401),
        ("/ucloud//example/jobs", False, "POST", 401),
        ("//ucloud/example/jobs", False, "POST", 401),
        ("/ucloud/example/%2e%2e/example/jobs", False, "POST", 401),
        ("/%75cloud/example/jobs", False, "POST", 401),
        ("/console/../ucloud/example/jobs", False, "POST", 401),
        ("/v1/../ucloud/example/jobs", False, "POST", 401),
        ("/ucloud/./example/jobs", False, "POST", 401),
        ("/UCLOUD/example/jobs", False, "POST", 404),
        ("/ucloud", False, "POST", 404),
        ("/ucloud;/example/jobs", False, "POST", 404),
        (WELCOME, False, "GET", 401),
        (WELCOME + "/", False, "POST", 401),
        (WELCOME + "/../../jobs", False, "POST", 401),
        (WELCOME + "%00", False, "POST", 400),
        ("/ucloud/other/integration/welcome", False, "POST", 401),
        (BRANDING, False, "POST", 401),
        ("/metrics", False, "GET", 404),
        ("/stats", False, "GET", 404),
        ("/quitquitquit", False, "POST", 404),
        ("/config_dump", False, "GET", 404),
        ("/authz/x", False, "GET", 404),
        ("/app/1/0/", False, "GET", 404),
        ("/consolex", False, "GET", 404),
        ("/", False, "GET", 404),
        ("/healthz/x", False, "GET", 404),
        ("/devcore/jobs", False, "POST", 404),
    ],
)
async def test_what_does_not(front: Front, path: str, socket: bool, verb: str, status: int) -> None:
    """Whatever is tried with dots, slashes, escapes, cases and verbs."""
    answer = await front.door.curl(path, "-X", verb, *(SOCKET if socket else ()))
    assert (answer.status, front.behind.seen, front.behind.called) == (status, [], []), answer
    if status != 400:
        assert answer.why


async def test_paths_reach_the_gateway_resolved(front: Front) -> None:
    """As the rules saw them, so that it cannot read another call into one; the query stays as it is."""
    token = ("-H", f"Authorization: Bearer {sign(claims(int(time.time() * 1_000)))}")
    for path in ("/ucloud//example/x/../jobs?a=%2F..//&b", "/%75cloud/example/jobs?a=%2F..//&b"):
        assert (await front.door.curl(path, *token)).status == 200
        assert front.behind.seen[-1].path == "/ucloud/example/jobs?a=%2F..//&b"


async def test_another_name_is_served_nothing(front: Front) -> None:
    answer = await front.door.curl("/healthz", "-H", "Host: elsewhere.test")
    assert (answer.status, front.behind.seen) == (404, [])


FORGED = (
    "serai-caller: console",
    "serai-user: root",
    "serai-role: PI",
    "serai-project: forged",
    "serai-groups: forged",
    "Serai-Caller: console",
    "x-serai-target: 127.0.0.1:1",
    "x-serai-host: forged",
    "x-envoy-original-path: /ucloud/example/jobs",
    "x-envoy-original-dst-host: 127.0.0.1:1",
    "x-envoy-retry-on: 5xx",
    "x-envoy-upstream-rq-timeout-ms: 11",
    "x-forwarded-for: 10.0.0.1",
    "x-forwarded-host: evil.test",
    "x-forwarded-proto: forged",
    "x-forwarded-client-cert: By=x",
    "forwarded: for=10.0.0.1",
    "x-real-ip: 10.0.0.1",
    "x-original-url: /ucloud/example/jobs",
    "x-rewrite-url: /ucloud/example/jobs",
)


async def test_forged_headers_go(front: Front) -> None:
    """Whatever says who asks, where to and for whom, at the gateway and at the tools' door; Envoy's own are true."""
    forged = [argument for line in FORGED for argument in ("-H", line)]
    assert (await front.door.curl("/console/api/jobs", *forged, "-H", "serai-request-id: mine")).status == 200
    pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in FORGED)]
    async with front.door.channel() as channel:
        call = cast("grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", channel.unary_unary("/serai.jobs.v1.JobsService/Get"))
        await call(b"", metadata=(*pairs, ("serai-request-id", "mine"), TOOL))
    _, told = front.behind.called[-1]
    for got in (front.behind.seen[-1].headers, told):
        assert got["serai-request-id"] == "mine"
        assert {name for name, _ in pairs} & set(got) <= {"x-forwarded-for", "x-forwarded-proto"}
        assert not {value for _, value in pairs} & set(got.values())
        assert got["x-forwarded-proto"] == "https"
    assert told["authorization"] == TOOL[1]


TRACE = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: rojo=1"


@pytest.mark.parametrize("trusted", [False, True])
async def test_traces_of_strangers(another: Another, trusted: bool) -> None:
    """Go, unless the settings say that whoever calls may choose: at the gateway and at the tools' door."""
    front = another(lambda settings: msgspec.structs.replace(settings, trust_traces=trusted))
    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock") as behind:
        await front.door.curl("/console/api/jobs", *(argument for line in TRACE for argument in ("-H", line)))
        pairs = {name: value for name, _, value in (line.partition(": ") for line in TRACE)}
        async with front.door.channel() as channel:
            await channel.unary_unary("/serai.jobs.v1.JobsService/Get")(b"", metadata=(*pairs.items(), TOOL))
        for got in (behind.seen[-1].headers, behind.called[-1][1]):
            assert {name: value for name, value in got.items() if name in pairs} == (pairs if trusted else {})
