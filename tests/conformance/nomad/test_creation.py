"""A job is created once: what an agent answers to registrations, and what makes finished ranks run again."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from fakes.nomad_calls import Calls, event_of
from fakes.nomad_golden import Golden, end
from fakes.nomad_jobs import create, job


async def test_the_first_registration(calls: Calls, golden: Golden) -> None:
    """200 with the evaluation and the job's index; job, allocation and evaluation then have these fields."""
    made = await calls.create(job("first"))
    (alloc,) = await calls.ended("first")
    golden.check("registered", [made.status, made.json])
    golden.check_fields("job", (await calls.get("/v1/job/first")).json, frozenset({"UI", "VersionTag", "Update", "Multiregion"}) | NOT_TOLD)
    golden.check_fields("job-in-list", (await calls.get("/v1/jobs?meta=true")).rows[0])
    golden.check_fields("allocation-in-list", alloc)
    golden.check_fields("allocation", (await calls.get(f"/v1/allocation/{alloc['ID']}")).json, frozenset({"SigningKeyID"}))
    golden.check_fields("evaluation", (await calls.evals("first"))[0], frozenset({"PlanAnnotations"}))
    golden.check_fields("node", (await calls.get("/v1/nodes?resources=true")).rows[0])


NOT_TOLD = frozenset(
    (
        "Affinities",
        "AllAtOnce",
        "Constraints",
        "ConsulNamespace",
        "DispatchIdempotencyToken",
        "Dispatched",
        "NomadTokenID",
        "Payload",
        "Spreads",
        "Stable",
        "VaultNamespace",
    )
)
"""Of a job: what nothing here reads."""


async def test_a_second_registration_is_refused(calls: Calls, golden: Golden) -> None:
    """500 in plain text: by its words alone one tells that it exists."""
    await calls.started(job("twice", "sleep 30"))
    again = await calls.create(job("twice", "sleep 30"))
    other = await calls.call("PUT", "/v1/jobs", create(job("twice")) | {"JobModifyIndex": 999_999})
    unknown = await calls.call("PUT", "/v1/jobs", create(job("never")) | {"JobModifyIndex": 999_999})
    golden.check("refused-registrations", [[a.status, a.text] for a in (again, other, unknown)])


async def test_of_twenty_at_once_one_is_taken(calls: Calls) -> None:
    """One 200, nineteen refusals, one job."""
    answers = await asyncio.gather(*(calls.create(job("crowd", "sleep 30")) for _ in range(20)))
    assert sorted(a.status for a in answers) == [200, *[500] * 19]
    assert len((await calls.get("/v1/jobs")).rows) == 1


async def test_a_stopped_job_still_exists(calls: Calls) -> None:
    """It cannot be created again until it is purged; then it can, and starts."""
    await calls.started(job("stopped"))
    await calls.ended("stopped")
    await calls.call("DELETE", "/v1/job/stopped")
    assert (await calls.create(job("stopped"))).status == 500
    await calls.call("DELETE", "/v1/job/stopped?purge=true")
    assert (await calls.create(job("stopped"))).status == 200
    assert len(await calls.ended("stopped")) == 1


async def test_collected_jobs_can_be_created_again(calls: Calls) -> None:
    """`system gc` takes every dead job at once, whatever its age."""
    await calls.started(job("collected"))
    (alloc,) = await calls.ended("collected")
    assert (await calls.call("PUT", "/v1/system/gc")).status == 200
    async with asyncio.timeout(10):
        while (await calls.get("/v1/job/collected")).status != 404:
            await asyncio.sleep(0.05)
    assert (await calls.get(f"/v1/allocation/{alloc['ID']}")).status == 404
    assert (await calls.create(job("collected"))).status == 200


async def test_what_is_wrong_with_a_job_is_said(calls: Calls, golden: Golden) -> None:
    """An invalid job is a 500 with Nomad's text; broken JSON a 400."""
    wrong = job("wrong")
    wrong["TaskGroups"] = []
    no_log_room = job("logs")
    cast("list[dict[str, object]]", no_log_room["TaskGroups"])[0]["EphemeralDisk"] = {"SizeMB": 10}
    answers = [
        await calls.create(wrong),
        await calls.create(no_log_room),
        await calls.call("PUT", "/v1/jobs", b"{"),
        await calls.create(job("nons") | {"Namespace": "nons"}),
        await calls.create(job("nopool") | {"NodePool": "nopool"}),
    ]
    golden.check("wrong-jobs", [[a.status, a.text] for a in answers])


