"""10,000 live replicas: what they cost the Nomad backend in memory, and how long it takes to have all of them again.

A first process starts 10,000 jobs of one rank through the backend, at a fake agent in a process of its own, and ends. A second one opens
the backend on what is stored (a restart), has its stream cut (a reconnect), and looks at its memory. The floor is fetching and decoding the
same lists by the backend's own client, in that process, before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import TypedDict, cast

import uvloop
from serai_backends.model import Phase
from serai_backends.nomad import names
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.client import open_client
from serai_backends.nomad.engine import Engine
from serai_backends.nomad.settings import NomadSettings

from bench.nomad_site import CLOCK, Fake, folder, logs_aside, resident, settings, spec_of
from bench.ratio import Ratio

REPLICAS = 10_000


class _Found(TypedDict):
    lists_s: float
    """To fetch and decode all lists once."""
    restart_s: float
    """From opening until every job is told as running and all lists are applied."""
    reconnect_s: float
    """From the cut of the stream until all lists are applied."""
    memory_bytes: int
    fill_s: float


def run() -> list[Ratio]:
    found = uvloop.run(_measured())
    floor = f"over {found['lists_s']:.2f} s for fetching and decoding the same lists"
    each = found["memory_bytes"] / REPLICAS
    return [
        Ratio(
            f"restart with {REPLICAS:,} live replicas, over the lists alone",
            found["restart_s"] / found["lists_s"],
            0,
            "printed",
            "x",
            f"{found['restart_s']:.2f} s {floor}",
        ),
        Ratio(
            f"stream cut with {REPLICAS:,} live replicas until all is known again, over the lists alone",
            found["reconnect_s"] / found["lists_s"],
            0,
            "printed",
            "x",
            f"{found['reconnect_s']:.2f} s {floor}",
        ),
        Ratio(
            f"memory of the backend with {REPLICAS:,} live replicas",
            found["memory_bytes"] / 2**20,
            0,
            "printed",
            "MiB",
            f"{each:,.0f} bytes each; they were started in {found['fill_s']:.0f} s, {REPLICAS / found['fill_s']:.0f} a second",
        ),
    ]


async def _measured() -> _Found:
    with folder() as name:
        here = Path(name)
        async with Fake.started(REPLICAS, here) as fake:
            fill = json.loads(await _process("fill", fake.address, here))
            pipe = asyncio.subprocess.PIPE
            command = (sys.executable, "-m", "bench.nomad_many", "open", fake.address, str(here))
            process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
            assert process.stdout is not None
            await process.stdout.readline()
            await fake.order(do="cut")
            found = json.loads(await process.stdout.read())
            await process.wait()
    return cast("_Found", found | fill)


async def _process(case: str, address: str, here: Path) -> bytes:
    command = (sys.executable, "-m", "bench.nomad_many", case, address, str(here))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the process that should {case} ended with {process.returncode}")
    return told


async def _fill(site: NomadSettings) -> dict[str, float]:
    began = time.perf_counter()
    async with await open_nomad(site, CLOCK) as backend:
        for start in range(0, REPLICAS, 500):
            await asyncio.gather(*(backend.submit(spec_of(str(5_000_000 + start + number))) for number in range(500)))
        await _all_running(backend)
    return {"fill_s": time.perf_counter() - began}


async def _all_running(backend: NomadBackend) -> None:
    news = backend.watch()
    left = {seen.job_id for seen in await backend.list() if seen.phase is not Phase.RUNNING}
    async with asyncio.timeout(1_800):
        while left:
            seen = (await anext(news)).observation
            if seen.phase is Phase.RUNNING:
                left.discard(seen.job_id)


class _Looks:
    """Counts how often the backend has taken in everything there is."""

    def __init__(self) -> None:
        self.count, self.changed = 0, asyncio.Event()
        applied = Engine.saw_everything

        def counted(engine: Engine, *seen: object) -> None:
            applied(engine, *seen)  # pyright: ignore[reportArgumentType] - what the feed gave
            self.count += 1
            self.changed.set()

        Engine.saw_everything = counted  # type: ignore[method-assign]  # there is no other sign of it outside

    async def next(self) -> None:
        before = self.count
        while self.count == before:
            self.changed.clear()
            await self.changed.wait()


async def _open(site: NomadSettings) -> dict[str, float]:
    lists_s = 0.0
    async with open_client(site) as client:
        for _ in range(2):  # the first is for warming up
            began = time.perf_counter()
            await client.nodes()
            await client.used()
            await client.jobs(names.PREFIX)
            async for _page in client.allocations():
                pass
            lists_s = time.perf_counter() - began
    looks = _Looks()
    gc.collect()
    before, began = resident(), time.perf_counter()
    async with await open_nomad(site, CLOCK) as backend:
        if not looks.count:
            await looks.next()
        await _all_running(backend)
        restart_s = time.perf_counter() - began
        await asyncio.sleep(12)  # the lists that the start asked for are done; the next sweep is not due
        gc.collect()
        memory_bytes = resident() - before
        print("opened", flush=True)
        began = time.perf_counter()
        await looks.next()
        reconnect_s = time.perf_counter() - began
    return {"lists_s": lists_s, "restart_s": restart_s, "reconnect_s": reconnect_s, "memory_bytes": memory_bytes}


if __name__ == "__main__":
    logs_aside()
    here = settings(sys.argv[2], Path(sys.argv[3]))
    print(json.dumps(uvloop.run(_fill(here) if sys.argv[1] == "fill" else _open(here))))
