"""What Nomad and its API hold and show of jobs' secrets, on the fake agent and a real one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest
from fakes.nomad_agents import AGENTS, Agent, FakeSite
from fakes.nomad_node import let_pass
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import End, JobObservation, Phase, ReplicaSpec, Resources, Secret
from serai_backends.nomad import jobfile, names
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.records import read_record
from serai_backends.nomad.settings import NomadSettings, Placement

CANARY = "canary-90d1e4"
ENCODED = base64.b64encode(CANARY.encode()).decode()
NOMAD_ID = names.nomad_id("job", 1)
PATHS = [names.secrets_variable(NOMAD_ID, rank) for rank in range(2)]
WAITS = "wc -c < /etc/ucloud/secrets/key; until [ -e go ]; do sleep 0.05; done"
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="raw_exec tasks make a mount namespace of their own: needs root"),
]


class Cluster:
    def __init__(self, agent: Agent, folder: Path) -> None:
        self.agent, self.folder = agent, folder
        let_pass(folder)
        (folder / "drives").mkdir()
        self.settings = NomadSettings(
            state_dir=str(folder / "state"),
            provider="ours",
            address=agent.address,
            drives_dir=str(folder / "drives"),
            raw_exec=True,
            placements=(Placement(driver="raw_exec"),),
            releases=2,
        )

    def spec(self, line: str = WAITS, job_id: str = "job", replicas: int = 2) -> ReplicaSpec:
        folder = f"drive/Jobs/secrets/{job_id}"
        keys = ("key",) if replicas == 2 else ()
        return ReplicaSpec(job_id, replicas, ("sh", "-c", line), (), Resources(1, 64 << 20), folder, secrets=keys)

    def go(self) -> None:
        (self.folder / "drives/drive/Jobs/secrets/job/go").touch()

    async def variable(self, path: str) -> dict[str, object] | None:
        async with aiohttp.ClientSession(self.agent.address) as session, session.get(f"/v1/var/{path}") as answer:
            return None if answer.status == 404 else await answer.json()

    async def text(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession(self.agent.address) as session, session.get(path) as answer:
            return answer.status, await answer.text()


@pytest.fixture(params=AGENTS)
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with AGENTS[str(request.param)](tmp_path / "agent") as agent:
        yield Cluster(agent, tmp_path)


@pytest.fixture
async def backend(cluster: Cluster) -> AsyncGenerator[NomadBackend]:
    async with await open_nomad(cluster.settings) as made:
        yield made
        for found in await made.list():
            await made.cancel(found.job_id)
            await told(made, found.job_id, Phase.ENDED)
            await made.forget(found.job_id)


async def source(_job_id: str) -> tuple[Secret, ...]:
    return (Secret("key", CANARY.encode()),)


async def told(backend: NomadBackend, job_id: str, phase: Phase) -> JobObservation:
    async with asyncio.timeout(60):
        while (found := await backend.inspect(job_id)) is None or found.phase is not phase:
            await asyncio.sleep(0.02)
    return found


async def said(cluster: Cluster) -> dict[str, str]:
    """What the API says of everything, by path."""
    found: dict[str, str] = {}
    lists = ["jobs?meta=true", "allocations?resources=true&task_states=true", "evaluations", "vars", f"job/{NOMAD_ID}", "nodes"]
    for row in await cluster.agent.rows("/v1/allocations"):
        alloc = str(row["ID"])
        files = (
            f"client/fs/ls/{alloc}?path=main",
            f"client/fs/ls/{alloc}?path=main/secrets",
            f"client/fs/ls/{alloc}?path=main/local/serai",
        )
        lists += [f"allocation/{alloc}", *files]
        lists += [f"client/fs/cat/{alloc}?path=main/secrets/serai.key", f"client/fs/cat/{alloc}?path=main/local/serai/start.sh"]
    for path in lists:
        _, found[path] = await cluster.text(f"/v1/{path}")
    return found | {"event/stream": await events(cluster)}


async def events(cluster: Cluster) -> str:
    """All of the buffer."""
    said = b""
    async with aiohttp.ClientSession(cluster.agent.address) as session, session.get("/v1/event/stream?index=1&topic=*") as answer:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                async for part in answer.content.iter_any():
                    said += part
    return said.decode()


def leaks(folder: Path) -> list[str]:
    found: list[str] = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [str(path)] if CANARY.encode() in data or ENCODED.encode() in data else []
    return found


async def test_nothing_but_the_variable_shows_it(cluster: Cluster, backend: NomadBackend) -> None:
    """No answer of the API, no event, no file of the node or the server, while the job runs and when it has ended; then the variable goes,
    and Nomad's copy for the task was gone before the program began."""
    backend.take_secrets_from(source)
    await backend.submit(cluster.spec())
    await told(backend, "job", Phase.RUNNING)
    for path in PATHS:
        stored = await cluster.variable(path)
        assert stored is not None and stored["Items"] == {"secret0": ENCODED}
    for ends in (False, True):
        if ends:
            cluster.go()
            found = await told(backend, "job", Phase.ENDED)
            assert [replica.exit_code for replica in found.replicas] == [0, 0]
        texts = await said(cluster)
        assert [path for path, text in texts.items() if CANARY in text or ENCODED in text] == []
        assert NOMAD_ID in texts["event/stream"] and "serai.key" in texts[f"job/{NOMAD_ID}"]
        assert [path for folder in (cluster.folder, cluster.agent.folder) for path in leaks(folder)] == []
    assert [await cluster.variable(path) for path in PATHS] == [None, None]
    await backend.forget("job")
    await cluster.agent.until_empty()


