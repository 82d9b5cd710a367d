"""The backend's line of jobs in front of the fake agent: who is given to Nomad, and what those are told who wait there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.nomad import FakeAgent, NodeSpec
from serai_backends.model import JobObservation, Phase, ReplicaSpec, Resources
from serai_backends.nomad import names
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.settings import NomadSettings, Placement


@asynccontextmanager
async def backend_on(agent: FakeAgent, folder: Path, *, releases: int) -> AsyncGenerator[NomadBackend]:
    """Of programs that are played: nothing of the jobs' folders is looked at."""
    settings = NomadSettings(
        state_dir=str(folder / "state"),
        provider="example",
        address=agent.address,
        drives_dir=str(folder),
        work="scratch",
        raw_exec=True,
        placements=(Placement(driver="raw_exec"),),
        releases=releases,
    )
    async with await open_nomad(settings) as backend:
        yield backend


def one_rank(number: int) -> ReplicaSpec:
    return ReplicaSpec(str(number), 1, ("true",), (), Resources(cpu=1, memory_bytes=64 << 20), f"home/Jobs/Batch/{number}")


async def until(backend: NomadBackend, job_id: str, phase: Phase, reason: str = "") -> JobObservation:
    """As soon as the job is told so."""
    news = backend.watch()
    seen = await backend.inspect(job_id)
    while seen is None or seen.phase is not phase or not seen.reason.startswith(reason):
        event = await anext(news)
        seen = event.observation if event.observation.job_id == job_id else seen
    return seen


async def test_more_jobs_run_than_may_be_on_their_way(tmp_path: Path) -> None:
    """A job of one rank that has its node is on its way no longer, also where it was OPENED before it was registered."""
    async with FakeAgent([NodeSpec(cpu_mhz=16_000)], simulated=True) as agent, backend_on(agent, tmp_path, releases=2) as backend:
        for number in range(1, 8):
            await backend.submit(one_rank(number))
        for number in range(1, 8):
            await until(backend, str(number), Phase.RUNNING)


async def test_a_job_of_one_rank_that_waits_at_nomad_is_told_for_what(tmp_path: Path) -> None:
    """And the next one keeps its place in the line until there is room."""
    async with FakeAgent([NodeSpec(cpu_mhz=1_000)], simulated=True) as agent, backend_on(agent, tmp_path, releases=8) as backend:
        await backend.submit(one_rank(1))
        await until(backend, "1", Phase.RUNNING)
        await backend.submit(one_rank(2))
        await backend.submit(one_rank(3))
        await until(backend, "2", Phase.WAITING, "waiting for ")
        third = await backend.inspect("3")
        assert third is not None
        assert third.phase is Phase.WAITING
        agent.finish(agent.allocs_of(names.nomad_id("1", 1))[0].id)
        await until(backend, "2", Phase.RUNNING)
