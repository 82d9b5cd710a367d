"""What measurements of the Nomad backend have in common: settings, jobs, the server's inside on the backend, the fake's process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import structlog
from fakes.core_on import job
from serai.jobs.v1.job_pb2 import Job, JobUpdate
from serai_backends.clock import SteadyClock
from serai_backends.model import ReplicaSpec, Resources
from serai_backends.nomad import jobfile, names
from serai_backends.nomad.backend import NomadBackend
from serai_backends.nomad.settings import NomadSettings, Placement
from serai_server.jobs.changes import MOST_ITEMS
from serai_server.jobs.products import MINUTE_MS, Product
from serai_server.jobs.requests import Policy
from serai_server.main import Core, Plan, running_core
from serai_server.store.model import EventKind

RANK = Resources(cpu=1, memory_bytes=64 << 20)
CLOCK = SteadyClock(0)
_SLEEP = ("sleep", "3600")


def folder() -> tempfile.TemporaryDirectory[str]:
    """On a disk: where /tmp is memory, a commit would cost nothing."""
    return tempfile.TemporaryDirectory(prefix="serai-bench-", dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None)


def settings(address: str, here: Path) -> NomadSettings:
    """As an operator has them, on nodes that run programs by raw_exec."""
    (here / "drives").mkdir(exist_ok=True)
    return NomadSettings(
        state_dir=str(here / "state"),
        provider="example",
        address=address,
        drives_dir=str(here / "drives"),
        raw_exec=True,
        placements=(Placement(driver="raw_exec"),),
        mhz_per_core=100,
    )


def job_of(job_id: str) -> Job:
    """As Core sends it: one rank that sleeps."""
    return job(job_id, *_SLEEP)


def spec_of(job_id: str) -> ReplicaSpec:
    """The same as the backend gets it."""
    return ReplicaSpec(job_id, 1, _SLEEP, (), RANK, f"user/Jobs/Acme batch/{job_id}", time_limit_ms=60 * MINUTE_MS)


@asynccontextmanager
async def server(backend: NomadBackend, here: Path) -> AsyncGenerator[Core]:
    plan = Plan(
        store_url=f"sqlite:///{here / 'serai.db'}",
        products=(Product("example-compute-1", "example-compute", "example", RANK, MINUTE_MS),),
        policy=Policy(most_replicas=1, undeclared_parameters=False, drive=lambda user, project: project or user),
        today=False,
        charge_every_ms=15 * MINUTE_MS,
    )
    async with running_core(plan, backend, CLOCK) as core:
        yield core


async def create(core: Core, job_ids: Sequence[str]) -> None:
    """In requests as large as they may be."""
    for start in range(0, len(job_ids), MOST_ITEMS):
        await core.jobs.create([job_of(job_id) for job_id in job_ids[start : start + MOST_ITEMS]])


class Updates:
    """When the server's event log had each job's update to a state, by the machine's monotonic clock: what Core is told from."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.at_ns: dict[tuple[str, int], int] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator[Updates]:
        reading = asyncio.create_task(self._read())
        try:
            yield self
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        async for events in self._core.events.subscribe("core"):
            now_ns = time.monotonic_ns()
            for event in events:
                if event.kind is EventKind.JOB_UPDATE and (update := JobUpdate.FromString(event.body)).HasField("state"):
                    self.at_ns.setdefault((event.job_id, update.state), now_ns)
            self._changed.set()

    async def all(self, job_ids: Sequence[str], state: int, limit_s: float = 300) -> int:
        """When the last of them was in the state."""
        async with asyncio.timeout(limit_s):
            while not all((job_id, state) in self.at_ns for job_id in job_ids):
                self._changed.clear()
                await self._changed.wait()
        return max(self.at_ns[job_id, state] for job_id in job_ids)


class Fake:
    """See `nomad_fake`."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    @staticmethod
    @asynccontextmanager
    async def started(replicas: int, here: Path) -> AsyncGenerator[Fake]:
        command = (sys.executable, "-m", "bench.nomad_fake", str(replicas), str(here / "drives"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=64 << 20)
        try:
            made = Fake(process, "")
            made.address = (await made._answer())["address"]
            yield made
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def order(self, **order: object) -> None:
        """Returns when it is carried out."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._answer()

    async def _answer(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the fake agent has ended")
        return json.loads(line)


def bodies(settings: NomadSettings, specs: Iterable[ReplicaSpec]) -> list[tuple[str, bytes, bytes]]:
    """For each job that is ready to be registered: Nomad's id, its variable, its registration."""
    folders, made = jobfile.JobFolders(settings), list[tuple[str, bytes, bytes]]()
    for spec in specs:
        body = jobfile.build(spec, 1, folders.prepare(spec, set()), settings)
        nomad_id = names.nomad_id(spec.job_id, 1)
        items = {names.NODES: "self", names.PEERS: "", names.HOSTS: ""}
        variable = {"Path": names.variable(nomad_id), "Items": items}
        register = {"Job": body, "EnforceIndex": True, "JobModifyIndex": 0}
        made.append((nomad_id, msgspec.json.encode(variable), msgspec.json.encode(register)))
    return made


async def straight(session: aiohttp.ClientSession, jobs: Sequence[tuple[str, bytes, bytes]], at_once: int = 16) -> None:
    """Each job's variable is written, then it is registered; so many at once."""
    left = iter(jobs)

    async def one_by_one() -> None:
        for nomad_id, variable, register in left:
            for path, data in ((f"/v1/var/{names.variable(nomad_id)}?cas=0", variable), ("/v1/jobs", register)):
                async with session.put(path, data=data) as answer:
                    if answer.status != 200:
                        raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")
                    await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_by_one())


class _Allocation(msgspec.Struct, rename="pascal"):
    job_id: str = msgspec.field(default="", name="JobID")
    client_status: str = ""


class _Payload(msgspec.Struct, rename="pascal"):
    allocation: _Allocation | None = None


class _Event(msgspec.Struct, rename="pascal"):
    payload: _Payload = msgspec.field(default_factory=_Payload)


class _Line(msgspec.Struct, rename="pascal"):
    events: list[_Event] = []


_read = msgspec.json.Decoder(_Line).decode


def told_of(line: bytes, client_status: str) -> list[str]:
    """Nomad's ids of the jobs of which this line of the event stream tells that an allocation has come to that."""
    found = [event.payload.allocation for event in _read(line).events]
    return [one.job_id for one in found if one is not None and one.client_status == client_status]


def logs_aside() -> None:
    """Standard output is for the figures."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
