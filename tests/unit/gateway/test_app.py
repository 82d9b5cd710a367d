"""Core's calls in: what each request is answered, without a network in between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from fakes.clock import FakeClock
from fakes.gateway_client import Client
from fakes.gateway_tokens import bearer, claims, key, pem, sign
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1.health_pb2 import HealthCheckResponse
from serai.core.v1 import errors_pb2
from serai.core.v1.errors_pb2 import ErrorReason
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_gateway import errors
from serai_gateway.access import AccessLog, Answered
from serai_gateway.app import SLICE_BYTES, App, shifted
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.upstream import UpstreamError
from serai_telemetry.quiet import Quiet

CODEC = Codec()
LIMIT = 1 << 20
JOB: dict[str, Any] = {
    "id": "54112",
    "owner": {"createdBy": "user", "project": None},
    "specification": {
        "application": {"name": "acme-batch", "version": "1.0.0"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
        "replicas": 1,
    },
}


class Server:
    """An Upstream that answers every create, and can be told to fail."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.error: Exception | None = None
        self.health = "SERVING"

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        self.requests.append((method, request, metadata))
        assert timeout_s > 0
        if self.error is not None:
            raise self.error
        if method.endswith("/Create"):
            items = jobs_pb2.CreateRequest.FromString(request).items
            return jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob() for _ in items]).SerializeToString()
        if method.endswith("/Terminate"):
            return jobs_pb2.TerminateResponse(responses=[jobs_pb2.Acknowledged()]).SerializeToString()
        if method == "/grpc.health.v1.Health/Check":
            return HealthCheckResponse(status=self.health).SerializeToString()
        return b""

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise NotImplementedError(method)
        yield b""


def _log_of(client: Client) -> AccessLog:
    log = client._app._access
    assert isinstance(log, AccessLog)
    return log


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def lines() -> list[bytes]:
    return []


@pytest.fixture
def client(server: Server, tmp_path: Path, lines: list[bytes]) -> Client:
    clock = FakeClock()
    (tmp_path / "key").write_bytes(pem(key()))
    settings = Settings(
        provider=ProviderSettings(id="example", aliases=("ucloud",)),
        gateway=GatewaySettings(body_limit_bytes=LIMIT),
        core=CoreSettings(url="http://core", public_key_file=str(tmp_path / "key"), refresh_token_file="none"),
    )
    check = TokenCheck(PublicKeyFile(tmp_path / "key", clock), clock)
    app = App(settings, CODEC, server, check, AccessLog(clock, write=lines.append))
    return Client(app, bearer(sign(claims(clock.now_ms()))))


def bulk(*jobs: dict[str, Any]) -> bytes:
    return json.dumps({"items": list(jobs)}).encode()


@pytest.mark.parametrize("path", ["/ucloud/example/jobs", "/ucloud/ucloud/jobs", "/ucloud/ucloud/jobs/"])
async def test_create_is_answered_as_the_seed_shows(client: Client, server: Server, path: str) -> None:
    """The path's provider is ours or an alias; the answer is exactly {"responses":[null]} and the server has the job."""
    assert await client.call("POST", path, bulk(JOB)) == (200, {"responses": [None]})
    method, request, metadata = server.requests[0]
    assert method == "/serai.jobs.v1.JobsService/Create"
    assert jobs_pb2.CreateRequest.FromString(request).items[0].id == "54112"
    assert metadata == {"serai-caller": "core"}


async def test_terminate_is_answered_with_objects(client: Client) -> None:
    """An element of `responses` is what the route says: {} here."""
    assert await client.call("POST", "/ucloud/example/jobs/terminate", bulk(JOB)) == (200, {"responses": [{}]})


async def test_the_user_travels_with_the_call(client: Client, server: Server) -> None:
    """UCloud-Username of generation 2021 is raw; characters that metadata cannot hold travel as %XX."""
    for raw, sent in ((b"User#1", "User#1"), ("Bjørn 5%".encode(), "Bj%C3%B8rn 5%25")):
        token = client._token
        await client.call("POST", "/ucloud/example/jobs", bulk(JOB), headers={b"authorization": token, b"ucloud-username": raw})
        assert server.requests[-1][2] == {"serai-caller": "core", "serai-user": sent}