async def test_nomad_shows_no_file_of_the_secrets_folder(cluster: Cluster, backend: NomadBackend) -> None:
    """Not even to one who may read the files of all allocations."""
    if isinstance(cluster.agent, FakeSite):
        pytest.skip("a rule of the real agent")
    backend.take_secrets_from(source)
    await backend.submit(cluster.spec())
    await told(backend, "job", Phase.RUNNING)
    alloc = str((await cluster.agent.rows("/v1/allocations"))[0]["ID"])
    again = cluster.agent.folder / "data" / "alloc" / alloc / "main" / "secrets" / "serai.key"
    again.write_text(CANARY)  # as Nomad may do it when its agent is started anew
    status, text = await cluster.text(f"/v1/client/fs/cat/{alloc}?path=main/secrets/serai.key")
    assert "Reading secret file prohibited" in text and CANARY not in text, (status, text)
    again.unlink()


async def test_what_an_earlier_start_wrote_is_compared(cluster: Cluster, backend: NomadBackend) -> None:
    """The server was killed after it had written, before it noted that: the same is left alone, what has changed is replaced."""
    async with aiohttp.ClientSession(cluster.agent.address) as session:
        for path, item in zip(PATHS, (ENCODED, "b2xk"), strict=True):
            async with session.put(f"/v1/var/{path}", json={"Items": {"secret0": item}}) as answer:
                assert answer.status == 200
    before = [await cluster.variable(path) for path in PATHS]
    backend.take_secrets_from(source)
    await backend.submit(cluster.spec())
    await told(backend, "job", Phase.RUNNING)
    after = [await cluster.variable(path) for path in PATHS]
    assert after[0] == before[0]
    assert after[1] is not None and after[1]["Items"] == {"secret0": ENCODED}
    cluster.go()
    await told(backend, "job", Phase.ENDED)


async def test_jobs_whose_secrets_cannot_be_had_hold_up_nobody(cluster: Cluster, backend: NomadBackend) -> None:
    """More of them than may be on their way at the same time; nothing of them is at Nomad, and a job behind them runs."""

    async def shut(_job_id: str) -> tuple[Secret, ...]:
        raise BackendUnavailable("the vault is shut")

    backend.take_secrets_from(shut)
    for number in range(4):
        await backend.submit(cluster.spec(job_id=f"held-{number}"))
    await backend.submit(cluster.spec("exit 3", job_id="other", replicas=1))
    assert (await told(backend, "other", Phase.ENDED)).replicas[0].exit_code == 3
    found = await backend.inspect("held-0")
    assert found is not None and (found.phase, found.reason) == (Phase.WAITING, "the vault is shut")
    assert [row["ID"] for row in await cluster.agent.rows("/v1/jobs")] == [names.nomad_id("other", 1)]


async def test_a_job_that_is_somebody_elses_gets_none(cluster: Cluster, backend: NomadBackend) -> None:
    """Who has registered a job of that name before us could read its variable: nothing is written, and the job ends."""
    job = jobfile.build(cluster.spec(), 1, jobfile.Prepared(12_345, 12_345), msgspec.structs.replace(cluster.settings, provider="theirs"))
    async with aiohttp.ClientSession(cluster.agent.address) as session, session.put("/v1/jobs", json={"Job": job}) as answer:
        assert answer.status == 200
    backend.take_secrets_from(source)
    await backend.submit(cluster.spec())
    found = await told(backend, "job", Phase.ENDED)
    assert {replica.end for replica in found.replicas} == {End.START_FAILED}
    assert "another job" in found.reason
    assert await cluster.variable(PATHS[0]) is None
    await cluster.agent.purge(NOMAD_ID)


async def test_too_much_for_a_variable_is_said(cluster: Cluster, backend: NomadBackend) -> None:
    """Nomad takes 64 KiB: two of the largest secrets have no room. The job ends with these words and leaves nothing."""

    async def large(_job_id: str) -> tuple[Secret, ...]:
        return (Secret("key", os.urandom(30_000)), Secret("more", os.urandom(30_000)))

    backend.take_secrets_from(large)
    await backend.submit(replace(cluster.spec(), secrets=("key", "more")))
    found = await told(backend, "job", Phase.ENDED)
    assert "48,000 bytes" in found.reason
    assert await cluster.agent.rows("/v1/vars") == []


async def test_what_serai_keeps_and_shows_has_the_names_only(cluster: Cluster, backend: NomadBackend) -> None:
    """The row of the job and the job file that `serai nomad render` makes of it."""
    backend.take_secrets_from(source)
    await backend.submit(cluster.spec())
    await told(backend, "job", Phase.RUNNING)
    record = read_record(Path(cluster.settings.state_dir), "job")
    assert record is not None and record.spec.secrets == ("key",)
    job = jobfile.build(record.spec, 1, jobfile.Prepared(record.uid, record.gid), cluster.settings)
    text = jobfile.hcl(job)
    assert "secrets/serai.key" in text and PATHS[1] in text and CANARY not in text and ENCODED not in text


def test_placements_that_cannot_keep_secrets_refuse_them(tmp_path: Path) -> None:
    """The driver exec, and root in a container."""
    plain = ReplicaSpec("job", 1, ("sh",), (), Resources(1, 1 << 20), "d/Jobs/x", image="acme/batch:1.0.0", secrets=("key",))
    for driver, work, asked in (("exec", "volume", plain), ("docker", "path", replace(plain, run_as_root=True))):
        settings = NomadSettings(state_dir=str(tmp_path), provider="p", drives_dir="/drives", root_in_containers=True)
        settings = msgspec.convert(msgspec.to_builtins(settings) | {"work": work, "placements": [{"driver": driver}]}, NomadSettings)
        with pytest.raises(SubmissionRefused, match="secrets"):
            jobfile.build(asked, 1, jobfile.Prepared(None, None), settings)
