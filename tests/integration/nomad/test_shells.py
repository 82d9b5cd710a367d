"""Shells by Nomad's exec: what conformance does not look at, on the fake agent's containers and on a real agent's."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from fakes.nomad_agents import Agent, FakeSite, RealSite
from fakes.nomad_images import IMAGE, why_no_images
from fakes.nomad_node import let_pass
from fakes.screen import Screen
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Features, Phase, ReplicaSpec, Resources, TerminalSize
from serai_backends.nomad import shells
from serai_backends.nomad.backend import NomadBackend, open_nomad
from serai_backends.nomad.client import shells as client_shells
from serai_backends.nomad.settings import NomadSettings, Placement

SIZE = TerminalSize(columns=80, rows=24)
STATUS = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp):?' /proc/self/status; umask"
LIVING = "grep -l 5432[1] /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
"""A shell counts for two: its program, and what holds its terminal."""
pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")]


class Cluster:
    def __init__(self, agent: Agent, folder: Path, driver: str) -> None:
        self.agent, self.driver = agent, driver
        let_pass(folder)
        (folder / "drives").mkdir()
        self.settings = NomadSettings(
            state_dir=str(folder / "state"),
            provider="ours",
            address=agent.address,
            drives_dir=str(folder / "drives"),
            work="volume" if driver == "exec" else "path",
            placements=(Placement(driver="exec" if driver == "exec" else "docker"),),
            shells=4,
            timeout_ms=5_000,
        )
        self.backend: NomadBackend

    async def run(self, line: str = "exec sleep 600", job_id: str = "job") -> None:
        image = "" if self.driver == "exec" else IMAGE
        folder = f"drive/Jobs/shells/{job_id}"
        spec = ReplicaSpec(job_id, 1, ("sh", "-c", line), (("GREETING", "a b=c"),), Resources(1, 64 << 20), folder, image=image)
        await self.backend.submit(spec)
        async with asyncio.timeout(60):
            while (found := await self.backend.inspect(job_id)) is None or found.phase is not Phase.RUNNING:
                assert found is None or found.phase is not Phase.ENDED, found
                await asyncio.sleep(0.02)

    async def shell(self, *argv: str, job_id: str = "job") -> Screen:
        return Screen(await self.backend.open_shell(job_id, 0, argv, SIZE))

    async def line(self, text: str) -> str:
        async with await self.shell("sh", "-c", text) as screen:
            return (await screen.end())[1]

    async def until_alone(self) -> None:
        """Until nothing runs that a shell was asked for."""
        async with asyncio.timeout(30):
            while (await self.line(LIVING)).strip() != "0":
                await asyncio.sleep(0.1)

    @property
    def fake(self) -> FakeSite:
        assert isinstance(self.agent, FakeSite)
        return self.agent


async def cluster_on(kind: str, folder: Path) -> AsyncGenerator[Cluster]:
    where = folder / "cluster"
    where.mkdir()
    if kind == "fake":
        if shutil.which("bwrap") is None:
            pytest.skip("the containers of the fake agent need bubblewrap")
        site: Agent = FakeSite(where, drivers=("docker",))
    else:
        if kind == "docker" and (why := why_no_images()) is not None:
            pytest.skip(why)
        site = RealSite(folder / "agent")
    async with site as agent:
        cluster = Cluster(agent, where, kind)
        cluster.backend = await open_nomad(cluster.settings)
        yield cluster
        for job in await cluster.backend.list():
            await cluster.backend.cancel(job.job_id)
        async with asyncio.timeout(60):
            while any(job.phase is not Phase.ENDED for job in await cluster.backend.list()):
                await asyncio.sleep(0.05)
        await cluster.backend.close()


@pytest.fixture(params=["fake", "docker", "exec"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Cluster]:
    async for made in cluster_on(str(request.param), tmp_path):
        yield made


@pytest.fixture
async def on_fake(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async for made in cluster_on("fake", tmp_path):
        yield made


async def test_a_shell_is_no_more_than_the_program(cluster: Cluster) -> None:
    """The same user, groups, capabilities, filters of system calls and umask; the same environment but for what makes it a terminal."""
    await cluster.run(f"{{ {STATUS}; }} >/tmp/status; env | sort >/tmp/env; exec sleep 600")
    async with await cluster.shell("sh", "-c", f"{{ {STATUS}; }} | cmp - /tmp/status && echo the same") as screen:
        assert await screen.end() == (0, "the same\r\n")
    own = "^(TERM|SHELL|OLDPWD|PWD|SHLVL|_)="
    text = f"grep -vE '{own}' /tmp/env >/tmp/one; env | sort | grep -vE '{own}' >/tmp/two; diff /tmp/one /tmp/two && echo the same"
    assert await cluster.line(text) == "the same\r\n"


async def test_a_shell_that_is_no_longer_wanted_while_it_is_opened_leaves_nothing(cluster: Cluster) -> None:
    """Whenever that is: Nomad itself would let it run."""
    await cluster.run()
    for pause_ms in (0, 1, 3, 10, 30, 100):
        opening = asyncio.create_task(cluster.shell("sleep", "54321"))
        await asyncio.sleep(pause_ms / 1000)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            await (await opening).__aexit__()
        await cluster.until_alone()


async def test_shells_of_a_server_that_was_killed_end_when_the_next_one_is_opened(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else knows of them."""
    await cluster.run()
    monkeypatch.setattr(client_shells, "_SERVER", "0123456789abcdef")
    lost = await cluster.shell("sh", "-c", "echo up; exec sleep 54321")
    await lost.until("up\r\n")
    monkeypatch.undo()
    await cluster.until_alone()
    await lost.__aexit__()