async def test_without_a_good_token_nothing_is_read(client: Client, server: Server) -> None:
    """401 in words; the body is not even received."""
    for headers in ({}, {b"authorization": b"Bearer no"}, {b"authorization": bearer(sign(claims(0)))}):
        status, body = await client.call("POST", "/ucloud/example/jobs", bulk(JOB), headers=headers)
        assert status == 401
        assert body["why"].startswith("Unauthorized")
    assert client.received == 0
    assert server.requests == []


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("POST", "/ucloud/other/jobs", 404),
        ("POST", "/", 404),
        ("POST", "/ucloud/example/jobs/nothing", 404),
        ("POST", "/ucloud/{provider}/jobs", 404),
        ("POST", "/noop", 404),
        ("POST", "/api/jobs/control/update", 404),
        ("GET", "/ucloud/example/jobs", 405),
        ("POST", "/healthz", 405),
    ],
)
async def test_paths_and_verbs_that_are_not_ours(client: Client, verb: str, path: str, status: int) -> None:
    """404 for other providers and unknown paths, calls that only we make included; 405 with Allow for another verb."""
    found, body = await client.call(verb, path, bulk(JOB))
    assert found == status
    assert body == {"statusCode": status, "why": body["why"], "errorCode": None, "detailedCode": 0}
    assert (b"allow" in client.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (bulk({**JOB, "specification": {**JOB["specification"], "replicas": "many"}}), "items[0].specification.replicas: "),
        (bulk(JOB, {**JOB, "owner": None}), "items[1].owner: "),
        (b'{"items":[]}', "items: "),
        (b"", ""),
        (b"[]", ""),
        (b"\xff\xfe", ""),
        (b'{"items":' + b"[" * 100_000, ""),
    ],
)
async def test_bad_bodies_are_400_and_name_the_path(client: Client, server: Server, body: bytes, why: str) -> None:
    """Nothing of it reaches the server."""
    status, answer = await client.call("POST", "/ucloud/example/jobs", body)
    assert status == 400
    assert answer["why"].startswith(why)
    assert server.requests == []


async def test_a_long_bulk_is_read_in_slices(client: Client, server: Server) -> None:
    """What the server gets is the same as of a body read at once; a fault keeps its place in the whole body."""
    jobs = [{**JOB, "id": str(n), "filler": "x" * 500} for n in range(1_000)]
    body = bulk(*jobs)
    assert len(body) > 10 * SLICE_BYTES
    status, answer = await client.call("POST", "/ucloud/example/jobs", body)
    assert (status, answer) == (200, {"responses": [None] * 1_000})
    assert server.requests[0][1] == CODEC.read(jobs_pb2.CreateRequest.DESCRIPTOR, body)
    jobs[777] = {**jobs[777], "owner": {"createdBy": 5}}
    status, answer = await client.call("POST", "/ucloud/example/jobs", bulk(*jobs))
    assert (status, answer["why"].partition(":")[0]) == (400, "items[777].owner.createdBy")
    status, answer = await client.call("POST", "/ucloud/example/jobs", bulk(*[JOB] * 1_001))
    assert (status, answer["why"].partition(":")[0]) == (400, "items")
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["suspend", "terminate"])
async def test_long_bulks_of_other_calls_keep_their_form(client: Client, server: Server, path: str) -> None:
    """Bare jobs of generation 2021 are read in slices as they are in one piece."""
    body = bulk(*({**JOB, "id": str(n), "filler": "x" * 500} for n in range(200)))
    await client.call("POST", f"/ucloud/example/jobs/{path}", body)
    request = {"suspend": jobs_pb2.SuspendRequest, "terminate": jobs_pb2.TerminateRequest}[path]
    assert server.requests[0][1] == CODEC.read(request.DESCRIPTOR, body)


def test_shifted_paths() -> None:
    """Only the first index is that of the slice."""
    assert shifted("items[3].specification.resources[2].type", 10) == "items[13].specification.resources[2].type"
    assert shifted("", 10) == ""
    assert shifted("items", 10) == "items"


