"""The fake agent's own: what tests may do to it, and its played tasks. What it has in common with a real one stands in
tests/conformance/nomad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from fakes.nomad import FakeAgent, NodeSpec
from fakes.nomad_calls import Calls, Listener, event_of, types_of, within
from fakes.nomad_jobs import job


@asynccontextmanager
async def asking(agent: FakeAgent) -> AsyncGenerator[Calls]:
    async with aiohttp.ClientSession(agent.address) as session:
        yield Calls(session)


async def test_a_played_task_runs_until_the_test_ends_it() -> None:
    """No process; exit codes, signals and memory deaths are told as docker's are."""
    async with FakeAgent(simulated=True) as agent, asking(agent) as calls:
        await calls.started(job("played", ranks=3, driver="docker"))
        first, second, third = await calls.running("played", 3)
        agent.finish(str(first["ID"]), exit_code=4)
        agent.finish(str(second["ID"]), signal=9)
        agent.finish(str(third["ID"]), oom=True)
        ended = await calls.ended("played", 3)
    facts = [event_of(a, "Terminated") for a in ended]
    assert [(f["ExitCode"], f["Signal"], within(f, "Details")["oom_killed"]) for f in facts] == [
        (4, 0, "false"),
        (137, 0, "false"),
        (137, 0, "true"),
    ]


async def test_a_full_cluster_blocks_and_goes_on_when_there_is_room() -> None:
    """Two of three ranks find room; the third one comes when one of them is gone."""
    async with FakeAgent([NodeSpec(cpu_mhz=100, drivers=("docker",))], simulated=True) as agent, asking(agent) as calls:
        await calls.started(job("crowd", ranks=3, driver="docker", cpu=50))
        rows = await calls.running("crowd", 2)
        newest = (await calls.evals("crowd"))[0]
        assert (newest["Status"], within(newest, "FailedTGAllocs", "rank-2")["DimensionExhausted"]) == ("blocked", {"cpu": 1})
        agent.finish(str(rows[0]["ID"]))
        assert len(await calls.running("crowd", 3)) == 3


async def test_lost_events_are_never_told_and_nothing_marks_the_gap() -> None:
    """Neither the open stream nor a later one from before the gap has them."""
    async with FakeAgent(simulated=True) as agent, asking(agent) as calls:
        listener = await Listener.open(calls)
        await listener.until(lambda: bool(listener.lines))
        agent.lose_events(1_000)
        await calls.started(job("gap", driver="docker"))
        await calls.running("gap")
        agent.lose_events(0)
        await calls.started(job("after", driver="docker"))
        await listener.until(lambda: "running" in listener.statuses("after"))
        late = await Listener.open(calls, "?index=1")
        await late.until(lambda: "running" in late.statuses("after"))
        assert listener.statuses("gap") == late.statuses("gap") == []
        await listener.close()
        await late.close()


async def test_split_lines_have_the_same_index() -> None:
    """One change as several lines: what a resume with `last + 1` would lose."""
    async with FakeAgent(simulated=True) as agent, asking(agent) as calls:
        agent.split_lines(100)
        listener = await Listener.open(calls, "?topic=Allocation")
        await calls.started(job("split", ranks=3, driver="docker"))
        await listener.until(lambda: listener.statuses("split").count("running") == 3)
        assert len(listener.indexes) > len(set(listener.indexes))
        await listener.close()


async def test_cut_streams_end_without_a_word() -> None:
    """The reader sees the end of the connection."""
    async with FakeAgent(simulated=True) as agent, asking(agent) as calls:
        listener = await Listener.open(calls)
        await listener.until(lambda: bool(listener.lines))
        assert agent.cut_streams() == 1
        await listener.until(lambda: listener.ended)
        await listener.close()


async def test_tasks_outlive_the_agent_and_old_lines_are_told_again(tmp_path: Path) -> None:
    """While the agent is away a task ends; it is told after the start, with its code. The buffer begins with lines of before."""
    flag = tmp_path / "go"
    async with FakeAgent() as agent, asking(agent) as calls:
        await calls.started(job("survivor", f"while [ ! -e {flag} ]; do sleep 0.02; done; exit 7"))
        await calls.running("survivor")
        before = agent.cluster.index
        await agent.go_down()
        with pytest.raises(aiohttp.ClientError):
            await calls.get("/v1/jobs")
        flag.touch()
        await agent.come_back()
        (ended,) = await calls.ended("survivor")
        listener = await Listener.open(calls)
        await listener.until(lambda: "failed" in listener.statuses("survivor"))
        assert event_of(ended, "Terminated")["ExitCode"] == 7
        assert listener.indexes[0] <= before
        await listener.close()


