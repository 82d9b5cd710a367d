"""How tasks end, and by which fields each way is known."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from fakes.nomad_calls import Calls, types_of, within
from fakes.nomad_golden import Golden, end
from fakes.nomad_jobs import Json, job


def _main(made: Json) -> Json:
    groups = cast("list[Json]", made["TaskGroups"])
    return cast("list[Json]", groups[0]["Tasks"])[0]


@pytest.mark.parametrize(
    ("name", "script"),
    [("exit-0", "exit 0"), ("exit-3", "exit 3"), ("sigterm", "kill -15 $$"), ("sigsegv", "kill -11 $$")],
)
async def test_ends_by_itself(calls: Calls, golden: Golden, name: str, script: str) -> None:
    """Code and signal stand at Terminated; a failure is followed by Not Restarting."""
    await calls.started(job(name, script))
    (row,) = await calls.ended(name)
    golden.check(f"ended-{name}", end(row))


async def test_a_missing_program(calls: Calls, golden: Golden) -> None:
    """Driver Failure with the driver's words."""
    made = job("missing")
    _main(made)["Config"] = {"command": "/no/such"}
    await calls.started(made)
    (row,) = await calls.ended("missing")
    golden.check("ended-missing-program", end(row))


async def test_a_hostname_without_docker(calls: Calls) -> None:
    """The allocation fails before any task has a story; only its description says why."""
    made = job("named", network="bridge")
    cast("list[Json]", cast("list[Json]", made["TaskGroups"])[0]["Networks"])[0]["Hostname"] = "node-0"
    await calls.started(made)
    (row,) = await calls.until("named", lambda rows: [a["ClientStatus"] for a in rows] == ["failed"])
    assert str(row["ClientDescription"]).endswith("hostname is not currently supported on driver raw_exec")
    states = cast("dict[str, dict[str, list[Json] | None]]", row["TaskStates"] or {})
    assert not any(state["Events"] for state in states.values())


async def test_a_wrong_template(calls: Calls, golden: Golden) -> None:
    """Killing that fails the task, with the template's error; nothing started."""
    made = job("template")
    _main(made)["Templates"] = [{"EmbeddedTmpl": "{{ nosuch }}", "DestPath": "local/x", "ChangeMode": "noop"}]
    await calls.started(made)
    (row,) = await calls.ended("template")
    said = end(row)
    events = cast("list[Json]", said["Events"])
    assert [e["Type"] for e in events] == ["Received", "Task Setup", "Killing"]
    assert 'function "nosuch" not defined' in str(events[2]["DisplayMessage"])
    said["Events"] = [e["Type"] for e in events]
    golden.check("ended-wrong-template", said)


async def test_stopped_by_its_signal(calls: Calls, golden: Golden) -> None:
    """Killing, Terminated, Killed; complete, whatever the exit code."""
    await calls.started(job("obeys", "trap 'exit 0' TERM; while :; do sleep 0.05; done"))
    await calls.running("obeys")
    await calls.until("obeys", lambda rows: rows[0]["ClientStatus"] == "running")
    await calls.call("DELETE", "/v1/job/obeys")
    (row,) = await calls.ended("obeys")
    assert row["ClientStatus"] == "complete"
    golden.check("ended-stopped", end(row) | {"Events": types_of(row)})


async def test_deaf_to_its_signal(calls: Calls, golden: Golden) -> None:
    """SIGKILL after the kill time-out: 137 and signal 9."""
    await calls.started(job("deaf", "trap '' TERM; echo deaf; while :; do sleep 0.05; done", kill_timeout_s=0.5))
    (row,) = await calls.running("deaf")
    await calls.until("deaf", lambda rows: rows[0]["ClientStatus"] == "running")
    async with asyncio.timeout(20):
        while "deaf" not in (await calls.log(row)).text:
            await asyncio.sleep(0.02)
    await calls.call("DELETE", "/v1/job/deaf")
    (row,) = await calls.ended("deaf")
    golden.check("ended-deaf", end(row))


async def test_max_run_duration(calls: Calls, golden: Golden) -> None:
    """It looks like success but for the client's description."""
    await calls.started(job("long", "trap 'exit 5' TERM; while :; do sleep 0.05; done", max_run_s=1.5))
    (row,) = await calls.ended("long")
    golden.check("ended-max-run", end(row))


async def test_a_failing_sibling(calls: Calls, golden: Golden) -> None:
    """When the sidecar fails, the main task is killed for it and is not itself failed."""
    await calls.started(job("sibling", "trap 'exit 0' TERM; while :; do sleep 0.05; done", sidecar="sleep 0.6; exit 4"))
    (row,) = await calls.ended("sibling")
    golden.check("ended-sibling-failed", [end(row), end(row, "firewall")])


async def test_a_sidecar_ends_with_the_main_task(calls: Calls, golden: Golden) -> None:
    """The main task is set up only when the sidecar was started; the sidecar is ended after it."""
    await calls.started(job("side", "sleep 0.3", sidecar="trap 'exit 0' TERM; while :; do sleep 0.05; done"))
    (row,) = await calls.ended("side")
    golden.check("ended-sidecar", [end(row), end(row, "firewall")])


async def test_the_barrier_opens_with_the_variable(calls: Calls, golden: Golden) -> None:
    """All ranks wait, placed, for the job's variable, and read in it what was written."""
    await calls.started(job("gate", "cat local/nodes", ranks=3, gated=True))
    waiting = await calls.until("gate", lambda rows: len(rows) == 3 and all("Template" in types_of(a) for a in rows))
    golden.check("barrier-waiting", end(waiting[0]))
    assert {a["ClientStatus"] for a in waiting} == {"pending"}
    await calls.call("PUT", "/v1/var/nomad/jobs/gate?cas=0", {"Items": {"nodes": "10.0.0.1\n10.0.0.2\n10.0.0.3"}})
    for row in await calls.ended("gate", 3):
        assert (await calls.log(row)).text == "10.0.0.1\n10.0.0.2\n10.0.0.3"


async def test_taken_back_before_the_start(calls: Calls, golden: Golden) -> None:
    """Complete without Started or Terminated."""
    await calls.started(job("back", gated=True))
    await calls.until("back", lambda rows: bool(rows) and "Template" in types_of(rows[0]))
    await calls.call("DELETE", "/v1/job/back")
    (row,) = await calls.ended("back")
    golden.check("ended-never-started", end(row))


async def test_bridge_address_is_known_before_the_start(calls: Calls, golden: Golden) -> None:
    """The single answer tells the allocation's own address while the task still waits; on the host network it is an empty text."""
    await calls.started(job("bridged", gated=True, network="bridge"))
    await calls.started(job("hosted", gated=True))
    said: list[object] = []
    for name in ("bridged", "hosted"):
        (row,) = await calls.until(name, lambda rows: bool(rows) and "Template" in types_of(rows[0]))
        status = within((await calls.get(f"/v1/allocation/{row['ID']}")).json, "NetworkStatus")
        said.append({k: "<address>" if k == "Address" and v else v for k, v in status.items()})
    golden.check("network-status", said)
