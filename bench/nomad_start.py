"""Create to RUNNING of 16 jobs through Serai, over the very same jobs registered straight at Nomad, on a real agent.

Serai: one create of 16 jobs at the server's inside, until its log has RUNNING for Core of each. The floor: the same job files with their
variables, 16 at once by aiohttp, until Nomad's event stream says that each runs. In turn, so that what disturbs the machine disturbs both.
Without `nomad` on PATH, or without root, nothing is measured, and the row says so.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from statistics import median

import aiohttp
import msgspec
import uvloop
from fakes.nomad_real import RealAgent, why_not
from serai.jobs.v1.job_pb2 import JOB_STATE_RUNNING, JOB_STATE_SUCCESS
from serai_backends.nomad import names
from serai_backends.nomad.backend import open_nomad
from serai_backends.nomad.client.events import Lines
from serai_server.main import Core

from bench.nomad_site import CLOCK, Updates, bodies, create, folder, job_of, server, settings, spec_of, straight, told_of
from bench.ratio import Ratio

JOBS, ROUNDS = 16, 7
NAME = f"{JOBS} jobs from create to RUNNING, over the same registered straight at Nomad"


def run() -> list[Ratio]:
    if (why := why_not()) is not None:
        return [Ratio(NAME, 0, 1.2, "printed", "x", f"skipped: {why}")]
    serai_s, straight_s = uvloop.run(measure())
    detail = (
        f"{median(serai_s):.2f} s over {median(straight_s):.2f} s, medians of {ROUNDS} each in turn; real agent, raw_exec, one rank each"
    )
    return [Ratio(NAME, median(serai_s) / median(straight_s), 1.2, "at most", "x", detail)]


class _Running:
    """Jobs of which Nomad's event stream said that their program runs."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._ids: set[str] = set()
        self._changed = asyncio.Event()
        self.listening = asyncio.Event()

    async def follow(self) -> None:
        lines = Lines()
        async with self._session.get("/v1/event/stream?topic=Allocation") as answer:
            async for chunk in answer.content.iter_any():
                self.listening.set()
                for line in lines.feed(chunk):
                    self._ids.update(told_of(line, "running"))
                self._changed.set()

    async def all(self, nomad_ids: list[str]) -> None:
        async with asyncio.timeout(120):
            while not self._ids.issuperset(nomad_ids):
                self._changed.clear()
                await self._changed.wait()


async def _through_serai(core: Core, updates: Updates, job_ids: list[str]) -> float:
    began_ns = time.monotonic_ns()
    await create(core, job_ids)
    took_s = (await updates.all(job_ids, JOB_STATE_RUNNING) - began_ns) / 1e9
    await core.changes.terminate([job_of(job_id) for job_id in job_ids], for_core=False)
    await updates.all(job_ids, JOB_STATE_SUCCESS)
    return took_s


async def _straight(session: aiohttp.ClientSession, running: _Running, jobs: list[tuple[str, bytes, bytes]]) -> float:
    began_ns = time.monotonic_ns()
    await straight(session, jobs)
    await running.all([nomad_id for nomad_id, _, _ in jobs])
    took_s = (time.monotonic_ns() - began_ns) / 1e9
    for nomad_id, _, _ in jobs:
        async with session.delete(f"/v1/job/{nomad_id}"):
            pass
    await _until_over(session, {nomad_id for nomad_id, _, _ in jobs})
    for nomad_id, _, _ in jobs:
        async with session.delete(f"/v1/job/{nomad_id}?purge=true"), session.delete(f"/v1/var/{names.variable(nomad_id)}"):
            pass
    return took_s


async def _until_over(session: aiohttp.ClientSession, nomad_ids: set[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            async with session.get("/v1/allocations") as answer:
                rows = msgspec.json.decode(await answer.read(), type=list[dict[str, object]])
            if all(row["ClientStatus"] in {"complete", "failed", "lost"} for row in rows if row["JobID"] in nomad_ids):
                return
            await asyncio.sleep(0.1)


async def measure() -> tuple[list[float], list[float]]:
    """Seconds of each round: through Serai, and straight."""
    numbers = itertools.count(1_000)
    serai_s: list[float] = []
    straight_s: list[float] = []
    forever = aiohttp.ClientTimeout(total=None)
    with folder() as name:
        here = Path(name)
        async with RealAgent(here / "agent") as agent, aiohttp.ClientSession(agent.address, timeout=forever) as session:
            site = settings(agent.address, here)
            other = msgspec.structs.replace(site, provider="straight")  # not Serai's to take over
            running = _Running(session)
            following = asyncio.create_task(running.follow())
            async with await open_nomad(site, CLOCK) as backend, server(backend, here) as core, Updates(core).followed() as updates:
                for _ in range(ROUNDS + 1):
                    ids = [str(next(numbers)) for _ in range(JOBS)]
                    serai_s.append(await _through_serai(core, updates, ids))
                    same = bodies(other, [spec_of(str(next(numbers))) for _ in range(JOBS)])
                    straight_s.append(await _straight(session, running, same))
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    return serai_s[1:], straight_s[1:]  # the first is for warming up
