"""HTTP create stored durably, over the same without a store: what the store costs a create when a hundred are in flight.

One process serves three fronts: the whole server with SQLite (WAL, synchronous=FULL), the same without a store (chain and use case as they
are, the store answers at once), and the gateway alone. Another process loads them in turn, round by round. Rates are of wall time, because
waiting for the disk is what is looked for; every create is a job of its own. The backend never takes a job on, so that what is
measured are creates and not what becomes of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from statistics import median
from typing import BinaryIO, Never, TypedDict, cast

import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from serai_backends.model import Capacity, CheckReport, Features, JobObservation, LogChunk, ReplicaSpec, Resources, Stream, WatchEvent
from serai_gateway.access import AccessLog
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.codec import Codec
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.listeners import listen
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.upstream import InProcessUpstream, Upstream
from serai_server.cli.log_setup import set_up_logging
from serai_server.clock import SystemClock
from serai_server.events.log import EventLog
from serai_server.jobs.output import Output
from serai_server.jobs.products import MINUTE_MS, Catalog, Product
from serai_server.jobs.registry import Registry
from serai_server.jobs.requests import Policy
from serai_server.jobs.service import JobsService
from serai_server.ledger.funds import Funds
from serai_server.main import Plan, running_core
from serai_server.rpc.health import Health
from serai_server.rpc.services import dispatcher
from serai_server.store.api import Store
from serai_server.store.model import NewJob

from bench.gateway_load import Connection, ask, cpu_ns, request
from bench.gateway_server import BenchApp, NoStore
from bench.ratio import Ratio

SEED = Path(__file__).parent.parent / "tests/golden/ucloud-2021/jobs-provider-03-jobs.request.json"
ROUNDS = 7
SECONDS = 0.4
IN_FLIGHT = 100
FRONTS = ("durable", "no store", "gateway alone")


class _Ports(TypedDict):
    ports: dict[str, int]
    token: str


class _Found(TypedDict):
    rate: float
    """Creates for each second."""
    cpu_us: float
    """Of the server, for each create."""


def run() -> list[Ratio]:
    """The table's row, and the same over the gateway's own rate."""
    found: dict[str, list[_Found]] = {name: [] for name in FRONTS}
    with tempfile.TemporaryDirectory(prefix="serai-bench-", dir=_disk()) as folder, ExitStack() as stack:
        server = _start(stack, "serve", folder)
        _send(server, "")
        ports: _Ports = json.loads(_line(server))
        load = _start(stack, "load")
        _send(load, json.dumps(ports))
        for number in range(ROUNDS + 1):
            for name in FRONTS:
                _send(load, json.dumps({"front": name, "seconds": SECONDS if number else SECONDS / 4}))
                one: _Found = json.loads(_line(load))
                if number:  # the first is for warming up
                    found[name].append(one)

    def over(floor: str) -> float:
        return median(a["rate"] / b["rate"] for a, b in zip(found["durable"], found[floor], strict=True))

    def detail(name: str) -> str:
        return f"{name} {median(f['rate'] for f in found[name]):,.0f}/s, {median(f['cpu_us'] for f in found[name]):.0f} us CPU"

    return [
        Ratio(
            name="HTTP create stored durably over the same without store",
            value=over("no store"),
            limit=0.65,
            direction="at least",
            unit="x",
            detail=f"{detail('durable')}; {detail('no store')}; {IN_FLIGHT} in flight",
        ),
        Ratio(
            name="HTTP create stored durably over the gateway alone",
            value=over("gateway alone"),
            limit=0,
            direction="printed",
            unit="x",
            detail=detail("gateway alone"),
        ),
    ]


def _disk() -> str | None:
    """A folder on a disk: where /tmp is memory, a commit would cost nothing."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None


