"""Two nodes, one of them lost or taken: a fake cluster always, a real server with two clients where `nomad` is on PATH."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_agents import settings_text
from fakes.nomad_jobs import Json, create, job
from fakes.nomad_real import why_not
from fakes.nomad_real_cluster import RealCluster
from fakes.stack import TINY_PRODUCT, Stack, stack
from serai_devcore.applications import shell_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="raw_exec tasks make a mount namespace of their own: needs root")
LOST_MS = 4_000
SCRIPT = "rank=$(cat /etc/ucloud/rank.txt); echo $rank >> runs; echo $$ > pid-$rank; while [ ! -e go ]; do sleep 0.05; done; exit 5"


@dataclass
class Site:
    serai: Stack
    cluster: FakeAgent | RealCluster

    async def two_ranks(self) -> str:
        """A running job, one rank on each node: a node has one core."""
        sent = await self.serai.core.submit(replace(shell_request(SCRIPT, replicas=2), product=TINY_PRODUCT))
        assert sent.accepted, sent.answer
        job = self.serai.core.jobs[sent.job_id]
        await self.serai.core.until(lambda: job.state == "RUNNING" or job.final, 40)
        assert job.state == "RUNNING", job.arrivals[-1].status
        return sent.job_id

    async def call(self, method: str, path: str, body: object = None) -> object:
        async with (
            aiohttp.ClientSession(self.cluster.address) as session,
            session.request(method, path, json=body) as answer,
        ):
            assert answer.ok, await answer.text()
            return await answer.json(content_type=None)

    async def rows(self, path: str) -> list[dict[str, str]]:
        return cast("list[dict[str, str]]", await self.call("GET", path))

    async def lose(self, name: str) -> None:
        if isinstance(self.cluster, FakeAgent):
            self.cluster.lose(name)
        else:
            await asyncio.to_thread(self.cluster.lose, name)

    async def find(self, name: str) -> None:
        if (found := self.cluster.find(name)) is not None:
            await found

    async def until(self, path: str, field: str, wanted: list[str]) -> None:
        """Until the rows there have those values, in any order."""
        async with asyncio.timeout(30):
            while sorted(row[field] for row in await self.rows(path)) != sorted(wanted):
                await asyncio.sleep(0.05)

    async def ended(self, job_id: str) -> tuple[str, str]:
        await self.serai.until_final(job_id)
        found = self.serai.core.jobs[job_id]
        return found.state, found.arrivals[-1].status

    def runs(self, job_id: str) -> list[str]:
        return sorted((self.serai.work(job_id) / "runs").read_text().split())


@pytest.fixture(params=["nomad-fake", "nomad-real"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    if request.param == "nomad-real" and (why := why_not()) is not None:
        pytest.skip(why)
    nodes = [NodeSpec(name=name, cpu_mhz=1_000, memory_mb=1_000) for name in ("one", "two")]
    async with FakeAgent(nodes) if request.param == "nomad-fake" else RealCluster(tmp_path / "cluster") as cluster:
        backend = settings_text(cluster.address, more=f'network = "host"\nnode_lost_ms = {LOST_MS}')
        async with stack(tmp_path / "serai", backend=backend) as serai:
            yield Site(serai, cluster)


async def test_a_node_that_stays_away_fails_the_job_by_its_name(site: Site) -> None:
    """FAILURE names the node; the other rank is ended; when the node is back nothing runs there, and nothing ran twice."""
    job_id = await site.two_ranks()
    rank = next(row["TaskGroup"] for row in await site.rows("/v1/allocations") if row["NodeName"] == "two").removeprefix("rank-")
    programs = [Path("/proc", (site.serai.work(job_id) / f"pid-{number}").read_text().strip()) for number in range(2)]
    await site.lose("two")
    state, words = await site.ended(job_id)
    assert state == "FAILURE"
    assert f"rank {rank} was lost: the machine two went away" in words.lower(), words
    await site.find("two")
    await site.until("/v1/nodes", "Status", ["ready", "ready"])
    async with asyncio.timeout(60):
        while any(program.exists() for program in programs):
            await asyncio.sleep(0.1)
    assert site.runs(job_id) == ["0", "1"]
    # the cluster works on
    again = await site.two_ranks()
    (site.serai.work(again) / "go").touch()
    assert (await site.ended(again))[0] == "SUCCESS"
    assert site.runs(again) == ["0", "1"]


async def test_a_node_that_comes_back_in_time_goes_on(site: Site) -> None:
    """Nobody is told anything; its rank runs on, once, and ends with its own code."""
    job_id = await site.two_ranks()
    await site.lose("two")
    await site.until("/v1/allocations", "ClientStatus", ["running", "unknown"])
    await site.find("two")
    await site.until("/v1/allocations", "ClientStatus", ["running", "running"])
    (site.serai.work(job_id) / "go").touch()
    assert await site.ended(job_id) == ("SUCCESS", "Rank 0 ended with exit code 5; rank 1 ended with exit code 5.")
    assert site.runs(job_id) == ["0", "1"]


async def test_a_drain_and_a_preemption_are_told_apart(site: Site) -> None:
    """Each in its own words, with the node's name."""
    job_id = await site.two_ranks()
    node = next(row for row in await site.rows("/v1/nodes") if row["Name"] == "one")
    await site.call("PUT", f"/v1/node/{node['ID']}/drain", {"DrainSpec": {"Deadline": -1}, "MarkEligible": False})
    state, words = await site.ended(job_id)
    assert (state, "the machine one was taken out of service" in words) == ("FAILURE", True), words
    await site.call("PUT", f"/v1/node/{node['ID']}/drain", {"DrainSpec": None, "MarkEligible": True})
    job_id = await site.two_ranks()
    row = next(row for row in await site.rows("/v1/allocations") if row["ClientStatus"] == "running" and row["NodeName"] == "one")
    await _preempt(site, row["ID"])
    state, words = await site.ended(job_id)
    assert (state, "was given to a job of higher priority" in words) == ("FAILURE", True), words


async def _preempt(site: Site, alloc_id: str) -> None:
    if isinstance(site.cluster, FakeAgent):
        site.cluster.preempt(alloc_id)
        return
    await site.call("PUT", "/v1/operator/scheduler/configuration", {"PreemptionConfig": {"BatchSchedulerEnabled": True}})
    greedy: Json = job("greedy", "sleep 600", cpu=900) | {"Priority": 95}
    greedy["Constraints"] = [{"LTarget": "${node.unique.name}", "Operand": "=", "RTarget": "one"}]
    await site.call("PUT", "/v1/jobs", create(greedy))