async def test_what_is_not_there(calls: Calls, golden: Golden) -> None:
    """404 with a text; but to delete an unknown job succeeds."""
    nothing = "00000000-0000-0000-0000-000000000000"
    answers = [
        await calls.get("/v1/job/nothing"),
        await calls.get(f"/v1/allocation/{nothing}"),
        await calls.get("/v1/allocation/short"),
        await calls.get("/v1/job/nothing/allocations"),
        await calls.get(f"/v1/evaluation/{nothing}"),
        await calls.get(f"/v1/node/{nothing}"),
        await calls.get("/v1/namespace/nothing"),
    ]
    gone = await calls.call("DELETE", "/v1/job/nothing")
    golden.check("not-there", [*([a.status, a.text] for a in answers), [gone.status, gone.json]])


async def test_the_same_again_starts_nothing(calls: Calls) -> None:
    """An identical registration without `EnforceIndex`, and `job eval`, leave what ended as it is."""
    await calls.started(job("same", "exit 3"))
    await calls.ended("same")
    assert (await calls.call("PUT", "/v1/jobs", {"Job": job("same", "exit 3")})).status == 200
    assert (await calls.call("PUT", "/v1/job/same/evaluate", {"JobID": "same", "EvalOptions": {"ForceReschedule": True}})).status == 200
    await _quiet(calls, "same")
    assert len(await calls.allocs("same")) == 1


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("change", ["limit", "meta"])
async def test_a_changed_registration_runs_finished_ranks_again(calls: Calls, code: int, change: str) -> None:
    """A new limit leaves the one that still runs alone, new Meta stops it and starts another one; what had ended starts a second time
    in both cases. So a live job is never registered again."""
    script = f'[ "$NOMAD_GROUP_NAME" = rank-0 ] && exit {code}; sleep 30'
    ended = "failed" if code else "complete"
    await calls.started(job("changed", script, ranks=2, max_run_s=60))
    first = await calls.until("changed", lambda rows: [a["ClientStatus"] for a in rows] == [ended, "running"])
    new = (
        job("changed", script, ranks=2, max_run_s=120)
        if change == "limit"
        else job("changed", script, ranks=2, max_run_s=60, meta={"a": "b"})
    )
    await calls.call("PUT", "/v1/jobs", {"Job": new})
    wanted = [ended, ended, "running"] if change == "limit" else [ended, ended, "complete", "running"]
    again = await calls.until("changed", lambda rows: [a["ClientStatus"] for a in rows] == wanted)
    assert (again[-1]["ID"] == first[1]["ID"]) == (change == "limit")


async def test_stopping_an_allocation(calls: Calls, golden: Golden) -> None:
    """Plainly: another one comes. With `reschedule=true`: none does, because the job has no attempts."""
    await calls.started(job("plain", "sleep 30"))
    (one,) = await calls.running("plain")
    await calls.call("PUT", f"/v1/allocation/{one['ID']}/stop")
    replaced = await calls.until("plain", lambda rows: [a["ClientStatus"] for a in rows] == ["complete", "running"])
    assert replaced[0]["NextAllocation"] == replaced[1]["ID"]
    await calls.started(job("kept", "sleep 30"))
    (two,) = await calls.running("kept")
    answer = await calls.call("PUT", f"/v1/allocation/{two['ID']}/stop?reschedule=true")
    (ended,) = await calls.ended("kept")
    await _quiet(calls, "kept")
    assert len(await calls.allocs("kept")) == 1
    golden.check("stopped-allocation", [answer.status, answer.json, ended["DesiredTransition"], end(ended)])


async def test_fewer_ranks_wanted_start_nothing(calls: Calls, golden: Golden) -> None:
    """A registration with Count 0 for a rank that ended does not run it again."""
    await calls.started(job("fewer", "exit 3"))
    await calls.ended("fewer")
    changed = job("fewer", "exit 3", meta={"new": "yes"})
    cast("list[dict[str, object]]", changed["TaskGroups"])[0]["Count"] = 0
    await calls.call("PUT", "/v1/jobs", {"Job": changed})
    (row,) = await calls.until("fewer", lambda rows: rows[0]["DesiredStatus"] == "stop")
    await _quiet(calls, "fewer")
    assert len(await calls.allocs("fewer")) == 1
    golden.check("count-0", end(row))


async def test_a_killed_process_is_not_started_again(calls: Calls, golden: Golden) -> None:
    """137 and signal 9; the allocation failed; nothing else comes."""
    await calls.started(job("killed", "kill -9 $$"))
    (row,) = await calls.ended("killed")
    await _quiet(calls, "killed")
    assert len(await calls.allocs("killed")) == 1
    assert (event_of(row, "Terminated")["ExitCode"], event_of(row, "Terminated")["Signal"]) == (137, 9)
    golden.check("ended-sigkill", end(row))


async def _quiet(calls: Calls, job_id: str) -> None:
    """No evaluation is left to be looked at."""
    async with asyncio.timeout(10):
        while any(e["Status"] == "pending" for e in await calls.evals(job_id)):
            await asyncio.sleep(0.02)
