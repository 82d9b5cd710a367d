"""The whole backend on a cluster whose tasks are told when to end: what only shows with many jobs, or with others in the namespace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_words import spec_of
from serai_backends.model import JobObservation, Phase
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.settings import NomadSettings, Placement

CORES = 32


@pytest.fixture
async def agent() -> AsyncGenerator[FakeAgent]:
    async with FakeAgent([NodeSpec(cpu_mhz=CORES * 1_000)], simulated=True) as made:
        yield made


@pytest.fixture
def settings(agent: FakeAgent, tmp_path: Path) -> NomadSettings:
    return NomadSettings(
        state_dir=str(tmp_path / "state"),
        provider="ours",
        address=agent.address,
        drives_dir=str(tmp_path / "drives"),
        work="scratch",
        raw_exec=True,
        placements=(Placement(driver="raw_exec"),),
        sweep_ms=1_000,
    )


async def told(backend: NomadBackend, job_id: str, wanted: Callable[[JobObservation], bool]) -> JobObservation:
    async with asyncio.timeout(15):
        while (found := await backend.inspect(job_id)) is None or not wanted(found):
            await asyncio.sleep(0.02)
    return found


def runs(found: JobObservation) -> bool:
    return found.phase is Phase.RUNNING


def ended(found: JobObservation) -> bool:
    return found.phase is Phase.ENDED


async def test_jobs_that_run_do_not_hold_up_those_behind_them(settings: NomadSettings) -> None:
    """Of one rank each, more of them than may be on their way at the same time."""
    settings = msgspec.structs.replace(settings, releases=4)
    async with await open_nomad(settings) as backend:
        for number in range(12):
            await backend.submit(spec_of(f"job-{number}"))
        for number in range(12):
            await told(backend, f"job-{number}", runs)


async def test_a_lone_rank_says_for_what_it_waits(settings: NomadSettings) -> None:
    """Also after the server was started anew, when no event tells it; and those behind it do not go past it."""
    async with await open_nomad(settings) as backend:
        for job_id in ("runs", "waits", "behind"):
            await backend.submit(spec_of(job_id, cpu=CORES))
        await told(backend, "waits", lambda found: found.reason == "waiting for free cores")
    async with await open_nomad(settings) as backend:
        await told(backend, "waits", lambda found: found.reason == "waiting for free cores")
        assert not runs(await told(backend, "behind", lambda found: found.waiting is not None))