async def test_drain_preemption_and_stop_are_told_apart() -> None:
    """Each by the fields that the real one sets. Only the preempted one comes again, and only when there is room."""
    nodes = [NodeSpec(name=f"node-{i}", cpu_mhz=100, drivers=("docker",)) for i in range(3)]
    async with FakeAgent(nodes, simulated=True) as agent, asking(agent) as calls:
        await calls.started(job("fates", ranks=3, driver="docker", cpu=100))
        rows = await calls.running("fates", 3)
        agent.drain(str(rows[0]["NodeName"]))
        agent.preempt(str(rows[1]["ID"]))
        assert (await calls.evals("fates"))[0]["Status"] == "blocked"
        await calls.until("fates", lambda found: [a["ClientStatus"] for a in found] == ["complete", "complete", "running"])
        agent.operator_stop(str(rows[2]["ID"]))
        found = await calls.until("fates", lambda found: found[-1]["ClientStatus"] == "complete")
    ended = [a for a in found if a["ID"] in {r["ID"] for r in rows}]
    assert [a["TaskGroup"] for a in found if a not in ended] == ["rank-1"]
    told = [(a["DesiredStatus"], str(a["DesiredDescription"]).split(" ")[0]) for a in ended]
    assert told == [("stop", "alloc"), ("evict", "Preempted"), ("stop", "alloc")]
    assert within(ended[0], "DesiredTransition")["MigrateDisablePlacement"] is True
    assert within(ended[2], "DesiredTransition")["Reschedule"] is True
    assert ended[1]["PreemptedByAllocation"]


async def _on_a_lost_node(lost_after: int | None, then: str) -> list[list[list[object]]]:
    """Statuses of the one rank's allocations with its node away, and with its node back as soon as the first one is as in `then`."""
    nodes = [NodeSpec(name=f"node-{i}", drivers=("docker",)) for i in range(2)]
    wanted = job("lost", driver="docker")
    groups = wanted["TaskGroups"]
    assert isinstance(groups, list)
    groups[0]["Disconnect"] = {"Replace": False, "LostAfter": lost_after}
    async with FakeAgent(nodes, simulated=True) as agent, asking(agent) as calls:
        await calls.started(wanted)
        (row,) = await calls.until("lost", lambda rows: bool(rows) and rows[0]["ClientStatus"] == "running")
        agent.lose(str(row["NodeName"]))
        away = await calls.allocs("lost")
        agent.find(str(row["NodeName"]))
        back = await calls.until("lost", lambda rows: rows[0]["ClientStatus"] == then)
        return [[[a["ClientStatus"], a["DesiredStatus"]] for a in found] for found in (away, back)]


async def test_a_lost_node_without_lost_after() -> None:
    """`replace = false` alone does not help: the rank is lost and runs a second time elsewhere. Its node back, it is told as complete."""
    away, back = await _on_a_lost_node(None, "complete")
    assert away == [["lost", "stop"], ["pending", "run"]]
    assert [a[0] for a in back] == ["complete", "running"]


async def test_a_lost_node_with_lost_after() -> None:
    """What ran is unknown until its node is back, then runs on; nothing comes in its place."""
    away, back = await _on_a_lost_node(86_400_000_000_000, "running")
    assert away == [["unknown", "run"]]
    assert back == [["running", "run"]]


async def test_ordered_faults_come_once_before_or_after_the_call() -> None:
    """`after`: the call was carried out although its answer is an error."""
    async with FakeAgent(simulated=True) as agent, asking(agent) as calls:
        agent.fail_next("PUT", "/v1/jobs", 500, "rpc error: No cluster leader")
        assert (await calls.create(job("x", driver="docker"))).text == "rpc error: No cluster leader"
        assert (await calls.get("/v1/job/x")).status == 404
        agent.fail_next("PUT", "/v1/jobs", 504, "", after=True)
        assert (await calls.create(job("x", driver="docker"))).status == 504
        assert (await calls.get("/v1/job/x")).status == 200


async def test_a_token_is_asked_for_when_there_is_one() -> None:
    """403 with Nomad's text; the event stream answers 200 all the same and tells nothing."""
    async with FakeAgent(simulated=True, token="secret", heartbeat_s=0.05) as agent, asking(agent) as calls:
        assert (await calls.get("/v1/jobs")).status == 403
        assert (await calls.call("GET", "/v1/jobs", token="secret")).status == 200
        listener = await Listener.open(calls)
        await listener.until(lambda: len(listener.lines) >= 3)
        assert listener.events == []
        await listener.close()


async def test_the_node_collects_what_ended_above_its_limit() -> None:
    """The servers still know the allocation; its log is gone."""
    node = NodeSpec(max_allocs=1)
    async with FakeAgent([node]) as agent, asking(agent) as calls:
        await calls.started(job("first", "echo first"))
        (first,) = await calls.ended("first")
        assert (await calls.log(first)).text == "first\n"
        await calls.started(job("second"))
        await calls.ended("second")
        gone = await calls.log(first)
        assert (gone.status, gone.text) == (404, f"state for allocation {first['ID']} not found on client")


