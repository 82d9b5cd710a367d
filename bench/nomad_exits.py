"""From Nomad's own event of a replica's end until Core can be told, at 1,000 live replicas: what Serai adds.

The server's inside on the Nomad backend, a fake agent in a process of its own, and in a third one a bare listener to the same event stream,
which does nothing but take the time. Of each end, what counts is how much later than the listener Serai had it. Replicas end at random
times, at a rate at which nobody is at his limit.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict, cast

import aiohttp
import uvloop
from serai.jobs.v1.job_pb2 import JOB_STATE_RUNNING, JOB_STATE_SUCCESS
from serai_backends.model import Phase
from serai_backends.nomad import names
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.client.events import Lines

from bench.nomad_site import CLOCK, Fake, Updates, create, folder, logs_aside, server, settings, told_of
from bench.ratio import Ratio

LIVE, EXITS, PER_S = 1_000, 400, 20.0


class _Found(TypedDict):
    """ms after the listener."""

    watch_ms: list[float]
    log_ms: list[float]


def run() -> list[Ratio]:
    command = [sys.executable, "-m", "bench.nomad_exits"]
    found = cast("_Found", json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    about = f"{EXITS} ends, {PER_S:g} a second, {LIVE:,} more live"
    return [
        Ratio(
            name=f"a replica's end {where}, after Nomad's event, p99",
            value=_share(values, 0.99),
            limit=50,
            direction="at most",
            unit="ms",
            detail=f"p50 {_share(values, 0.5):.1f}, p90 {_share(values, 0.9):.1f}, longest {max(values):.1f} ms; {about}",
        )
        for where, values in (("told by the backend", found["watch_ms"]), ("stored as Core's news", found["log_ms"]))
    ]


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# --- the listener ------------------------------------------------------------------------------------------------------------------------


async def listen(address: str) -> dict[str, int]:
    """When the end of each job came, by Nomad's id and the machine's monotonic clock. Until standard input ends."""
    lines, found = Lines(), dict[str, int]()

    async def follow() -> None:
        forever = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(address, timeout=forever) as session, session.get("/v1/event/stream?topic=Allocation") as answer:
            print("listening", flush=True)
            async for chunk in answer.content.iter_any():
                now_ns = time.monotonic_ns()
                for line in lines.feed(chunk):
                    for nomad_id in told_of(line, "complete"):
                        found.setdefault(nomad_id, now_ns)

    following = asyncio.create_task(follow())
    await asyncio.to_thread(sys.stdin.read)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return found


@asynccontextmanager
async def _listener(address: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.nomad_exits", address, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


# --- one measurement ----------------------------------------------------------------------------------------------------------------------


async def _watch(backend: NomadBackend, found: dict[str, int]) -> None:
    async for news in backend.watch():
        if news.observation.phase is Phase.ENDED:
            found.setdefault(news.observation.job_id, time.monotonic_ns())


async def measure() -> _Found:
    with folder() as name:
        here = Path(name)
        async with (
            Fake.started(LIVE + EXITS, here) as fake,
            await open_nomad(settings(fake.address, here), CLOCK) as backend,
            server(backend, here) as core,
            Updates(core).followed() as updates,
        ):
            ids = [str(5_000_000 + number) for number in range(LIVE + EXITS)]
            await create(core, ids)
            await updates.all(ids, JOB_STATE_RUNNING)
            async with _listener(fake.address) as listener:
                watched = dict[str, int]()
                watching = asyncio.create_task(_watch(backend, watched))
                await asyncio.sleep(2)  # what the start of so many left to do is done
                chosen = ids[:: len(ids) // EXITS][:EXITS]
                await fake.order(do="exits", jobs=[names.nomad_id(job_id, 1) for job_id in chosen], per_s=PER_S)
                await updates.all(chosen, JOB_STATE_SUCCESS)
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                told, _ = await listener.communicate(b"")
            event_ns = cast("dict[str, int]", json.loads(told))
            at_ns = {job_id: event_ns[names.nomad_id(job_id, 1)] for job_id in chosen}
            return _Found(
                watch_ms=[(watched[job_id] - at_ns[job_id]) / 1e6 for job_id in chosen],
                log_ms=[(updates.at_ns[job_id, JOB_STATE_SUCCESS] - at_ns[job_id]) / 1e6 for job_id in chosen],
            )


if __name__ == "__main__":
    logs_aside()
    print(json.dumps(uvloop.run(listen(sys.argv[1]) if sys.argv[1:] else measure())))
