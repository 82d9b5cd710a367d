"""Tools through Envoy: gRPC of all shapes, gRPC-Web of browsers, JSON at /v1. What is behind echoes."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast
from urllib.parse import unquote

import grpc
import grpc.aio
import pytest
from fakes.up import Reply
from fakes.upstreams import upstreams
from serai.jobs.v1 import jobs_service_pb2

from .conftest import AS_TOOL, ORIGIN, TOOL, Another, Front

GET = "/serai.jobs.v1.JobsService/Get"
SHELL = "/serai.sessions.v1.SessionsService/Shell"
WEB = (*AS_TOOL, "-H", "content-type: application/grpc-web+proto")
FROM = ("-H", f"Origin: {ORIGIN}")
PREFLIGHT = ("-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST", "-H", "Access-Control-Request-Headers: x-grpc-web,content-type")

Unary = Callable[[bytes], Awaitable[bytes]]
Stream = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
Both = grpc.aio.StreamStreamMultiCallable[bytes, bytes]


def unary(channel: grpc.aio.Channel, method: str = GET) -> Unary:
    return cast("Unary", partial(channel.unary_unary(method), metadata=(TOOL,)))


async def test_one_answer_and_many(front: Front) -> None:
    """Unary, a stream of answers, streams in both directions while both are open."""
    async with front.door.channel() as channel:
        assert await unary(channel)(b"abc") == b"abc"
        front.behind.many = 3
        answers = cast("Stream", channel.unary_stream("/serai.jobs.v1.JobsService/Watch"))
        assert [answer async for answer in answers(b"x", metadata=(TOOL,))] == [b"x"] * 3
        front.behind.many = 1
        call = cast("Both", channel.stream_stream(SHELL))(metadata=(TOOL,))
        for text in (b"1", b"2", b"3"):
            await call.write(text)
            assert await call.read() == text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_12_mib_in_one_stream(front: Front) -> None:
    """There is no limit of a body on gRPC."""
    async with front.door.channel(("grpc.max_receive_message_length", -1)) as channel:
        call = cast("Both", channel.stream_stream(SHELL))(metadata=(TOOL,))
        for _ in range(4):
            await call.write(b"x" * (3 << 20))
            assert len(cast("bytes", await call.read())) == 3 << 20
        call.cancel()


async def test_a_deadline_is_the_callers(front: Front) -> None:
    """Told as such, and known behind; Envoy has none of its own that would be told as an internal error."""
    forever = asyncio.Event()
    front.behind.after = forever.wait
    async with front.door.channel() as channel:
        answers = cast("Stream", channel.unary_stream("/serai.jobs.v1.JobsService/Watch"))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            async for _ in answers(b"x", timeout=0.7, metadata=(TOOL,)):
                pass
    forever.set()
    assert told.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "grpc-timeout" in front.behind.called[-1][1] or len(front.behind.called) == 1


async def test_errors_pass(front: Front) -> None:
    front.behind.abort = grpc.StatusCode.NOT_FOUND, "no job of this id; überall"
    async with front.door.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await unary(channel)(b"")
    assert (told.value.code(), told.value.details()) == (grpc.StatusCode.NOT_FOUND, "no job of this id; überall")


async def test_what_is_no_service_of_ours(front: Front) -> None:
    """Reflection and health are; nothing else reaches the door, whatever the door would say."""
    async with front.door.channel() as channel:
        for method in (
            "/envoy.service.auth.v3.Authorization/Check",
            "/grpc.channelz.v1.Channelz/GetServers",
            "/serai.jobs.v1.JobsService/../x",
        ):
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await unary(channel, method)(b"")
            assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED, method
        assert front.behind.called == []
        for method in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            assert await unary(channel, method)(b"x") == b"x"


async def test_a_door_that_is_away(another: Another) -> None:
    """gRPC has its own UNAVAILABLE, in plain words; JSON has UCloud's form and no 503."""
    front = another()
    async with front.door.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await unary(channel)(b"")
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "{" not in (told.value.details() or "")
    answer = await front.door.curl("/v1/jobs/1", *AS_TOOL)
    assert (answer.status, answer.why) == (502, "The provider cannot be reached right now, try again")