async def test_a_body_over_the_limit_is_413_and_not_read_on(client: Client, server: Server) -> None:
    """By its declared length before anything is read, and in chunks as soon as the limit is passed; the connection is closed."""
    headers = {b"authorization": client._token, b"content-length": str(LIMIT + 1).encode()}
    status, body = await client.call("POST", "/ucloud/example/jobs", b"x", headers=headers)
    assert (status, body["statusCode"], client.received) == (413, 413, 0)
    assert client.headers[b"connection"] == b"close"
    status, body = await client.call("POST", "/ucloud/example/jobs", *[b" " * (LIMIT // 4)] * 20)
    assert (status, client.received) == (413, 5)
    assert str(LIMIT) in body["why"]
    status, _ = await client.call("POST", "/ucloud/example/jobs", b" " * (LIMIT + 1))
    assert status == 413
    assert server.requests == []


async def test_a_body_of_exactly_the_limit_is_read(client: Client) -> None:
    """The limit itself is allowed, in one piece or in chunks."""
    body = bulk(JOB)
    body += b" " * (LIMIT - len(body))
    assert (await client.call("POST", "/ucloud/example/jobs", body))[0] == 200
    assert (await client.call("POST", "/ucloud/example/jobs", body[:1000], body[1000:]))[0] == 200


def told(reason: str, message: str, *, field: str = "", domain: str = "serai", code: int = 3) -> UpstreamError:
    status = status_pb2.Status(code=code, message=message)
    for detail in (
        error_details_pb2.ErrorInfo(reason=reason, domain=domain),
        error_details_pb2.BadRequest(field_violations=[error_details_pb2.BadRequest.FieldViolation(field=field)]) if field else None,
    ):
        if detail is not None:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
    return UpstreamError(status)


@pytest.mark.parametrize("row", errors.TABLE.values(), ids=lambda row: row.name)  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType]
async def test_every_reason_of_the_table_becomes_its_status(client: Client, server: Server, row: errors.Row) -> None:
    """HTTP status and errorCode are those of the value's option; the words go through."""
    server.error = told(row.name, "words for a person")
    status, body = await client.call("POST", "/ucloud/example/jobs", bulk(JOB))
    assert status == row.http_status
    assert body == {"statusCode": row.http_status, "why": "words for a person", "errorCode": row.error_code, "detailedCode": 0}


def test_the_table_is_whole() -> None:
    """Every reason has a gRPC code and an HTTP status of an error."""
    assert set(errors.TABLE) == set(ErrorReason.values())
    codes = set(code_pb2.Code.keys())
    assert all(row.grpc_code in codes and 400 <= row.http_status < 600 for row in errors.TABLE.values())
    assert errors.TABLE[errors_pb2.ERROR_REASON_STORE_UNAVAILABLE].http_status == 503


async def test_the_servers_field_stands_before_its_words(client: Client, server: Server) -> None:
    """BadRequest of the server reads like an error of the codec."""
    server.error = told("INVALID_REQUEST", "at most 100 are possible", field="items[0].specification.replicas")
    _, body = await client.call("POST", "/ucloud/example/jobs", bulk(JOB))
    assert body["why"] == "items[0].specification.replicas: at most 100 are possible"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the inside: password=hunter2"),
        told("INVALID_REQUEST", "password=hunter2", domain="elsewhere"),
        told("NOT_IN_THE_TABLE", "password=hunter2"),
        UpstreamError(status_pb2.Status(code=code_pb2.INTERNAL, message="password=hunter2")),
        UpstreamError(status_pb2.Status(code=99, message="password=hunter2")),
    ],
)
async def test_unknown_failures_are_500_with_an_id_that_is_logged(
    client: Client, server: Server, error: Exception, lines: list[bytes]
) -> None:
    """The caller gets fixed words and an id; the log has the failure under that id, and so has the access log."""
    server.error = error
    with structlog.testing.capture_logs() as logs:
        status, body = await client.call("POST", "/ucloud/example/jobs", bulk(JOB))
    assert status == 500
    assert "hunter2" not in body["why"]
    error_id = body["why"].rsplit(" ", 1)[1]
    assert logs[0]["error_id"] == error_id
    _log_of(client).close()
    assert json.loads(lines[0])["error_id"] == error_id


