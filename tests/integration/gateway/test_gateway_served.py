"""The gateway as it runs: real HTTP in, real HTTP out to the stand-in for Core, a fake event log behind it."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from fakes.gateway_events import FakeEventLog, charge, total
from grpc_health.v1.health_pb2 import HealthCheckResponse
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.jobs.v1 import job_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai_devcore import EXAMPLE_LICENSE, ResourceRequest
from serai_devcore.applications import acme_request
from serai_devcore.core import DevCore
from serai_devcore.core import Settings as DevSettings
from serai_devcore.faults import Away
from serai_devcore.wire import Generation
from serai_gateway.auth import KeyFileError
from serai_gateway.gateway import Gateway
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings

GOLDEN = Path(__file__).parents[2] / "golden" / "ucloud-2021"
LIMIT = 100_000


class Server(FakeEventLog):
    """An Upstream: takes jobs, and sends the events that a test adds."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, job_pb2.Job] = {}
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.listed = asyncio.Event()
        self.verified = asyncio.Event()
        """Licenses were."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method.startswith("/serai.events."):
            return await super().unary(method, request, metadata, timeout_s)
        if method == "/grpc.health.v1.Health/Check":
            return HealthCheckResponse(status="SERVING").SerializeToString()
        if method.endswith("/List"):
            self.listed.set()
            return b""
        if method.endswith("LicensesProviderService/Verify"):
            self.verified.set()
            return b""
        self.entered.set()
        await self.go_on.wait()
        if method.endswith("/Create"):
            jobs = jobs_pb2.CreateRequest.FromString(request).items
            self.jobs.update({job.id: job for job in jobs})
            return jobs_pb2.CreateResponse(responses=[jobs_pb2.CreatedJob() for _ in jobs]).SerializeToString()
        return b""


class Both:
    """Core and gateway, each knowing the other."""

    def __init__(self, core: DevCore, server: Server, settings: Settings) -> None:
        self.core = core
        self.server = server
        self.settings = settings
        self.url = ""
        self.port = 0

    @asynccontextmanager
    async def gateway(self) -> AsyncGenerator[Gateway]:
        async with asyncio.timeout(60), Gateway(self.settings, self.server) as gateway:
            self.url, self.port = gateway.url, gateway.port
            self.core.providers["example"].url = gateway.url
            yield gateway

    def states(self, job_id: str) -> list[str]:
        """As Core has them."""
        job = self.core.jobs.get(job_id)
        assert job is not None
        return job.states

    def bearer(self) -> str:
        return self.core.providers["example"].issuer.core_token()


@asynccontextmanager
async def made(tmp_path: Path, generation: Generation = Generation.G2021, token_lifetime_s: int | None = None) -> AsyncGenerator[Both]:
    async with DevCore(DevSettings(generation=generation, token_lifetime_s=token_lifetime_s)) as core:
        provider = core.add_provider("example", path_name="ucloud")
        (tmp_path / "core.pem").write_text(provider.issuer.public_key_pem)
        (tmp_path / "refresh").write_text(provider.issuer.refresh_token)
        settings = Settings(
            provider=ProviderSettings(id="example", aliases=("ucloud",)),
            gateway=GatewaySettings(port=0, body_limit_bytes=LIMIT, access_log=False, stop_grace_ms=5_000),
            core=CoreSettings(
                url=core.url,
                public_key_file="core.pem",
                refresh_token_file="refresh",
                generation="2021" if generation is Generation.G2021 else "2026",
                retry_base_ms=10,
                retry_cap_ms=50,
                timeout_ms=2_000,
            ).relative_to(tmp_path),
        )
        yield Both(core, Server(), settings)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncGenerator[Both]:
    async with made(tmp_path) as found:
        yield found


def running(sequence: int, job_id: str, state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_RUNNING) -> events_pb2.Event:
    return events_pb2.Event(sequence=sequence, job_id=job_id, job_update=job_pb2.JobUpdate(state=state, status=f"now {sequence}"))


async def exchange(port: int, content: bytes, *, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer on one raw connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        found: list[tuple[int, dict[str, str], bytes]] = []
        for _ in range(answers):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
            found.append((int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))))
        return found
    finally:
        writer.close()


@pytest.mark.parametrize("generation", list(Generation))
async def test_core_submits_and_is_told(tmp_path: Path, generation: Generation) -> None:
    """A job of each generation of Core comes in with its headers and tokens, its states go out, and each is settled."""
    async with made(tmp_path, generation) as both, both.gateway():
        submission = await both.core.submit(acme_request())
        assert submission.answer.body == {"responses": [None]}
        job_id = submission.job_id
        assert both.server.jobs[job_id].specification.application.name == "acme-batch"
        both.server.add(running(1, job_id))
        both.server.add(running(2, job_id, job_pb2.JOB_STATE_SUCCESS))
        await both.server.until_settled()
        assert both.states(job_id) == ["RUNNING", "SUCCESS"]
        assert set(both.server.outcomes.values()) == {events_pb2.SETTLEMENT_OUTCOME_DELIVERED}


@pytest.mark.parametrize(("generation", "every_ms"), [(Generation.G2026, 60_000), (Generation.G2026, 0), (Generation.G2021, 60_000)])
async def test_jobs_are_compared_with_those_of_todays_core(tmp_path: Path, generation: Generation, every_ms: int) -> None:
    """At start, once Core has answered for each state; not for Core of 2021, which asks by itself, and not when that is switched off."""
    async with made(tmp_path, generation) as both:
        core = msgspec.structs.replace(both.settings.core, reconcile_every_ms=every_ms)
        both.settings = msgspec.structs.replace(both.settings, core=core)
        async with both.gateway():
            if generation is Generation.G2026 and every_ms:
                await both.server.listed.wait()
            else:
                await both.core.submit(acme_request())
        assert both.server.listed.is_set() == (generation is Generation.G2026 and every_ms > 0)


@pytest.mark.parametrize(("generation", "every_ms"), [(Generation.G2026, 60_000), (Generation.G2021, 60_000), (Generation.G2021, 0)])
async def test_licenses_are_compared_with_those_of_either_core(tmp_path: Path, generation: Generation, every_ms: int) -> None:
    """At start, for Core of neither generation asks about them; not when that is switched off."""
    async with made(tmp_path, generation) as both:
        core = msgspec.structs.replace(both.settings.core, reconcile_every_ms=every_ms)
        both.settings = msgspec.structs.replace(both.settings, core=core)
        both.core.resources.insert(ResourceRequest("licenses", EXAMPLE_LICENSE), "7", 1_000).confirmed = True
        async with both.gateway():
            if every_ms:
                await both.server.verified.wait()
            else:
                await both.core.submit(acme_request())
        assert both.server.verified.is_set() == (every_ms > 0)


async def test_the_seeds_request_is_answered_as_the_seed_shows(both: Both) -> None:
    """The seed's create with its odd Content-Type (the header's value names the header again)."""
    body = (GOLDEN / "jobs-provider-03-jobs.request.json").read_bytes()
    async with both.gateway():
        head = (
            f"POST /ucloud/ucloud/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {both.bearer()}\r\n"
            f"Content-Type: content-type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        [(status, headers, answer)] = await exchange(both.port, head.encode() + body)
    assert (status, answer) == (200, b'{"responses":[null]}')
    assert "server" not in headers
    assert list(both.server.jobs) == ["54112"]


async def test_requests_one_after_the_other_on_one_connection(both: Both) -> None:
    """Keep-alive and pipelining: answers come in order."""
    async with both.gateway():
        one = f"GET /ucloud/ucloud/jobs/retrieveProducts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {both.bearer()}\r\n\r\n".encode()
        answers = await exchange(both.port, one + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + one, answers=3)
    assert [(status, body) for status, _, body in answers] == [
        (200, b'{"responses":[]}'),
        (200, b'{"status":"ok"}'),
        (200, b'{"responses":[]}'),
    ]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_ends_the_connection(both: Both, chunked: bool) -> None:
    """413 as UCloud's error while the client still sends, with a declared length and in chunks."""
    async with both.gateway():
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LIMIT + 1}"
        head = f"POST /ucloud/ucloud/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {both.bearer()}\r\n{length}\r\n\r\n".encode()
        part = b" " * 50_000
        content = head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for _ in range(3)) if chunked else head + part
        [(status, headers, body)] = await exchange(both.port, content)
    assert (status, json.loads(body)["statusCode"]) == (413, 413)
    assert headers["connection"] == "close"


