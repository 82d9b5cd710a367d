"""What a cluster can do to jobs, by the fake agent in its simulated mode: none may start twice, be lost, or be left hanging."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_words import spec_of
from serai_backends.model import End, Phase, Why
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.settings import NomadSettings, Placement

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from fakes.nomad.cluster import Allocation
    from serai_backends.model import JobObservation

DEADLINE_S = 20


@dataclass
class Site:
    agent: FakeAgent
    settings: NomadSettings
    backend: NomadBackend

    async def until(self, job_id: str, wanted: Callable[[JobObservation], bool]) -> JobObservation:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.backend.inspect(job_id)
                if found is not None and wanted(found):
                    return found
                await asyncio.sleep(0.01)

    async def running(self, job_id: str) -> JobObservation:
        return await self.until(job_id, lambda found: found.phase is Phase.RUNNING)

    async def ended(self, job_id: str) -> JobObservation:
        return await self.until(job_id, lambda found: found.phase is Phase.ENDED)

    async def allocs(self, nomad_id: str, count: int) -> list[Allocation]:
        async with asyncio.timeout(DEADLINE_S):
            while len(found := self.agent.allocs_of(nomad_id)) < count:
                await asyncio.sleep(0.01)
        return found

    async def call(self, method: str, path: str) -> None:
        async with aiohttp.ClientSession() as session, session.request(method, f"{self.agent.address}{path}") as answer:
            assert answer.status == 200

    async def reopen(self, **changes: Any) -> None:
        await self.backend.close()
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.backend = await open_nomad(self.settings)


@contextlib.asynccontextmanager
async def site_of(folder: Path, *nodes: NodeSpec, **changes: Any) -> AsyncGenerator[Site]:
    (folder / "drives").mkdir()
    async with FakeAgent(list(nodes) or None, simulated=True) as agent:
        settings = NomadSettings(
            state_dir=str(folder / "state"),
            provider="p",
            address=agent.address,
            drives_dir=str(folder / "drives"),
            work="scratch",
            placements=(Placement(),),
            sweep_ms=200,
        )
        settings = msgspec.structs.replace(settings, **changes)
        site = Site(agent, settings, await open_nomad(settings))
        try:
            yield site
        finally:
            await site.backend.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(tmp_path) as site:
        yield site


async def test_ranks_on_their_nodes_own_network_have_their_nodes_addresses(tmp_path: Path) -> None:
    """Nomad tells none of its own there; the gate opens all the same."""
    async with site_of(tmp_path, network="host") as site:
        await site.backend.submit(spec_of(replicas=2))
        found = await site.running("job")
        assert {replica.address for replica in found.replicas} == {"127.0.0.1"}


async def test_a_gate_that_somebody_deleted_is_written_again(site: Site) -> None:
    """Ranks that have not started would wait for it for ever."""
    site.agent.delay("/v1/var", 0.0)
    site.agent.fail_next("PUT", "/v1/var", 500, "rpc error: No cluster leader", times=2)
    await site.backend.submit(spec_of(replicas=2))
    await site.running("job")
    assert site.agent.variables


async def test_an_operator_who_stops_a_waiting_job_is_named(tmp_path: Path) -> None:
    """Nothing of it was ever placed, so no allocation tells."""
    async with site_of(tmp_path, NodeSpec(cpu_mhz=2_000, drivers=("docker",))) as site:
        await site.backend.submit(spec_of("first", cpu=2))
        await site.running("first")
        await site.backend.submit(spec_of("second", cpu=2))
        await site.until("second", lambda found: "waiting for" in found.reason)
        await site.call("DELETE", "/v1/job/ucloud-second")
        found = await site.ended("second")
        assert [(r.end, r.why, r.cause) for r in found.replicas] == [(End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job")]


async def test_many_jobs_of_one_rank_run_at_the_same_time(site: Site) -> None:
    """More than may be on their way: a job that has its place makes room for the next one."""
    names = [f"job{number}" for number in range(24)]
    for name in names:
        await site.backend.submit(spec_of(name))
    for name in names:
        await site.running(name)


@pytest.mark.parametrize("lost", [False, True], ids=["at the deadline", "with its node"])
async def test_a_job_that_finds_no_room_for_all_of_it_is_taken_back(tmp_path: Path, *, lost: bool) -> None:
    """Nothing of it is left at Nomad; it starts when there is room, under another name."""
    nodes = [NodeSpec(name=name, cpu_mhz=1_000, disk_mb=disk, drivers=("docker",)) for name, disk in (("a", 1_000), ("b", 10))]
    async with site_of(tmp_path, *nodes, placement_deadline_ms=60_000 if lost else 300) as site:
        await site.backend.submit(spec_of(replicas=2))
        (placed,) = await site.allocs("ucloud-job", 1)
        if lost:
            site.agent.lose(placed.node.spec.name)
            site.agent.find(placed.node.spec.name)
        await site.allocs("ucloud-job~~2", 1)
        assert site.agent.allocs_of("ucloud-job") == []
        full = site.agent.node("b")
        full.spec = replace(full.spec, disk_mb=1_000)
        site.agent.scheduler.unblock()
        found = await site.running("job")
        assert [r.end for r in found.replicas] == [None, None]


async def test_a_job_whose_row_was_lost_is_taken_over(site: Site) -> None:
    """The state folder is gone: it is found at Nomad, seen, and can be stopped."""
    await site.backend.submit(spec_of(replicas=2))
    before = await site.running("job")
    await site.backend.close()
    shutil.rmtree(site.settings.state_dir)
    site.backend = await open_nomad(site.settings)
    addresses = [r.address for r in before.replicas]
    await site.until("job", lambda found: [r.address for r in found.replicas] == addresses and found.phase is Phase.RUNNING)
    await site.backend.cancel("job")
    assert [r.end for r in (await site.ended("job")).replicas] == [End.CANCELED] * 2
    await site.backend.forget("job")
    assert await site.backend.inspect("job") is None


async def test_a_plain_alloc_stop_runs_nothing_twice(site: Site) -> None:
    """Nomad places another one for it; that one is stopped, and what became of the first is told."""
    await site.backend.submit(spec_of())
    await site.running("job")
    (first,) = site.agent.allocs_of("ucloud-job")
    site.agent.operator_stop(first.id, reschedule=False)
    found = await site.ended("job")
    assert (found.replicas[0].end, found.replicas[0].why) == (End.CANCELED, Why.STOPPED_BY_OPERATOR)
    async with asyncio.timeout(DEADLINE_S):
        while not all(alloc.client in {"complete", "failed"} for alloc in site.agent.allocs_of("ucloud-job")):
            await asyncio.sleep(0.01)


async def test_jobs_wait_for_an_absent_nomad(site: Site) -> None:
    """Taken on at once, started when it is back; a cancel meanwhile is not forgotten."""
    await site.agent.go_down()
    await site.backend.submit(spec_of("one"))
    await site.backend.submit(spec_of("two", replicas=2))
    await site.backend.submit(spec_of("never"))
    await site.backend.cancel("never")
    await site.reopen(timeout_ms=500)
    await site.agent.come_back()
    await site.running("one")
    await site.running("two")
    assert (await site.ended("never")).replicas[0].end is End.CANCELED
    assert site.agent.allocs_of("ucloud-never") == []


async def test_events_that_were_lost_are_made_good_by_the_sweep(site: Site) -> None:
    """The stream says nothing at all of a whole life."""
    site.agent.lose_events(1_000)
    await site.backend.submit(spec_of(replicas=2))
    await site.running("job")
    for number, alloc in enumerate(site.agent.allocs_of("ucloud-job")):
        site.agent.finish(alloc.id, exit_code=number)
    assert {r.exit_code for r in (await site.ended("job")).replicas} == {0, 1}


async def test_a_job_without_row_and_gate_is_ended_in_words(site: Site) -> None:
    """Its ranks would hold their places for ever: nobody knows any more where to."""
    site.agent.fail_next("PUT", "/v1/var", 500, "rpc error: No cluster leader", times=1_000)
    await site.backend.submit(spec_of(replicas=2))
    await site.allocs("ucloud-job", 2)
    await site.backend.close()
    shutil.rmtree(site.settings.state_dir)
    site.backend = await open_nomad(site.settings)
    found = await site.ended("job")
    assert {(r.end, r.cause) for r in found.replicas} == {
        (End.START_FAILED, "what was noted of the job was lost before its ranks were let go")
    }


async def test_a_cluster_that_was_built_anew_has_lost_its_jobs(site: Site, tmp_path: Path) -> None:
    """Its indexes begin again; what it does not know is over, not RUNNING for ever."""
    for number in range(3):
        await site.backend.submit(spec_of(f"job{number}"))
        await site.running(f"job{number}")
    async with FakeAgent(simulated=True) as other:
        await site.reopen(address=other.address)
        for number in range(3):
            found = await site.ended(f"job{number}")
            assert (found.replicas[0].end, found.replicas[0].why) == (End.LOST, Why.FORGOTTEN_BY_CLUSTER)


async def test_a_waiting_job_whose_placement_is_gone_is_refused(site: Site) -> None:
    """The settings do not place its machine type any more: it would wait for ever."""
    await site.agent.go_down()
    await site.backend.submit(spec_of())
    await site.agent.come_back()
    await site.reopen(placements=(Placement(product="other/type"),))
    found = await site.ended("job")
    assert "no placement" in found.replicas[0].cause