async def test_who_does_not_read_keeps_the_program_waiting(cluster: Cluster) -> None:
    """Not the server's memory: a program that writes without end stands still after a few MiB, and goes on when somebody reads."""
    await cluster.run()
    text = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; head -c 65536 /dev/zero; done"
    opened = await cluster.backend.open_shell("job", 0, ("sh", "-c", text), SIZE)
    before, now = -1, 0
    async with asyncio.timeout(60):
        while before != now:
            await asyncio.sleep(1)
            before, now = now, int(await cluster.line("cat /tmp/count 2>/dev/null || echo 0"))
    assert now < 400
    output = opened.output()
    async with asyncio.timeout(60):
        while int(await cluster.line("cat /tmp/count")) < now + 32:
            for _ in range(200):
                await anext(output)
    await opened.close()


async def test_keys_that_leave_a_container_do_not_leave_it(cluster: Cluster) -> None:
    """Ctrl-P, Ctrl-Q: dockerd would take them for its own, and the shell would hang."""
    await cluster.run()
    async with await cluster.shell("sh", "-c", "stty raw -echo; echo up; dd bs=1 count=5 2>/dev/null | od -An -c") as screen:
        await screen.until("up")
        for keys in ("a\x10", "\x11\x11", "\x11b\x10\x11", "c", "d"):
            await screen.type(keys)
        code, said = await screen.end()
        assert (code, said.split()) == (0, ["a", "020", "b", "020", "c"])


async def test_more_shells_than_there_are_connections_for_are_refused_in_words(cluster: Cluster) -> None:
    """And one that is closed makes room."""
    await cluster.run()
    screens = [await cluster.shell("sleep", "600") for _ in range(4)]
    with pytest.raises(BackendUnavailable, match=r"4 shells are open.*backend\.nomad\.shells"):
        await cluster.shell()
    await screens.pop().__aexit__()
    assert await cluster.line("echo well") == "well\r\n"
    for screen in screens:
        await screen.__aexit__()


async def test_nomad_loses_a_shell_that_it_opens_and_another_comes_in_its_place(on_fake: Cluster) -> None:
    """docker is asked too early whether it has ended; what was lost runs all the same, and is ended."""
    await on_fake.run()
    on_fake.fake.agent.shells.lose_next = 1
    async with await on_fake.shell("sh", "-c", "echo up; exec sleep 54321") as screen:
        await screen.until("up\r\n")
        assert await on_fake.line(LIVING) == "2\r\n"
    on_fake.fake.agent.shells.lose_next = 6  # what ends a lost one can be lost as well, and does what it should
    with pytest.raises(BackendUnavailable, match="lost the shell"):
        await on_fake.shell("sleep", "54321")
    await on_fake.until_alone()