@pytest.mark.parametrize("code", [code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED])
async def test_a_server_that_is_away_is_503(client: Client, server: Server, code: int) -> None:
    """Core repeats a 503 (facts 2021 §1.3), and a repeated create is answered alike: intended."""
    server.error = UpstreamError(status_pb2.Status(code=code, message="ipv4:127.0.0.1:5: refused"))
    status, body = await client.call("POST", "/ucloud/example/jobs", bulk(JOB))
    assert status == 503
    assert "127.0.0.1" not in body["why"]
    assert (await client.call("GET", "/readyz", headers={}))[0] == 503
    assert (await client.call("GET", "/healthz", headers={}))[0] == 200


async def test_health_needs_no_token(client: Client, server: Server) -> None:
    """/healthz: the process is up; /readyz: the server says that it serves, which needs its store too."""
    for path in ("/healthz", "/readyz"):
        assert await client.call("GET", path, headers={}) == (200, {"status": "ok"})
    server.health = "NOT_SERVING"
    assert (await client.call("GET", "/healthz", headers={}))[0] == 200
    assert (await client.call("GET", "/readyz", headers={}))[0] == 503


async def test_the_access_log_has_no_secrets(client: Client, lines: list[bytes]) -> None:
    """One line for each request: method, path template, status, ms; no token, no body, no user's path."""
    await client.call("POST", "/ucloud/example/jobs", bulk(JOB))
    await client.call("POST", "/ucloud/secret-path", bulk(JOB))
    _log_of(client).close()
    found = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in found] == [
        ("POST", "/ucloud/{provider}/jobs", 200),
        ("POST", "none", 404),
    ]
    assert all(set(line) == {"timestamp", "status", "ms", "method", "path", "level", "event"} for line in found)
    assert found[0]["timestamp"] == "2023-11-14T22:13:20.000+00:00"


async def test_a_client_that_goes_away_while_sending(client: Client, server: Server) -> None:
    """Nothing is sent to it and nothing reaches the server."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/ucloud/example/jobs", "headers": [(b"authorization", client._token)]}
    await client._app(scope, receive, send)
    assert sent == []
    assert server.requests == []


async def test_strangers_do_not_fill_the_log(client: Client, lines: list[bytes]) -> None:
    """Of those who are refused there are some lines, and then the number of those that have none; Core's refusals have their lines."""
    for _ in range(50):
        await client.call("POST", "/ucloud/example/jobs", b"{}", headers={})
        await client.call("GET", "/ucloud/no/such/path", b"")
    for _ in range(30):
        await client.call("POST", "/ucloud/example/jobs", b"{")
    _log_of(client).close()
    found = [json.loads(line)["status"] for line in b"".join(lines).splitlines()]
    assert found.count(401) + found.count(404) == 20
    assert found.count(400) == 30


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("GET", 302), ("GET", 500), ("WEBSOCKET", 101)])
async def test_strangers_who_are_answered_do_not_fill_the_log(method: str, status: int) -> None:
    """They have more lines than those who are refused, and they are not endless; failures too. Core's calls have all of theirs."""
    lines = list[bytes]()
    access = AccessLog(FakeClock(), write=lines.append)
    for _ in range(1_000):
        access.add(Answered(method, "/openapi.json", status, 0))
        access.add(Answered("POST", "/ucloud/{provider}/jobs", status, 0))
    access.close()
    found = [json.loads(line)["path"] for line in b"".join(lines).splitlines()]
    assert (found.count("/openapi.json"), found.count("/ucloud/{provider}/jobs")) == (300, 1_000)


async def test_how_many_were_left_out_is_in_the_next_line() -> None:
    """So that nobody takes the log for the whole."""
    lines, now_s = list[bytes](), [0.0]
    access = AccessLog(FakeClock(), write=lines.append, strangers=Quiet(2, 60.0, lambda: now_s[0]))
    for _ in range(5):
        access.add(Answered("GET", "none", 404, 0))
    now_s[0] = 61.0
    access.add(Answered("GET", "none", 404, 0))
    access.close()
    assert [json.loads(line).get("left_out", 0) for line in b"".join(lines).splitlines()] == [0, 0, 3]
