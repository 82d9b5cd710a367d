"""The whole backend on a cluster whose tasks are told when to end: what only shows with many jobs, or with others in the namespace."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest
from fakes.nomad import FakeAgent, NodeSpec, variables
from fakes.nomad_calls import Calls
from fakes.nomad_words import spec_of
from serai_backends.errors import BackendUnavailable
from serai_backends.model import End, JobObservation, LogChunk, Phase, ReplicaSpec, Stream, Why
from serai_backends.nomad import doors
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.client import NomadClient
from serai_backends.nomad.jobfile import JobFolders, Prepared, build, codes
from serai_backends.nomad.settings import NomadSettings, Placement
from serai_backends.nomad.wire import Evaluation

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
        timeout_ms=2_000,
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


async def test_a_job_of_another_provider_is_left_alone(agent: FakeAgent, settings: NomadSettings, tmp_path: Path) -> None:
    """Whose name ours would have: it is neither stopped nor purged by what becomes of ours, nor are its ranks told others' addresses."""
    theirs = msgspec.structs.replace(settings, state_dir=str(tmp_path / "theirs"), provider="theirs")
    async with await open_nomad(theirs) as other, await open_nomad(settings) as backend:
        for job_id, replicas in (("same", 2), ("stopped", 2)):
            await other.submit(spec_of(job_id, replicas=replicas))
            await told(other, job_id, runs)
        stored = {path: variable.items for path, variable in agent.cluster.variables.items()}
        await backend.submit(spec_of("same"))
        assert "a namespace of its own" in (await told(backend, "same", ended)).replicas[0].cause
        agent.fail_next("PUT", "/v1/jobs", 500, "No cluster leader", times=1_000)
        await backend.submit(spec_of("stopped", replicas=2))
        async with asyncio.timeout(15):
            while agent.faults.failures[0].left == 1_000:
                await asyncio.sleep(0.02)
        await backend.cancel("stopped")
        await told(backend, "stopped", ended)
        for job_id in ("same", "stopped"):
            await backend.forget(job_id)
        assert {path: variable.items for path, variable in agent.cluster.variables.items()} == stored
        for job_id in ("same", "stopped"):
            assert not agent.cluster.jobs["default", f"ucloud-{job_id}"].stop