async def test_tools_can_be_kept_out(another: Another) -> None:
    """Then neither gRPC nor /v1 lead anywhere."""
    front = another(tools=False)
    assert (await front.door.curl("/v1/jobs")).status == 404
    assert (await front.door.curl(GET, "-H", "content-type: application/grpc", "-X", "POST")).header("grpc-status") == "12"


async def test_json_at_a_path_of_grpc(front: Front) -> None:
    """Reaches nobody: gRPC would take it for a broken call."""
    answer = await front.door.curl(GET, "-H", "content-type: application/json", body=b"{}", h2=False)
    assert (answer.status, front.behind.called) == (404, [])


def framed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def web_parts(answer: Reply) -> tuple[bytes, bytes]:
    """The first message, and the trailers."""
    (size,) = struct.unpack(">I", answer.body[1:5])
    return answer.body[5 : 5 + size], answer.body[5 + size :]


@pytest.mark.parametrize("h2", [False, True])
async def test_grpc_web(front: Front, h2: bool) -> None:
    """Binary and as text, for the page that may; a failure can be read by its script."""
    answer = await front.door.curl(GET, *WEB, *FROM, body=framed(b"abc"), h2=h2)
    message, trailers = web_parts(answer)
    assert (answer.status, message) == (200, b"abc")
    assert b"grpc-status:0" in trailers
    assert answer.header("access-control-allow-origin") == ORIGIN
    as_text = (*AS_TOOL, "-H", "content-type: application/grpc-web-text", "-H", "accept: application/grpc-web-text")
    answer = await front.door.curl(GET, *as_text, *FROM, body=base64.b64encode(framed(b"abc")), h2=h2)
    assert answer.header("content-type").startswith("application/grpc-web-text")
    assert base64.b64decode(answer.body[:12])[5:8] == b"abc"
    front.behind.abort = grpc.StatusCode.UNAUTHENTICATED, "no"
    answer = await front.door.curl(GET, *WEB, *FROM, body=framed(b""), h2=h2)
    assert (answer.status, answer.header("grpc-status") or answer.body[5:]) in (
        (200, "16"),
        (200, b"grpc-status:16\r\ngrpc-message:no\r\n"),
    )
    assert {"grpc-status", "grpc-message"} <= set(answer.header("access-control-expose-headers").split(","))


@pytest.mark.parametrize("path", [GET, "/v1/jobs"])
async def test_a_page_that_may_call(front: Front, path: str) -> None:
    """Its browser's question is answered by Envoy itself."""
    answer = await front.door.curl(path, *PREFLIGHT, *FROM)
    assert (answer.status, answer.header("access-control-allow-origin"), answer.header("access-control-max-age")) == (200, ORIGIN, "600")
    assert "authorization" in answer.header("access-control-allow-headers")
    assert answer.header("access-control-allow-credentials") == ""
    assert front.behind.seen == front.behind.called == []


@pytest.mark.parametrize(
    "origin", ["https://evil.test", "https://tools.test.evil.test", "http://tools.test", "null", "https://TOOLS.test:443"]
)
@pytest.mark.parametrize("path", [GET, "/v1/jobs"])
async def test_another_page(front: Front, path: str, origin: str) -> None:
    """Its browser's question never reaches the server's gRPC, and nothing allows its script to read an answer."""
    answer = await front.door.curl(path, *PREFLIGHT, "-H", f"Origin: {origin}")
    assert answer.header("access-control-allow-origin") == ""
    assert [seen.method for seen in front.behind.seen] == ["OPTIONS"]
    answer = await front.door.curl(GET, *WEB, "-H", f"Origin: {origin}", body=framed(b"abc"))
    assert answer.header("access-control-allow-origin") == ""
    assert len(front.behind.called) == 1


async def test_cores_calls_and_the_console_are_for_no_other_page(front: Front) -> None:
    for path in ("/ucloud/example/jobs", "/console/api/jobs", "/api/licenses/browse"):
        answer = await front.door.curl(path, *PREFLIGHT, *FROM)
        assert answer.header("access-control-allow-origin") == "", path


