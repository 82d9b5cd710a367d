"""Why a rank is not placed: the fields of the newest evaluation."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from fakes.nomad_calls import Calls, within
from fakes.nomad_golden import Golden
from fakes.nomad_jobs import Json, job

_FIELDS = ("NodesEvaluated", "NodesFiltered", "NodesInPool", "NodesAvailable", "ConstraintFiltered", "NodesExhausted", "DimensionExhausted")


def _wanting(what: str) -> Json:
    made = job(f"wants-{what}")
    group = cast("list[Json]", made["TaskGroups"])[0]
    task = cast("list[Json]", group["Tasks"])[0]
    match what:
        case "memory":
            task["Resources"] = {"CPU": 50, "MemoryMB": 1_000_000}
        case "cpu":
            task["Resources"] = {"CPU": 1_000_000, "MemoryMB": 32}
        case "disk":
            group["EphemeralDisk"] = {"SizeMB": 1_000_000_000}
        case "constraint":
            made["Constraints"] = [{"LTarget": "${attr.kernel.name}", "RTarget": "windows", "Operand": "="}]
        case "driver":
            task["Driver"] = "nosuchdriver"
        case "volume":
            group["Volumes"] = {
                "v": {"Type": "host", "Source": "nothing", "AccessMode": "single-node-writer", "AttachmentMode": "file-system"}
            }
        case _:
            made["Datacenters"] = ["nowhere"]
    return made


@pytest.mark.parametrize("what", ["memory", "cpu", "disk", "constraint", "driver", "volume", "datacenter"])
async def test_why_not_placed(calls: Calls, golden: Golden, what: str) -> None:
    """A complete evaluation names a blocked one; both tell the reason. The job is pending without allocations."""
    await calls.started(_wanting(what))
    async with asyncio.timeout(20):
        while sorted(str(e["Status"]) for e in await calls.evals(f"wants-{what}")) != ["blocked", "complete"]:
            await asyncio.sleep(0.02)
    evals = await calls.evals(f"wants-{what}")
    blocked, complete = sorted(evals, key=lambda e: str(e["Status"]))
    assert complete["BlockedEval"] == blocked["ID"]
    why = [within(e, "FailedTGAllocs", "rank-0") for e in (complete, blocked)]
    told = [{k: w[k] for k in _FIELDS} for w in why]
    row = (await calls.get(f"/v1/job/wants-{what}")).json
    golden.check(
        f"unplaced-{what}", [told, blocked["StatusDescription"], blocked["TriggeredBy"], row["Status"], await calls.allocs(f"wants-{what}")]
    )


async def test_what_is_blocked_comes_when_there_is_room(calls: Calls) -> None:
    """Two ranks that do not fit together: the second one runs after the first."""
    await calls.started(job("room", "sleep 0.3", ranks=2, memory_mb=3_000))
    rows = await calls.ended("room", 2)
    assert [a["ClientStatus"] for a in rows] == ["complete", "complete"]


async def test_some_ranks_may_be_placed_without_the_others(calls: Calls) -> None:
    """There is no gang placement: rank 0 runs while rank 1 waits."""
    await calls.started(job("partly", "sleep 30", ranks=2, memory_mb=3_000))
    assert len(await calls.running("partly", 1)) == 1
    assert (await calls.evals("partly"))[0]["Status"] == "blocked"
