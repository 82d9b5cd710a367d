"""The console served for real, over jobs and sessions in memory: the gateway's door, its HTTP server, the server's own chain of checks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from serai.jobs.v1 import job_pb2
from serai.jobs.v1.jobs_service_pb2 import FollowRequest, FollowResponse, JobReport, OutputStream, ReplicaPhase, ReplicaReport
from serai.sessions.v1 import sessions_service_pb2 as sessions_pb2
from serai_gateway.clock import SystemClock
from serai_gateway.codec import Codec
from serai_gateway.console.console import Console
from serai_gateway.console.files import Files
from serai_gateway.door import Door
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.http import Receive, Scope, Send, send_json
from serai_gateway.listeners import listen
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.upstream import InProcessUpstream
from serai_gateway.web.holds import Holds
from serai_gateway.web.sessions import Sessions
from serai_gateway.web.vnc import Desktops
from serai_gateway.ws import shell
from serai_gateway.ws.paths import SHELL, SocketPath, SocketPaths
from serai_gateway.ws.shell import ShellCalls
from serai_gateway.ws.unproven import Unproven

from fakes.cuttable import Cuttable, cuttable
from fakes.front import Front
from fakes.gateway_sessions import FakeSessions
from fakes.usecases import STDERR, STDOUT, MemoryJobs, job

__all__ = ["STDERR", "STDOUT", "ConsoleSite", "LivingJobs", "console_site", "settings"]
T0 = 1_700_000_000_000
"""When jobs here were created, ms since epoch."""


class LivingJobs(MemoryJobs):
    """Jobs whose output comes while it is followed, with offsets, until the job is final."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: list[FollowRequest] = []
        self._more = asyncio.Condition()
        self._written: dict[tuple[str, int, OutputStream.ValueType], int] = {}

    async def write(self, job_id: str, rank: int, stream: OutputStream.ValueType, data: bytes) -> None:
        """As a program of this rank does."""
        async with self._more:
            at = self._written.get((job_id, rank, stream), 0)
            self.output.setdefault(job_id, []).append(FollowResponse(rank=rank, stream=stream, offset=at, data=data))
            self._written[job_id, rank, stream] = at + len(data)
            self._more.notify_all()

    async def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]:
        self._raise()
        report = self._known(request.job_id)
        self.followed.append(request)
        wanted = {(rank, s): max(0, n - request.tail_bytes) for (i, rank, s), n in self._written.items() if i == request.job_id}
        wanted = wanted if request.tail_bytes else {}
        wanted |= {(offset.rank, offset.stream): offset.offset for offset in request.offsets}
        at = 0
        while True:
            pieces = self.output.get(request.job_id, [])
            while at < len(pieces):
                piece, at = pieces[at], at + 1
                skipped = max(0, wanted.get((piece.rank, piece.stream), 0) - piece.offset)
                if (not request.ranks or piece.rank in request.ranks) and skipped < len(piece.data):
                    data = piece.data[skipped:]
                    yield FollowResponse(rank=piece.rank, stream=piece.stream, offset=piece.offset + skipped, data=data)
            if not request.follow or report.HasField("ended_at_ms"):
                return
            async with self._more:
                if at == len(self.output.get(request.job_id, [])):
                    await self._more.wait()

    async def runs(self, job_id: str, *, owner: str = "alice", replicas: int = 1, name: str = "") -> JobReport:
        """A job that is running, for 65 seconds already."""
        await self.create([job(job_id, owner=owner, replicas=replicas)])
        report = self.reports[job_id]
        report.name, report.created_at_ms, report.age_ms = name, T0, 70_000
        report.started_at_ms = report.running_since_ms = T0 + 5_000
        report.charged_periods = 2
        report.replica_reports.extend(
            ReplicaReport(rank=rank, phase=ReplicaPhase.REPLICA_PHASE_RUNNING, node="here", started_at_ms=T0 + 5_000)
            for rank in range(replicas)
        )
        await self.change(job_id, job_pb2.JOB_STATE_RUNNING, "running")
        return report

    async def ends(self, job_id: str, status: str = "done") -> None:
        report = self.reports[job_id]
        for replica in report.replica_reports:
            replica.phase, replica.exit_code, replica.ended_at_ms = ReplicaPhase.REPLICA_PHASE_EXITED, 0, T0 + 70_000
        report.ran_ms = 65_000
        report.ClearField("running_since_ms")
        await self.change(job_id, job_pb2.JOB_STATE_SUCCESS, status)
        report.ended_at_ms = T0 + 70_000
        async with self._more:
            self._more.notify_all()


class ConsoleUpstream(FakeSessions):
    """Sessions of the fake; jobs through the server's own chain, which knows what a console may call."""

    def __init__(self, jobs: MemoryJobs) -> None:
        super().__init__()
        front = Front()
        front.jobs = jobs
        self._jobs = InProcessUpstream(front.dispatcher())

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method.startswith("/serai.jobs."):
            return await self._jobs.unary(method, request, metadata, timeout_s)
        return await super().unary(method, request, metadata, timeout_s)

    def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        if method.startswith("/serai.jobs."):
            return self._jobs.stream(method, request, metadata)
        return super().stream(method, request, metadata)


@dataclass
class ConsoleSite:
    url: str
    jobs: LivingJobs
    sessions: ConsoleUpstream
    way: Cuttable
    """To this site, over which `url` leads."""

    def login(self) -> str:
        """The address that `serai console` prints."""
        return f"{self.url}/console/open/{self.sessions.open(sessions_pb2.SESSION_KIND_CONSOLE).secret}"

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")


def settings(public_url: str = "") -> Settings:
    return Settings(
        provider=ProviderSettings(id="example", title="Serai & sons"),
        core=CoreSettings(url="http://127.0.0.1:1", public_key_file="", refresh_token_file=""),
        gateway=GatewaySettings(public_url=public_url),
    )


async def _no_calls(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, 404, b"{}")


@asynccontextmanager
async def _sockets(upstream: ConsoleUpstream, console: Console, given: Settings) -> AsyncGenerator[SocketPaths]:
    """The console's own, and those of terminals and desktops as the gateway has them."""
    providers = given.provider.names
    shells = ShellCalls(upstream, SystemClock(), random.random, providers, Unproven())
    holds = Holds(Sessions(upstream, timeout_s=5.0), SystemClock())
    desktops = Desktops(holds, connect_timeout_s=5.0)
    try:
        yield SocketPaths([*console.sockets(), desktops.path(), SocketPath(SHELL, shells, shell.RULES)], providers)
    finally:
        await holds.close()


@asynccontextmanager
async def console_site(files: Files | None = None, public_url: str = "") -> AsyncGenerator[ConsoleSite]:
    jobs = LivingJobs()
    upstream = ConsoleUpstream(jobs)
    given, codec = settings(public_url), Codec()
    console = Console(given, codec, upstream, None, SystemClock(), files=files, web_address=lambda job, rank, secret: f"/app/{job}/{rank}")
    async with AsyncExitStack() as stack:
        sockets = await stack.enter_async_context(_sockets(upstream, console, given))
        door = Door(_no_calls, sockets, codec, None, console=console)
        listener = listen("127.0.0.1", 0)
        stack.callback(listener.close)
        server = EmbeddedServer(door, grace_s=1.0, request_timeout_s=5.0, sockets=door.rules)
        serving = asyncio.create_task(server.serve([listener]))
        stack.push_async_callback(server.stop, serving)
        await server.wait_started(serving)
        way = await stack.enter_async_context(cuttable(listener.getsockname()[1]))
        yield ConsoleSite(f"http://127.0.0.1:{way.port}", jobs, upstream, way)
