"""The store: what group commit gains over one transaction for each create, and what an active job costs in memory.

The floor is the plainest durable create: begin, insert the job's row, insert its event, commit, by the same driver, with the same
settings and rows, one after the other. Floor and store take turns, and the ratio is the median over the rounds.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import uvloop
from fakes.postgres import Postgres, PostgresMissing
from serai_server.store import tables
from serai_server.store.link import Link
from serai_server.store.migrate import migrate, migrations
from serai_server.store.model import EventKind, JobRecord, NewEvent, NewJob
from serai_server.store.open import open_store
from serai_server.store.postgresql import PostgresLink
from serai_server.store.rows import Value, first_row
from serai_server.store.sql_store import SqlStore
from serai_server.store.sqlite import SqliteLink

from bench.ratio import Ratio

ROUNDS = 5
ROUND_S = 0.6
IN_FLIGHT = 100
ACTIVE = 100_000
MOST_PER_S = 120_000
"""Rows made ready for a second of a round; no machine of this size comes near."""


def run() -> list[Ratio]:
    return [*_group_commit(), *_memory()]


def _group_commit() -> Iterator[Ratio]:
    # In the working folder, because /tmp may be memory, where a commit costs nothing.
    folder = Path(tempfile.mkdtemp(prefix=".bench-store-", dir=Path.cwd()))
    try:
        yield uvloop.run(_ratio("SQLite FULL", SqliteLink(folder / "floor.db"), f"sqlite:///{folder / 'store.db'}"))
    finally:
        shutil.rmtree(folder)
    try:
        server = Postgres(fsync=True)
    except PostgresMissing as error:
        print(f"PostgreSQL is left out: {error}")
        return
    with server:
        yield uvloop.run(_ratio("PostgreSQL", PostgresLink(server.database()), server.database()))


async def _ratio(name: str, floor: Link, url: str) -> Ratio:
    floor.connect()
    migrate(floor, migrations("sqlite" if url.startswith("sqlite") else "postgresql"))
    numbers = itertools.count(1)
    rates: list[tuple[float, float]] = []
    async with open_store(url, lambda _: None) as store:
        for n in range(ROUNDS + 1):
            rates.append((await _store_rate(store, numbers), _floor_rate(floor, numbers)))
            if n == 0:
                rates.clear()  # the first round only warms up
    floor.close()
    return Ratio(
        name=f"creates at {IN_FLIGHT} in flight, {name}",
        value=median(grouped / plain for grouped, plain in rates),
        limit=10,
        direction="at least",
        unit="x",
        detail=f"{median(g for g, _ in rates):,.0f}/s over {median(p for _, p in rates):,.0f}/s with a transaction for each",
    )


async def _store_rate(store: SqlStore, numbers: Iterator[int]) -> float:
    jobs = iter([_job(next(numbers)) for _ in range(int(MOST_PER_S * ROUND_S))])
    start = time.perf_counter()
    until = start + ROUND_S

    async def creates() -> int:
        done = 0
        while time.perf_counter() < until:
            await store.create_jobs([next(jobs)])
            done += 1
        return done

    done = sum(await asyncio.gather(*(creates() for _ in range(IN_FLIGHT))))
    return done / (time.perf_counter() - start)


def _floor_rate(link: Link, numbers: Iterator[int]) -> float:
    jobs, events = _insert("jobs"), _insert("events")
    rows = iter([(_job(n), n) for n in itertools.islice(numbers, int(MOST_PER_S * ROUND_S / 4))])
    start = time.perf_counter()
    done = 0
    while time.perf_counter() - start < ROUND_S:
        job, number = next(rows)
        row: tuple[Value, ...] = first_row(job)
        link.begin()
        link.execute(jobs, *row)
        for event in job.events:
            link.execute(events, number, event.job_id, event.kind.value, event.body, event.at_ms)
        link.commit()
        done += 1
    return done / (time.perf_counter() - start)


def _insert(table: str) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * len(tables.metadata.tables[table].columns))})"


def _job(number: int) -> NewJob:
    """A row of the size that the seed's example has."""
    job_id = str(5_000_000 + number)
    return NewJob(
        id=job_id,
        body=bytes(828),
        digest=bytes(32),
        owner="user",
        project="",
        application="acme-batch 1.0.0",
        product="example/example-compute/example-compute-1",
        name="",
        replicas=1,
        time_limit_ms=3_600_000,
        period_ms=60_000,
        output_folder=f"/home/Jobs/Acme batch/{job_id}",
        created_at_ms=1_633_329_776_235 + number,
        events=(NewEvent(job_id, EventKind.JOB_UPDATE, bytes(80), 1_633_329_776_235),),
    )


def _memory() -> Iterator[Ratio]:
    gc.collect()
    gc.freeze()  # what is older than the jobs, as the server does after its start
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    held: dict[str, JobRecord] = {}
    for n in range(ACTIVE):
        # Every figure is an object of its own, as it is in rows.
        times = (1_633_329_776_235 + n, 1_633_329_776_999 + n, 1_633_330_000_000 + n)
        record = JobRecord(str(5_000_000 + n), 2, 1, 1_000 + n, 300 + n, *times)
        held[record.id] = record
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield Ratio("memory of an active job", (after - before) / ACTIVE, 512, "at most", "bytes", f"{ACTIVE:,} JobRecords in a dict by id")
    pauses: list[float] = []
    for _ in range(9):
        start = time.perf_counter()
        gc.collect()
        pauses.append((time.perf_counter() - start) * 1_000)
    gc.unfreeze()
    yield Ratio("gc.collect() with the active jobs", median(pauses), 10, "at most", "ms", f"{len(held):,} held")