async def test_a_word_that_comes_while_the_folder_is_looked_at(
    agent: FakeAgent, settings: NomadSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not lost: a program that fails at once is told as ended then, not at the next sweep."""
    (tmp_path / "drives/drive").mkdir(parents=True)
    looked_at, go_on = threading.Event(), threading.Event()

    def marks(_: JobFolders, spec: ReplicaSpec, rank: int) -> frozenset[int]:
        del spec, rank
        looked_at.set()
        go_on.wait(15)
        return frozenset({codes.BEGUN})

    monkeypatch.setattr(JobFolders, "marks", marks)
    async with await open_nomad(msgspec.structs.replace(settings, work="path", sweep_ms=600_000)) as backend:
        agent.delay("/v1/allocations", 60)
        await backend.submit(spec_of("job"))
        await asyncio.to_thread(looked_at.wait, 15)
        (alloc,) = agent.allocs_of("ucloud-job")
        agent.finish(alloc.id, exit_code=3)
        view = next(iter(backend._views))
        async with asyncio.timeout(15):
            while view.unsure[0][0].client_status != "failed":
                await asyncio.sleep(0.02)
        go_on.set()
        found = await told(backend, "job", ended)
    assert (found.replicas[0].end, found.replicas[0].exit_code) == (End.EXITED, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="programs of the node get a mount namespace of their own: needs root")
async def test_an_end_survives_a_crash_after_the_marks_went(
    settings: NomadSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that failed at once is not taken for a start that failed, which nobody would pay for."""
    for part in (tmp_path, *tmp_path.parents):
        if part != Path("/tmp") and part != Path("/"):
            part.chmod(0o755)  # a job's own user must reach its drive
    (tmp_path / "drives/drive").mkdir(parents=True)
    crashed = asyncio.Event()
    loop, tidy = asyncio.get_running_loop(), JobFolders.tidy

    def crash(folders: JobFolders, spec: ReplicaSpec) -> None:
        tidy(folders, spec)
        loop.call_soon_threadsafe(crashed.set)
        raise BackendUnavailable("the server was killed here")

    async with FakeAgent([NodeSpec()]) as real:
        settings = msgspec.structs.replace(settings, work="path", address=real.address)
        with monkeypatch.context() as patched:
            patched.setattr(JobFolders, "tidy", crash)
            async with await open_nomad(settings) as backend:
                await backend.submit(replace(spec_of("job"), argv=("sh", "-c", "exit 3")))
                await asyncio.wait_for(crashed.wait(), 15)
        async with await open_nomad(settings) as backend:
            found = await told(backend, "job", ended)
    assert (found.replicas[0].end, found.replicas[0].exit_code) == (End.EXITED, 3)
    assert found.running_since_ms is not None


async def test_a_registration_that_comes_late_is_ended(agent: FakeAgent, settings: NomadSettings) -> None:
    """Nobody waits for its answer any more: the job was cancelled meanwhile, and has ended."""
    agent.fail_next("PUT", "/v1/jobs", 500, "No cluster leader", times=1_000)
    spec = spec_of("job")
    late: dict[str, object] = {**build(spec, 1, Prepared(None, None), settings)}
    async with await open_nomad(settings) as backend, aiohttp.ClientSession(agent.address) as session:
        await backend.submit(spec)
        async with asyncio.timeout(15):
            while agent.faults.failures[0].left == 1_000:
                await asyncio.sleep(0.02)
        await backend.cancel("job")
        await told(backend, "job", ended)
        agent.faults.failures.clear()
        assert (await Calls(session).create(late)).status == 200
        async with asyncio.timeout(15):
            while not agent.cluster.jobs["default", "ucloud-job"].stop:
                await asyncio.sleep(0.02)


async def test_a_job_whose_places_are_still_to_come_is_not_passed(settings: NomadSettings) -> None:
    """A smaller one would fit beside the half that is placed; it waits until the first is placed, or taken back."""
    nodes = [NodeSpec(name="suits", cpu_mhz=2_000, attributes=(("kind", "good"),)), NodeSpec(name="other", cpu_mhz=2_000)]
    async with FakeAgent(nodes, simulated=True) as agent:
        placement = Placement(driver="raw_exec", constraints=(("${attr.kind}", "=", "good"),))
        settings = msgspec.structs.replace(settings, address=agent.address, placements=(placement,), sweep_ms=500)
        async with await open_nomad(settings) as backend:
            agent.delay("/v1/jobs", 0.5)
            await backend.submit(spec_of("large", replicas=2, cpu=2))
            await backend.submit(spec_of("small"))
            for _ in range(3):  # looks at the cluster
                before = backend._engine.room.nodes
                async with asyncio.timeout(15):
                    while backend._engine.room.nodes is before:
                        await asyncio.sleep(0.02)
            found = await told(backend, "small", lambda found: found.waiting is not None)
            assert found.waiting is not None and found.waiting.ahead == 1


async def test_addresses_that_nomad_does_not_take(agent: FakeAgent, settings: NomadSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose ranks' addresses have no room in one variable ends and says so, instead of holding its places for ever."""
    assert variables._LIMIT == doors.MOST_BYTES
    for module, name in ((variables, "_LIMIT"), (doors, "MOST_BYTES")):
        monkeypatch.setattr(module, name, 60)
    async with await open_nomad(settings) as backend:
        await backend.submit(spec_of("small", replicas=2))
        await told(backend, "small", runs)
        await backend.submit(spec_of("large", replicas=6))
        found = await told(backend, "large", ended)
    assert {(rank.end, rank.why) for rank in found.replicas} == {(End.START_FAILED, Why.TOO_LARGE)}
    assert agent.cluster.jobs["default", "ucloud-large"].stop


async def test_another_namespace_is_refused_while_jobs_live_in_the_old_one(agent: FakeAgent, settings: NomadSettings) -> None:
    """They would look as if Nomad had forgotten them, and run on where nobody stops them."""
    agent.cluster.namespaces["new"] = ""
    new = msgspec.structs.replace(settings, namespace="new")
    async with await open_nomad(settings) as backend:
        await backend.submit(spec_of("job"))
        await told(backend, "job", runs)
    with pytest.raises(BackendUnavailable, match="namespace default, and the settings say new"):
        await open_nomad(new)
    async with await open_nomad(settings) as backend:
        assert runs(await told(backend, "job", lambda _: True))
        await backend.cancel("job")
        await told(backend, "job", ended)
    async with await open_nomad(new) as backend:
        await backend.submit(spec_of("next"))
        await told(backend, "next", runs)


async def test_a_doubt_that_comes_while_another_is_looked_into(
    agent: FakeAgent, settings: NomadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Has its own turn: a job that is purged just then is told as lost at once, not at the next sweep."""
    look, purged = NomadClient.evaluations_of, False
    async with (
        await open_nomad(msgspec.structs.replace(settings, sweep_ms=600_000)) as backend,
        aiohttp.ClientSession(agent.address) as session,
    ):

        async def purged_meanwhile(client: NomadClient, nomad_id: str) -> list[Evaluation]:
            nonlocal purged
            found = await look(client, nomad_id)
            if not purged:
                purged = True
                await Calls(session).call("DELETE", f"/v1/job/{nomad_id}?purge=true")
                async with asyncio.timeout(15):
                    while nomad_id not in backend._engine._how:
                        await asyncio.sleep(0.02)
            return found

        await backend.submit(spec_of("job"))
        await told(backend, "job", runs)
        agent.delay("/v1/allocations", 60)
        monkeypatch.setattr(NomadClient, "evaluations_of", purged_meanwhile)
        backend._engine._doubt(next(iter(backend._views)))
        assert (await told(backend, "job", ended)).replicas[0].why is Why.FORGOTTEN_BY_CLUSTER


async def test_the_end_of_what_nomad_has_of_the_output(agent: FakeAgent, settings: NomadSettings) -> None:
    """Where folders are not shared: at its offsets in the whole, and then what comes after."""
    async with await open_nomad(settings) as backend:
        await backend.submit(spec_of("job"))
        await told(backend, "job", runs)
        (alloc,) = agent.allocs_of("ucloud-job")
        agent.files.played[alloc.id, "main", "stdout"] = b"0123456789"
        assert [chunk async for chunk in backend.logs("job", 0, Stream.STDOUT, tail=3)] == [LogChunk(7, b"789")]
        assert [chunk async for chunk in backend.logs("job", 0, Stream.STDOUT, 8, tail=3)] == [LogChunk(8, b"89")]
        assert [chunk async for chunk in backend.logs("job", 0, Stream.STDERR, tail=3)] == []
        async with asyncio.timeout(15):
            chunks = backend.logs("job", 0, Stream.STDOUT, tail=3, follow=True)
            assert await anext(chunks) == LogChunk(7, b"789")
            agent.files.played[alloc.id, "main", "stdout"] += b"more"
            assert await anext(chunks) == LogChunk(10, b"more")