def _start(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.durable", *arguments]
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert process.stdin is not None
    stack.callback(process.stdin.close)
    return process


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the measurement died")
    return line


# --- the load -------------------------------------------------------------------------------------------------------------------------


def _requests(token: str, numbers: Iterator[int]) -> Iterator[bytes]:
    """Creates that differ in the job's id only, all of the same length."""
    body = json.dumps(json.loads(SEED.read_text()), separators=(",", ":"))
    assert '"id":"54112"' in body
    whole = request("POST", "/ucloud/example/jobs", token, body.replace('"id":"54112"', '"id":"j00000000"', 1).encode())
    before, after = whole.split(b"j00000000", 1)
    return (b"%sj%08d%s" % (before, number, after) for number in numbers)


async def _load(port: int, requests: Iterator[bytes], seconds: float) -> _Found:
    first = await ask(port, next(requests))
    if not first.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer: {first[:300]!r}")
    loop = asyncio.get_running_loop()
    before = await cpu_ns(port)
    began = time.perf_counter()
    ended: list[asyncio.Future[None]] = []
    connections: list[Connection] = []
    for _ in range(IN_FLIGHT):
        done: asyncio.Future[None] = loop.create_future()
        ended.append(done)
        _, connection = await loop.create_connection(
            lambda done=done: Connection(requests, len(first), began + seconds, done), "127.0.0.1", port
        )
        connections.append(connection)
    await asyncio.gather(*ended)
    took = time.perf_counter() - began
    count = sum(connection.answers for connection in connections)
    return {"rate": count / took, "cpu_us": (await cpu_ns(port) - before) / count / 1e3}


def _load_main() -> None:
    known: _Ports = json.loads(sys.stdin.readline())
    requests = _requests(known["token"], itertools.count())
    for line in sys.stdin:
        plan = json.loads(line)
        print(json.dumps(uvloop.run(_load(known["ports"][plan["front"]], requests, plan["seconds"]))), flush=True)


# --- the server -----------------------------------------------------------------------------------------------------------------------


class Idle:
    """A backend that never takes a job on: `submit` does not answer."""

    name = "idle"
    features = Features()

    async def submit(self, spec: ReplicaSpec) -> None:
        del spec
        await asyncio.Event().wait()

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None: ...

    async def inspect(self, job_id: str) -> JobObservation | None: ...

    async def list(self) -> Sequence[JobObservation]:
        return []

    async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        await asyncio.Event().wait()
        yield cast("Never", after)

    async def forget(self, job_id: str) -> None: ...

    async def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        raise NotImplementedError
        yield

    async def capacity(self) -> Capacity:
        raise NotImplementedError

    async def check(self) -> CheckReport:
        raise NotImplementedError

    async def close(self) -> None: ...


class Nowhere:
    """Of a store, the one call that a create makes: done at once."""

    async def create_jobs(self, jobs: Sequence[NewJob]) -> None:
        del jobs


async def _serve(folder: Path, log: BinaryIO) -> None:
    clock = SystemClock()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_file = folder / "core.pem"
    key_file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    now_s = clock.now_ms() // 1000
    claims = {"sub": "_UCloud", "role": "SERVICE", "iss": "cloud.sdu.dk", "aud": "all:write", "iat": now_s, "exp": now_s + 900}
    settings = Settings(
        provider=ProviderSettings(id="example"),
        core=CoreSettings(url="http://127.0.0.1:1", public_key_file=str(key_file), refresh_token_file="none"),
    )
    product = Product("example-compute-1", "example-compute", "example", Resources(cpu=1, memory_bytes=1 << 30), MINUTE_MS)
    plan = Plan(
        store_url=f"sqlite:///{folder / 'serai.db'}",
        products=(product,),
        policy=Policy(most_replicas=64, undeclared_parameters=False, drive=lambda user, _: user),
        today=False,
        charge_every_ms=60_000,
    )

    def write(lines: bytes) -> None:
        log.write(lines)

    async with AsyncExitStack() as stack:
        backend = Idle()
        core = await stack.enter_async_context(running_core(plan, backend, clock))
        nowhere = cast("Store", Nowhere())
        without = JobsService(
            store=nowhere,
            registry=Registry(),
            backend=backend,
            catalog=Catalog(plan.products, backend.features),
            policy=plan.policy,
            output=Output(backend, Registry()),
            funds=Funds(clock, 0),
            clock=clock,
            licenses=core.licensing.in_jobs,
        )

        def in_process(jobs: JobsService, events: EventLog) -> Upstream:
            return InProcessUpstream(dispatcher(jobs=jobs, changes=core.changes, events=events, health=Health(), clock=clock))

        upstreams: dict[str, Upstream] = {
            "durable": in_process(core.jobs, core.events),
            "no store": in_process(without, EventLog(nowhere, clock)),
            "gateway alone": NoStore(),
        }
        ports: dict[str, int] = {}
        for name, upstream in upstreams.items():
            app = App(settings, Codec(), upstream, TokenCheck(PublicKeyFile(key_file, clock), clock), AccessLog(clock, write=write))
            listener = listen("127.0.0.1", 0)
            ports[name] = listener.getsockname()[1]
            server = EmbeddedServer(BenchApp(app), grace_s=1)
            serving = asyncio.create_task(server.serve([listener]))
            stack.push_async_callback(server.stop, serving)
            await server.wait_started(serving)
        print(json.dumps({"ports": ports, "token": jwt.encode(claims, key, algorithm="RS256")}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def _serve_main(folder: str) -> None:
    set_up_logging("info")  # as `serai serve` does by default
    sys.stdin.readline()
    with Path(os.devnull).open("wb") as nowhere:
        uvloop.run(_serve(Path(folder), nowhere))


if __name__ == "__main__":
    _load_main() if sys.argv[1] == "load" else _serve_main(sys.argv[2])
