"""A node is lost and found: what becomes of the rank that ran there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_calls import Calls, types_of
from fakes.nomad_jobs import Json, job
from fakes.nomad_real_cluster import RealCluster


@pytest.fixture
async def cluster(kind: str, tmp_path: Path) -> AsyncGenerator[FakeAgent | RealCluster]:
    nodes = [NodeSpec(name=name, cpu_mhz=1_000, memory_mb=1_000) for name in ("one", "two")]
    async with FakeAgent(nodes) if kind == "fake" else RealCluster(tmp_path / "cluster") as made:
        yield made


def _job(lost_after_s: int) -> Json:
    made = job("lost", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    group = cast("list[Json]", made["TaskGroups"])[0]
    group["Disconnect"] = {"Replace": False} | ({"LostAfter": lost_after_s * 1_000_000_000} if lost_after_s else {})
    return made


async def _lost_and_found(cluster: FakeAgent | RealCluster, lost_after_s: int, away: list[str], back: list[str]) -> list[Json]:
    """The job's allocations, having been as in `away` and then as in `back`."""
    async with aiohttp.ClientSession(cluster.address) as session:
        calls = Calls(session)
        await calls.started(_job(lost_after_s))
        (row,) = await calls.until("lost", lambda rows: [a["ClientStatus"] for a in rows] == ["running"])
        node = str(row["NodeName"])
        await asyncio.to_thread(cluster.lose, node) if isinstance(cluster, RealCluster) else cluster.lose(node)
        await calls.until("lost", lambda rows: [a["ClientStatus"] for a in rows] == away)
        found = cluster.find(node)
        if found is not None:
            await found
        rows = await calls.until("lost", lambda rows: [a["ClientStatus"] for a in rows] == back, 30)
        await calls.call("DELETE", "/v1/job/lost")
        await calls.ended("lost", len(back))
        return rows


async def test_without_lost_after_it_runs_twice(cluster: FakeAgent | RealCluster) -> None:
    """`replace = false` alone does not hold: a second one starts elsewhere while the first may live; found again, that one is told as
    complete, after it was lost."""
    rows = await _lost_and_found(cluster, 0, ["lost", "running"], ["complete", "running"])
    assert rows[0]["NextAllocation"] == rows[1]["ID"]
    assert rows[0]["DesiredDescription"] == "alloc is lost since its node is down"


async def test_with_lost_after_it_waits(cluster: FakeAgent | RealCluster) -> None:
    """Unknown while its node is away; then it runs on, and the story says Reconnected."""
    (row,) = await _lost_and_found(cluster, 86_400, ["unknown"], ["running"])
    assert types_of(row)[-1] == "Reconnected"