async def test_nonsense_does_no_harm(both: Both) -> None:
    """What is not HTTP is a 400 of the server below; it serves on."""
    async with both.gateway():
        reader, writer = await asyncio.open_connection("127.0.0.1", both.port)
        writer.write(b"\x00\x01nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        [(status, _, _)] = await exchange(both.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200


async def test_websockets_without_a_call_are_refused_politely(both: Both) -> None:
    """An error that one can read, not a broken connection."""
    async with both.gateway():
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        content = f"GET /ucloud/example/jobs HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n".encode()
        [(status, _, body)] = await exchange(both.port, content)
    assert status == 404
    assert "no WebSocket call of this provider has this path" in json.loads(body)["why"]


@pytest.mark.parametrize("how", list(Away))
async def test_core_away_for_a_while(both: Both, how: Away) -> None:
    """Refused or hanging connections: nothing is lost, nothing is settled before Core has it, and the order stays."""
    async with both.gateway():
        job_id = (await both.core.submit(acme_request())).job_id
        await both.core.go_away(how)
        both.server.add(running(1, job_id))
        both.server.add(running(2, job_id, job_pb2.JOB_STATE_SUCCESS))
        [(status, _, _)] = await exchange(both.port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 200  # Core being away is no reason not to be ready
        assert both.server.outcomes == {}
        await both.core.come_back()
        await both.server.until_settled()
        assert both.states(job_id) == ["RUNNING", "SUCCESS"]


@pytest.mark.parametrize("generation", list(Generation))
async def test_tokens_that_core_expired(tmp_path: Path, generation: Generation) -> None:
    """401 of 2021 and 403 of 2026: the token is renewed and the event delivered."""
    async with made(tmp_path, generation) as both, both.gateway():
        job_id = (await both.core.submit(acme_request())).job_id
        both.server.add(running(1, job_id))
        await both.server.until_settled()
        both.core.expire_tokens()
        both.server.add(running(2, job_id, job_pb2.JOB_STATE_SUCCESS))
        await both.server.until_settled()
        assert both.states(job_id) == ["RUNNING", "SUCCESS"]


async def test_a_job_that_core_forgot(both: Both) -> None:
    """It is settled as unknown; the others of its batch are delivered."""
    async with both.gateway():
        jobs = [(await both.core.submit(acme_request())).job_id for _ in range(5)]
        both.core.forget(jobs[2])
        await both.core.go_away()
        for sequence, job_id in enumerate(jobs, 1):
            both.server.add(running(sequence, job_id))
        await both.core.come_back()
        await both.server.until_settled()
    unknown = [n for n, outcome in both.server.outcomes.items() if outcome == events_pb2.SETTLEMENT_OUTCOME_JOB_UNKNOWN]
    assert unknown == [3]


async def test_todays_core_counts_each_report_once(tmp_path: Path) -> None:
    """All that a job has used so far, told again and again: the wallet has the last amount, and says when it is locked."""
    async with made(tmp_path, Generation.G2026) as both, both.gateway():
        job_id = (await both.core.submit(acme_request())).job_id

        async def report(sequence: int, usage: int, *, maybe_delivered: bool = False) -> int:
            event = total(sequence, job_id, usage)
            event.charge.product.category = "example-compute"
            event.maybe_delivered = maybe_delivered
            both.server.add(event)
            await both.server.until_settled()
            return both.server.outcomes[sequence]

        outcomes = [await report(1, 10), await report(2, 25), await report(3, 25, maybe_delivered=True), await report(4, 40)]
        assert outcomes == [events_pb2.SETTLEMENT_OUTCOME_DELIVERED] * 4
        [wallet] = both.core.accounts.wallets.values()
        assert wallet.used == 40
        both.core.set_credits(job_id, 0)
        assert await report(5, 41, maybe_delivered=True) == events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS


async def test_charges_without_funds(both: Both) -> None:
    """A charge that the wallet cannot pay is settled so."""
    async with both.gateway():
        job_id = (await both.core.submit(acme_request())).job_id
        both.core.set_credits(job_id, 0)
        both.server.add(charge(1, job_id, units=15))
        await both.server.until_settled()
    assert both.server.outcomes == {1: events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS}


async def test_a_stop_lets_requests_end(both: Both) -> None:
    """What was accepted is answered; new connections are refused; the process's signal handlers are left alone."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    both.server.go_on.clear()
    async with both.gateway():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        content = f"GET /ucloud/ucloud/jobs/retrieveProducts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {both.bearer()}\r\n\r\n".encode()
        request = asyncio.create_task(exchange(both.port, content))
        await both.server.entered.wait()
        asyncio.get_running_loop().call_later(0.3, both.server.go_on.set)
    [(status, _, _)] = await request
    assert status == 200
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", both.port)


async def over(path: str, verb: str, url: str, bearer: str) -> int:
    """The status of a call by the socket `path`."""
    headers = {"Authorization": f"Bearer {bearer}"}
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
        session.request(verb, url, headers=headers) as answer,
    ):
        return answer.status


async def test_it_is_reached_by_its_socket_too(both: Both, tmp_path: Path) -> None:
    """By the rules of the TCP port: who comes by it needs a token like everybody else. The port may be left out, and then nothing of it is
    told; the socket goes with the gateway."""
    path = tmp_path / "run" / "g.sock"
    calls = "http://x/ucloud/ucloud/jobs/retrieveProducts"
    for tcp in (True, False):
        with_socket = msgspec.structs.replace(both.settings.gateway, socket=str(path))
        both.settings = msgspec.structs.replace(both.settings, gateway=with_socket, tcp=tcp)
        async with both.gateway() as gateway:
            assert bool(gateway.port) is bool(gateway.url) is tcp
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await over(str(path), "GET", calls, both.bearer()) == 200
            assert await over(str(path), "GET", calls, "none") == 401
            assert await over(str(path), "GET", "http://x/readyz", "") == 200
            if tcp:
                async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as answer:
                    assert answer.status == 200
            with pytest.raises(OSError, match="another gateway listens on it; stop that first, or set another gateway"):
                async with Gateway(both.settings, both.server):
                    pass
        assert not path.exists()


async def test_a_gateway_can_start_again(both: Both) -> None:
    """Two lives one after the other; what the first did not deliver the second does."""
    async with both.gateway():
        job_id = (await both.core.submit(acme_request())).job_id
        await both.core.go_away()
        both.server.add(running(1, job_id))
    await both.core.come_back()
    async with both.gateway():
        await both.server.until_settled()
    assert both.states(job_id) == ["RUNNING"]


async def test_a_start_that_cannot_be(both: Both, tmp_path: Path) -> None:
    """No key, a taken port: an error in words, and nothing is left running."""
    async with both.gateway() as gateway:
        settings: Any = both.settings
        taken = Settings(provider=settings.provider, core=settings.core, gateway=GatewaySettings(port=gateway.port))
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1"):
            await Gateway(taken, both.server).__aenter__()
    (tmp_path / "core.pem").unlink()
    with pytest.raises(KeyFileError, match=r"core\.public_key_file"):
        await Gateway(both.settings, both.server).__aenter__()
    assert {task for task in asyncio.all_tasks() if task.get_name() in {"http", "deliveries"}} == set()