async def test_a_shell_whose_connection_breaks_while_it_is_opened_leaves_nothing(on_fake: Cluster) -> None:
    """It is refused in words, and what has started all the same is ended."""
    await on_fake.run()
    on_fake.fake.agent.shells.break_next = 1
    with pytest.raises(BackendUnavailable, match="broke"):
        await on_fake.shell("sleep", "54321")
    await on_fake.until_alone()


async def test_a_shell_ends_with_its_replica_also_when_nomad_says_nothing(on_fake: Cluster) -> None:
    """The driver exec does not."""
    await on_fake.run()
    on_fake.fake.agent.shells.silent_ends = True
    async with await on_fake.shell() as screen:
        await on_fake.backend.cancel("job")
        assert (await screen.end())[0] is None


async def test_a_broken_connection_is_no_end_of_the_replica(on_fake: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as what it is; what ran is ended when Nomad can be reached again."""
    monkeypatch.setattr(shells, "_NEWS_S", 0.3)
    monkeypatch.setattr(shells, "_AGAIN_S", 0.2)
    await on_fake.run()
    screen = await on_fake.shell("sh", "-c", "echo up; exec sleep 54321")
    await screen.until("up\r\n")
    await on_fake.fake.agent.go_down()
    with pytest.raises(BackendUnavailable, match="broke"):
        await screen.end()
    await screen.__aexit__()
    await on_fake.fake.agent.come_back()
    await on_fake.until_alone()


async def test_closing_the_backend_ends_its_shells_and_not_their_jobs(on_fake: Cluster) -> None:
    """A later instance finds nothing of them."""
    await on_fake.run()
    screen = await on_fake.shell("sh", "-c", "echo up; exec sleep 54321")
    await screen.until("up\r\n")
    opening = asyncio.create_task(on_fake.shell("sleep", "54321"))
    await asyncio.sleep(0)
    await on_fake.backend.close()
    with pytest.raises((BackendUnavailable, asyncio.CancelledError)):
        await (await opening).end()
        raise BackendUnavailable("ended")
    await screen.end()
    await screen.__aexit__()
    on_fake.backend = await open_nomad(on_fake.settings)
    await on_fake.until_alone()
    assert (found := await on_fake.backend.inspect("job")) is not None
    assert found.phase is Phase.RUNNING


async def test_a_shell_that_cannot_be_entered_is_refused_in_words(on_fake: Cluster) -> None:
    """A job that an older server started has no script for it."""
    await on_fake.run()
    async with aiohttp.ClientSession() as session, session.get(f"{on_fake.agent.address}/v1/allocations") as answer:
        alloc = (await answer.json())[0]["ID"]
    (on_fake.agent.folder / "alloc" / alloc / "main" / "local" / "serai" / "shell.sh").unlink()
    with pytest.raises(BackendUnavailable, match=r"no shell can be started in the replica: .*shell\.sh"):
        await on_fake.shell()


@pytest.mark.parametrize(("driver", "terminal"), [("docker", True), ("podman", True), ("exec", True), ("raw_exec", False)])
async def test_programs_on_the_node_itself_have_no_shells(on_fake: Cluster, tmp_path: Path, driver: str, *, terminal: bool) -> None:
    """Nomad would open them as root of the node."""
    given = NomadSettings(
        state_dir=str(tmp_path / "other"),
        provider="ours",
        address=on_fake.agent.address,
        drives_dir=str(tmp_path / "drives"),
        placements=(Placement(driver=driver),),  # pyright: ignore[reportArgumentType] - one of its words
    )
    async with await open_nomad(given) as backend:
        assert isinstance(backend.features, Features)
        assert backend.features.terminal is terminal


async def test_what_does_not_run_has_no_shell(on_fake: Cluster) -> None:
    """Not known, another rank, and one that Nomad has collected."""
    await on_fake.run()
    for job_id, rank in (("none", 0), ("job", 1), ("job", -1)):
        with pytest.raises(JobNotThere):
            await on_fake.backend.open_shell(job_id, rank, (), SIZE)