async def test_each_rank_in_bridge_mode_has_an_address_it_can_bind() -> None:
    """Two ranks, the same port, each on its own address of the loopback net."""
    script = (
        "python3 - <<'P'\nimport os,socket\ns=socket.create_server((os.environ['NOMAD_ALLOC_IP_eth0'],18080))\n"
        "print('up',flush=True)\nimport time\ntime.sleep(30)\nP"
    )
    async with FakeAgent() as agent, asking(agent) as calls:
        await calls.started(job("net", script, ranks=2, network="bridge"))
        rows = await calls.running("net", 2)
        whole = [(await calls.get(f"/v1/allocation/{a['ID']}")).json for a in rows]
        addresses = [str(within(a, "NetworkStatus")["Address"]) for a in whole]
        async with asyncio.timeout(10):
            for row in rows:
                while "up" not in (await calls.log(row)).text:
                    await asyncio.sleep(0.02)
        for address in addresses:
            _, writer = await asyncio.open_connection(address, 18080)
            writer.close()
            await writer.wait_closed()
        assert len(set(addresses)) == 2


async def test_a_sidecars_template_follows_its_variable() -> None:
    """The running sidecar gets its signal after the file is new; the main task with `noop` is left alone."""
    wanted = job("follow", "sleep 30", gated=True, sidecar="trap 'cat local/peers' HUP; while :; do sleep 0.05; done")
    groups = wanted["TaskGroups"]
    assert isinstance(groups, list)
    text = '{{ with nomadVar "nomad/jobs/follow" }}[{{ .peers }}]{{ end }}'
    groups[0]["Tasks"][1]["Templates"] = [
        {"EmbeddedTmpl": text, "DestPath": "local/peers", "ChangeMode": "signal", "ChangeSignal": "SIGHUP"}
    ]
    async with FakeAgent() as agent, asking(agent) as calls:
        await calls.call("PUT", "/v1/var/nomad/jobs/follow", {"Items": {"nodes": "self", "peers": ""}})
        await calls.started(wanted)
        (row,) = await calls.running("follow")
        await calls.call("PUT", "/v1/var/nomad/jobs/follow", {"Items": {"nodes": "self", "peers": "10.0.0.9"}})
        (row,) = await calls.until("follow", lambda rows: "Signaling" in types_of(rows[0], "firewall"))
        async with asyncio.timeout(10):
            while "[10.0.0.9]" not in (await calls.log(row, task="firewall")).text:
                await asyncio.sleep(0.02)
        assert "Signaling" not in types_of(row)


async def test_a_variable_that_is_not_the_jobs_own_opens_nothing() -> None:
    """As with ACL on: workload identity reads the job's own paths only, and the task waits for ever."""
    wanted = job("thief", gated=True)
    groups = wanted["TaskGroups"]
    assert isinstance(groups, list)
    text = '{{ with nomadVar "nomad/jobs/other" }}{{ .nodes }}{{ end }}'
    groups[0]["Tasks"][0]["Templates"] = [{"EmbeddedTmpl": text, "DestPath": "local/nodes", "ChangeMode": "noop"}]
    async with FakeAgent(template_event_s=0.05) as agent, asking(agent) as calls:
        await calls.call("PUT", "/v1/var/nomad/jobs/other", {"Items": {"nodes": "self"}})
        await calls.started(wanted)
        (row,) = await calls.until("thief", lambda rows: bool(rows) and "Template" in types_of(rows[0]))
        assert event_of(row, "Template")["DisplayMessage"] == "Missing: nomad.var.block(nomad/jobs/other@default.global)"
        assert row["ClientStatus"] == "pending"


async def test_ten_thousand_allocations() -> None:
    """All placed, told and ended by one stream that loses nothing."""
    nodes = [NodeSpec(name=f"n{i}", cpu_mhz=1_000_000, memory_mb=1_000_000, disk_mb=10_000_000, drivers=("docker",)) for i in range(20)]
    async with FakeAgent(nodes, simulated=True, event_buffer_size=10_000) as agent, asking(agent) as calls:
        listener = await Listener.open(calls, "?topic=Allocation")
        for i in range(10):
            await calls.started(job(f"wide-{i}", ranks=1_000, driver="docker", cpu=10, memory_mb=16))
        await listener.until(lambda: listener.told["running"] >= 10_000, 60)
        listed, token = 0, ""
        while True:
            page = await calls.get(f"/v1/allocations?task_states=true&per_page=500&next_token={token}")
            listed += len(page.rows)
            token = page.headers.get("X-Nomad-Nexttoken", "")
            if not token:
                break
        assert listed == 10_000
        for alloc in list(agent.cluster.allocs):
            agent.finish(alloc)
        await listener.until(lambda: listener.told["complete"] >= 10_000, 60)
        assert listener.longest > 512 * 1024
        await listener.close()