async def test_json(front: Front) -> None:
    """A path's variable and a query's parameter become the request, and the answer is protobuf's JSON."""
    report = jobs_service_pb2.JobReport(id="51231")
    front.behind.reply = jobs_service_pb2.ListResponse(jobs=[report]).SerializeToString()
    answer = await front.door.curl("/v1/jobs?pageSize=7&activeOnly=true", *AS_TOOL)
    assert answer.status == 200, answer
    assert (answer.json["jobs"][0]["id"], answer.json["jobs"][0]["status"]) == ("51231", "")
    method, told = front.behind.called[0]
    assert (method, told["authorization"]) == ("/serai.jobs.v1.JobsService/List", TOOL[1])
    asked = jobs_service_pb2.ListRequest.FromString(front.behind.messages[0])
    assert (asked.page_size, asked.active_only) == (7, True)
    front.behind.reply = b""
    assert (await front.door.curl("/v1/jobs/51231", *AS_TOOL)).status == 200
    assert jobs_service_pb2.GetRequest.FromString(front.behind.messages[1]).job_id == "51231"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/jobs/1?nope=1", None, 400),
        ("/v1/nope", None, 404),
        ("/v1/jobs/1/2", None, 404),
        ("/v1/jobs/a%2fb", None, 400),
        ("/v1/jobs:terminate", b'{"items":', 400),
        ("/v1/jobs:terminate", b"[]", 400),
        ("/v1/jobs:terminate", b'{"items":7}', 400),
        ("/v1/jobs?pagesize=7", None, 400),
        ("/v1/sessions", b'{"jobId":"1","kind":"SHELL"}', 400),
        ("/v1/jobs/1", b"{}", 404),
        ("/v1/", None, 404),
    ],
)
async def test_json_that_is_refused(front: Front, path: str, body: bytes | None, status: int) -> None:
    """In UCloud's form, with words; no message reaches the server."""
    answer = await front.door.curl(path, *AS_TOOL, body=body, h2=False)  # over HTTP/2 a body that nobody reads costs some curls the answer
    assert (answer.status, front.behind.messages) == (status, []), answer
    if "%" not in path:
        assert answer.why


@pytest.mark.parametrize(
    "header",
    ["F$T: a", "~: a", "a!b: c", "X: \u00e9", "x-bin: ####", "grpc-trace-bin: zz", "grpc-timeout: soon", "grpc-encoding: x", "X: a\tb"],
)
async def test_headers_that_http_allows_and_grpc_does_not(front: Front, header: str) -> None:
    """They do not reach the server, which would answer INTERNAL; the call is answered."""
    front.behind.reply = b""
    answer = await front.door.curl("/v1/jobs/51231", *AS_TOOL, "-H", header)
    assert answer.status == 200, answer
    name = header.partition(":")[0].lower()
    assert name == "x" or name not in front.behind.called[0][1]


async def test_fields_that_do_not_exist_are_ignored(front: Front) -> None:
    """In a body, as the documentation says: Envoy knows no way to refuse them."""
    await front.door.curl("/v1/jobs:terminate", *AS_TOOL, body=b'{"zebra": 1}')
    assert [method for method, _ in front.behind.called] == ["/serai.jobs.v1.JobsService/Terminate"]


async def test_errors_as_json(front: Front) -> None:
    """google.rpc.Status with the HTTP status that belongs to it."""
    for code, status, number in (
        (grpc.StatusCode.NOT_FOUND, 404, 5),
        (grpc.StatusCode.UNAUTHENTICATED, 401, 16),
        (grpc.StatusCode.UNAVAILABLE, 503, 14),
    ):
        front.behind.abort = code, "so it is"
        answer = await front.door.curl("/v1/jobs/1", *AS_TOOL)
        assert (answer.status, answer.json["code"], answer.json["message"]) == (status, number, "so it is")


