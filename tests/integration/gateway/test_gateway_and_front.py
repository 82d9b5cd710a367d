"""The gateway over the server's real front, in this process and behind its socket: nobody else sees the difference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.front import Front, served
from fakes.gateway_tokens import bearer, claims, key, pem, sign
from grpc_health.v1.health_pb2 import HealthCheckResponse
from serai.events.v1 import events_service_pb2 as events_pb2
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.channel import ChannelUpstream
from serai_gateway.codec import Codec
from serai_gateway.control.deliveries import ACKNOWLEDGE, SUBSCRIBE
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.upstream import InProcessUpstream, Upstream, UpstreamError, closing
from serai_server.errors import JobConflictError, StoreDown

CODEC = Codec()
JOB: dict[str, Any] = {
    "id": "54112",
    "owner": {"createdBy": "user", "project": None},
    "specification": {
        "application": {"name": "acme-batch", "version": "1.0.0"},
        "product": {"id": "example-compute-1", "category": "example-compute", "provider": "example"},
    },
}


@pytest.fixture
def front() -> Front:
    found = Front()
    for part in ("store", "reconciler"):
        found.health.tell(part, up=True)
    return found


@pytest.fixture(params=["in process", "socket"])
async def upstream(request: pytest.FixtureRequest, front: Front, tmp_path: Path) -> AsyncGenerator[Upstream]:
    if request.param == "in process":
        yield InProcessUpstream(front.dispatcher())
        return
    socket = tmp_path / "run" / "serai.sock"
    async with served(socket, front), ChannelUpstream(f"unix:{socket}") as channel:
        yield channel


class Client:
    def __init__(self, app: App, token: bytes) -> None:
        self._app = app
        self._token = token

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app({"type": "http", "method": method, "path": path, "headers": [(b"authorization", self._token)]}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Client:
    clock = FakeClock()
    (tmp_path / "key").write_bytes(pem(key()))
    settings = Settings(
        provider=ProviderSettings(id="example"), core=CoreSettings(url="http://core", public_key_file="-", refresh_token_file="-")
    )
    app = App(settings, CODEC, upstream, TokenCheck(PublicKeyFile(tmp_path / "key", clock), clock), None)
    return Client(app, bearer(sign(claims(clock.now_ms()))))


async def test_jobs_reach_the_server(client: Client) -> None:
    """Create, its repetition, terminate, products, readiness."""
    body = json.dumps({"items": [JOB]}).encode()
    for _ in range(2):
        assert await client.call("POST", "/ucloud/example/jobs", body) == (200, {"responses": [None]})
    assert await client.call("POST", "/ucloud/example/jobs/terminate", body) == (200, {"responses": [{}]})
    status, answer = await client.call("GET", "/ucloud/example/jobs/retrieveProducts")
    assert (status, list(answer)) == (200, ["responses"])
    assert await client.call("GET", "/readyz") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        (StoreDown("nothing was stored, try again"), 503, "nothing was stored"),
        (JobConflictError("a job 54112 with other content exists", field="items[0].id"), 409, "items[0].id: a job 54112"),
        (RuntimeError("password=hunter2"), 500, ""),
    ],
)
async def test_the_servers_errors_reach_core(client: Client, front: Front, wrong: Exception, status: int, words: str) -> None:
    """The same status and words by both ways, and nothing of the inside."""
    front.jobs.wrong = wrong
    found, answer = await client.call("POST", "/ucloud/example/jobs", json.dumps({"items": [JOB]}).encode())
    assert (found, answer["statusCode"]) == (status, status)
    assert answer["why"].startswith(words)
    assert "hunter2" not in answer["why"]


async def test_what_this_provider_does_not_do(client: Client) -> None:
    """Refused with UCloud's code for features that a provider does not have."""
    status, answer = await client.call(
        "POST", "/ucloud/example/jobs/attachResource", json.dumps({"job": JOB, "resource": {"type": "network", "id": "1"}}).encode()
    )
    assert (status, answer["errorCode"]) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")


async def test_events_are_subscribed_and_acknowledged(upstream: Upstream) -> None:
    """The two calls that deliveries live on are there under their names, with the server's own errors."""
    metadata = {"serai-caller": "core"}
    delivered = events_pb2.Settlement(sequence=1, outcome=events_pb2.SETTLEMENT_OUTCOME_DELIVERED)
    settled = events_pb2.AcknowledgeRequest(consumer="core", settlements=[delivered])
    await upstream.unary(ACKNOWLEDGE, settled.SerializeToString(), metadata, 5)
    request = events_pb2.SubscribeRequest(consumer="")
    with pytest.raises(UpstreamError, match="INVALID_ARGUMENT"):
        async with asyncio.timeout(20), closing(upstream.stream(SUBSCRIBE, request.SerializeToString(), metadata)) as stream:
            async for _ in stream:
                break


async def test_the_groups_of_a_user_reach_the_server_however_many_they_are(upstream: Upstream) -> None:
    """A thousand of them: grpc's own limit for what travels beside a request is a fifth of that."""
    groups = ",".join(f"00000000-0000-0000-0000-{number:012d}" for number in range(1_000))
    metadata = {"serai-caller": "core", "serai-groups": groups}
    for _ in range(5):
        answer = await upstream.unary("/grpc.health.v1.Health/Check", b"", metadata, 20.0)
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
