"""1,000 creates in one request: when all are stored, registered at Nomad, and told as RUNNING; over as many registrations straight there.

The server's inside on the Nomad backend, a fake agent in a process of its own. The floor: the same job files and variables by aiohttp, 16
at once, to a second fake agent that has nothing else. Printed: the backend does on purpose what the floor does not (rows, folders, order).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict, cast

import aiohttp
import uvloop
from serai.jobs.v1.job_pb2 import JOB_STATE_RUNNING
from serai_backends.nomad.backend import open_nomad
from serai_backends.nomad.names import PREFIX

from bench.nomad_site import CLOCK, Fake, Updates, bodies, create, folder, logs_aside, server, settings, spec_of, straight
from bench.ratio import Ratio

JOBS = 1_000


class _Found(TypedDict):
    stored_s: float
    registered_s: float
    running_s: float
    straight_s: float


def run() -> list[Ratio]:
    command = [sys.executable, "-m", "bench.nomad_bulk"]
    found = cast("_Found", json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    floor_s = found["straight_s"]
    detail = (
        f"answered after {found['stored_s']:.2f} s, all registered after {found['registered_s']:.1f} s, all RUNNING in Core's log after "
        f"{found['running_s']:.1f} s; straight {floor_s:.1f} s"
    )
    return [
        Ratio(f"{JOBS:,} jobs in one create, all registered, over straight", found["registered_s"] / floor_s, 0, "printed", "x", detail),
        Ratio(
            f"{JOBS:,} jobs in one create, all RUNNING", found["running_s"], 0, "printed", "s", f"{JOBS / found['running_s']:.0f} a second"
        ),
    ]


async def _all_registered(address: str) -> int:
    """When Nomad has them all, in ns."""
    async with aiohttp.ClientSession(address) as session:
        while True:
            async with session.get(f"/v1/vars?prefix=nomad/jobs/{PREFIX}") as answer:
                variables = len(await answer.json())
            if variables >= JOBS:
                async with session.get(f"/v1/jobs?prefix={PREFIX}") as answer:
                    if len(await answer.json()) >= JOBS:
                        return time.monotonic_ns()
            await asyncio.sleep(0.25)


async def measure() -> _Found:
    ids = [str(5_000_000 + number) for number in range(JOBS)]
    with folder() as name:
        here = Path(name)
        (here / "floor").mkdir()
        async with Fake.started(JOBS, here / "floor") as fake, aiohttp.ClientSession(fake.address) as session:
            jobs = bodies(settings(fake.address, here / "floor"), [spec_of(job_id) for job_id in ids])
            began_ns = time.monotonic_ns()
            await straight(session, jobs)
            straight_s = (time.monotonic_ns() - began_ns) / 1e9
        async with (
            Fake.started(JOBS, here) as fake,
            await open_nomad(settings(fake.address, here), CLOCK) as backend,
            server(backend, here) as core,
            Updates(core).followed() as updates,
        ):
            began_ns = time.monotonic_ns()
            await create(core, ids)
            stored_ns = time.monotonic_ns()
            registered = asyncio.create_task(_all_registered(fake.address))
            running_ns = await updates.all(ids, JOB_STATE_RUNNING)
            registered_ns = await registered
        return _Found(
            stored_s=(stored_ns - began_ns) / 1e9,
            registered_s=(registered_ns - began_ns) / 1e9,
            running_s=(running_ns - began_ns) / 1e9,
            straight_s=straight_s,
        )


if __name__ == "__main__":
    logs_aside()
    print(json.dumps(uvloop.run(measure())))
