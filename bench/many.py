"""100,000 active jobs: how long a start takes until every job was looked at once, and what they cost in memory.

Each case runs in a process of its own on a store that was filled before: the real composition root on a backend in memory that answers
at once, until the last job was looked at. The floor is the same rows read one by one by their ids, by sqlite3 alone, in the same process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

import uvloop
from serai.jobs.v1.jobs_service_pb2 import CreateRequest
from serai_backends.model import (
    Capacity,
    CheckReport,
    Features,
    JobObservation,
    LogChunk,
    Phase,
    ReplicaObservation,
    ReplicaSpec,
    Resources,
    Stream,
    WatchEvent,
)
from serai_gateway.codec import Codec
from serai_server.clock import SystemClock
from serai_server.jobs import facts
from serai_server.jobs.products import MINUTE_MS, Product
from serai_server.jobs.requests import Policy
from serai_server.main import Plan, running_core
from serai_server.store.migrate import migrate, migrations
from serai_server.store.model import NewJob
from serai_server.store.rows import first_row
from serai_server.store.sqlite import SqliteLink
from serai_server.store.tables import jobs as jobs_table

from bench.ratio import Ratio

SEED = Path(__file__).parent.parent / "tests/golden/ucloud-2021/jobs-provider-03-jobs.request.json"
JOBS = 100_000
CASES = ("running", "waiting")
DAY_MS = 86_400_000


class _Found(TypedDict):
    load_s: float
    """Until the server is ready: store opened, jobs loaded, backend watched."""
    all_s: float
    """Until every job was looked at."""
    all_cpu_s: float
    floor_cpu_s: float
    memory_bytes: int
    """More resident memory than before the store was opened."""
    row_bytes: int
    """What the database file has for each job."""


def run() -> list[Ratio]:
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory(prefix=".bench-many-", dir=Path.cwd()) as folder:
        for case in CASES:
            database = Path(folder) / f"{case}.db"
            _fill(database, case)
            found = _measured(database, case)
            ratios += [
                Ratio(
                    name=f"start with {JOBS:,} jobs {case}, each looked at once",
                    value=found["all_cpu_s"] / found["floor_cpu_s"],
                    limit=20,
                    direction="at most",
                    unit="x",
                    detail=(
                        f"ready after {found['load_s']:.1f} s, all looked at after {found['all_s']:.1f} s; CPU {found['all_cpu_s']:.1f} s "
                        f"over {found['floor_cpu_s']:.1f} s for reading the rows one by one with sqlite3"
                    ),
                ),
                Ratio(
                    name=f"memory of a job {case}, over its row",
                    value=found["memory_bytes"] / JOBS / found["row_bytes"],
                    limit=0.9,
                    direction="at most",
                    unit="x",
                    detail=(
                        f"{found['memory_bytes'] / JOBS:,.0f} bytes of resident memory over {found['row_bytes']:,} in the file; "
                        f"{found['memory_bytes'] / 2**20:,.0f} MiB for all"
                    ),
                ),
            ]
            database.unlink()
    return ratios


def _measured(database: Path, case: str) -> _Found:
    command = [sys.executable, "-m", "bench.many", str(database), case]
    return cast("_Found", json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


# --- the store -------------------------------------------------------------------------------------------------------------------------


def _fill(database: Path, case: str) -> None:
    """Rows as a server leaves them behind: handed to the backend, seen there, nothing due for a day."""
    link = SqliteLink(database)
    link.connect()
    migrate(link, migrations("sqlite"))
    body = CreateRequest.FromString(Codec().read(CreateRequest.DESCRIPTOR, SEED.read_bytes())).items[0].SerializeToString()
    now_ms = SystemClock().now_ms()
    link.begin()
    for start in range(0, JOBS, 1_000):
        link.insert(jobs_table, [first_row(_new(n, body, now_ms)) for n in range(start, start + 1_000)])
    seen = facts.encode(_observation("", case, now_ms))
    link.execute("UPDATE jobs SET submitted_at_ms = ?, replica_facts = ?, wake_at_ms = ?", now_ms, seen, now_ms + DAY_MS)
    if case == "running":
        link.execute("UPDATE jobs SET state = 2, started_at_ms = ?, running_since_ms = ?", now_ms, now_ms)
    link.commit()
    link.close()


def _new(number: int, body: bytes, now_ms: int) -> NewJob:
    job_id = str(5_000_000 + number)
    return NewJob(
        id=job_id,
        body=body,
        digest=bytes(32),
        owner="user",
        project="",
        application="acme-batch 1.0.0",
        product="example/example-compute/example-compute-1",
        name="",
        replicas=1,
        time_limit_ms=7 * DAY_MS,
        period_ms=MINUTE_MS,
        output_folder=f"/home/Jobs/Acme batch/{job_id}",
        created_at_ms=now_ms + number,
        status="The job is in the queue.",
    )


def _observation(job_id: str, case: str, since_ms: int) -> JobObservation:
    if case == "running":
        replica = ReplicaObservation(0, Phase.RUNNING, node="node-1", address="10.0.0.1", started_at_ms=since_ms)
        return JobObservation(job_id, Phase.RUNNING, (replica,), running_since_ms=since_ms)
    return JobObservation(job_id, Phase.WAITING, (ReplicaObservation(0, Phase.WAITING),))


# --- one measurement ---------------------------------------------------------------------------------------------------------------------


class _AtOnce:
    """Has every job, in the same phase, and nothing ever changes."""

    def __init__(self, case: str, since_ms: int) -> None:
        self._case = case
        self._since_ms = since_ms
        self._looked = 0
        self.all_looked_at = asyncio.Event()

    @property
    def name(self) -> str:
        return "at-once"

    @property
    def features(self) -> Features:
        return Features()

    async def inspect(self, job_id: str) -> JobObservation | None:
        self._looked += 1
        if self._looked == JOBS:
            self.all_looked_at.set()
        return _observation(job_id, self._case, self._since_ms)

    async def list(self) -> Sequence[JobObservation]:
        return []

    async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        del after
        await asyncio.Event().wait()
        yield WatchEvent(0, _observation("", self._case, self._since_ms))

    async def submit(self, spec: ReplicaSpec) -> None:
        raise AssertionError(f"job {spec.job_id} is there")

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        raise AssertionError(f"nobody stops {job_id} ({grace_ms})")

    async def forget(self, job_id: str) -> None:
        raise AssertionError(f"{job_id} is not over")

    def logs(
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
        raise AssertionError(f"nobody reads {output_folder}/{job_id}/{rank}/{stream}/{offset}/{tail}/{follow}")

    async def capacity(self) -> Capacity:
        return Capacity(1, 1, 0, 0, 0, 0)

    async def check(self) -> CheckReport:
        return CheckReport()

    async def close(self) -> None: ...


async def measure(database: Path, case: str, row_bytes: int) -> _Found:
    floor_cpu_s = _floor(database)
    gc.collect()
    backend = _AtOnce(case, SystemClock().now_ms() - 1_000)
    plan = Plan(
        store_url=f"sqlite:///{database}",
        products=(Product("example-compute-1", "example-compute", "example", Resources(1, 1 << 30), MINUTE_MS),),
        policy=Policy(most_replicas=1, undeclared_parameters=False, drive=lambda user, project: project or user),
        today=False,
        charge_every_ms=15 * MINUTE_MS,
    )
    before, start, cpu = _resident(), time.perf_counter(), time.process_time()
    async with running_core(plan, backend, SystemClock()) as core:
        load_s = time.perf_counter() - start
        await backend.all_looked_at.wait()
        all_s, all_cpu_s = time.perf_counter() - start, time.process_time() - cpu
        gc.collect()
        memory_bytes = _resident() - before
        assert len(core.registry) == JOBS
    return _Found(
        load_s=load_s,
        all_s=all_s,
        all_cpu_s=all_cpu_s,
        floor_cpu_s=floor_cpu_s,
        memory_bytes=memory_bytes,
        row_bytes=row_bytes,
    )


def _floor(database: Path) -> float:
    connection = sqlite3.connect(database)
    ids = [row[0] for row in connection.execute("SELECT id FROM jobs")]
    start = time.process_time()
    for job_id in ids:
        connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    connection.close()
    return time.process_time() - start


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    print(json.dumps(uvloop.run(measure(file, sys.argv[2], file.stat().st_size // JOBS))))