async def test_a_stream_as_json(front: Front) -> None:
    """One object a line."""
    front.behind.many = 3
    front.behind.reply = b""
    answer = await front.door.curl("/v1/jobs/1:watch", *AS_TOOL, h2=False)  # over HTTP/2, curl would write the trailers behind it
    assert answer.status == 200
    assert len([json.loads(line) for line in answer.body.splitlines()]) == 3


async def test_a_body_of_json_that_just_fits(front: Front) -> None:
    """Although it is longer than what Envoy otherwise holds of a connection."""
    body = b'{"zebra": "' + b"x" * (1_000_000 - 13) + b'"}'
    assert (await front.door.curl("/v1/jobs:submit", *AS_TOOL, body=body)).status == 200
    assert len(front.behind.messages) == 1


async def test_a_call_of_json_ends_in_time(another: Another) -> None:
    """504 when the server does not answer, 408 when the body does not come; a stream may take as long as it likes."""
    front, forever, began = another(v1_timeout_ms=300), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await forever.wait()

    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock") as behind:
        behind.before, behind.reply = wait, b""
        stream = asyncio.create_task(front.door.curl("/v1/jobs/1:watch", *AS_TOOL, h2=False))
        await asyncio.wait_for(began.wait(), 20)
        unsent = ("-H", "content-length: 9", "-X", "POST")
        answers = [
            await front.door.curl(path, *AS_TOOL, *more, h2=False) for path, more in (("/v1/jobs/1", ()), ("/v1/jobs:terminate", unsent))
        ]
        assert [(answer.status, answer.why) for answer in answers] == [
            (504, "The provider did not answer in time, try again"),
            (408, "The request did not come whole in time"),
        ]
        assert not stream.done()
        forever.set()
        assert (await stream).status == 200


NEEDED = "a token is needed here: authorization: Bearer serai_... (`serai tokens create` makes one)"
NO_TOKENS = ((), ("-H", "authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.x"), ("-H", "authorization: Basic serai_x"), (*AS_TOOL, *AS_TOOL))


@pytest.mark.parametrize("who", NO_TOKENS)
async def test_without_a_tools_token_nothing_passes(front: Front, who: tuple[str, ...]) -> None:
    """Refused in the caller's own form, before a body has come; a page's script can read it."""
    unsent = ("-H", "content-length: 900000", "--max-time", "20")  # it never comes
    answer = await front.door.curl("/v1/jobs", *who, *FROM, *unsent, "-X", "POST", h2=False)
    assert (answer.status, answer.why) == (401, NEEDED)
    assert answer.header("access-control-allow-origin") == ORIGIN
    for kind in ("application/grpc", "application/grpc-web+proto"):
        asked = ("-H", f"content-type: {kind}", *unsent, "-X", "POST")
        answer = await front.door.curl(SHELL, *who, *FROM, *asked, h2=False)
        assert (answer.status, answer.header("grpc-status")) == (401 if "web" in kind else 200, "16"), answer
        assert unquote(answer.header("grpc-message")) == NEEDED
        assert answer.header("access-control-allow-origin") == ORIGIN
    assert front.behind.called == []


async def test_health_is_for_everybody(front: Front) -> None:
    """Check and List; what stays open is not."""
    async with front.door.channel() as channel:
        for method in ("Check", "List"):
            assert await cast("Unary", channel.unary_unary(f"/grpc.health.v1.Health/{method}"))(b"x") == b"x"
        for path in ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", GET):
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await cast("Unary", channel.unary_unary(path))(b"x")
            assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "serai tokens create" in (told.value.details() or "")


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web", "application/grpc-web-text"])
async def test_grpc_at_a_path_of_json(front: Front, kind: str) -> None:
    """Reaches nobody: at the server it would be a call of a method that is none. 415, in gRPC's own form where it is gRPC."""
    answer = await front.door.curl("/v1/jobs", *AS_TOOL, "-H", f"content-type: {kind}", body=framed(b""), h2=False)
    assert (answer.status, front.behind.called) == (415 if "web" in kind else 200, []), answer
    assert "send JSON here" in answer.header("grpc-message")
