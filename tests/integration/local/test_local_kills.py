"""kill -9 of everything at every time: no job runs twice, none is lost, nothing survives its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.local_site import LocalSite, processes_of, until
from serai_backends.local import limits
from serai_backends.local.adopt import dial
from serai_backends.local.folder import JobFolder
from serai_backends.model import End, Phase, Why

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 50 if os.environ.get("SERAI_CHAOS") == "long" else 12
LAUNCHER_ROUNDS = 200 if os.environ.get("SERAI_CHAOS") == "long" else 40

DRIVER = textwrap.dedent("""
    import asyncio, json, sys
    from serai_backends.local.backend import open_local
    from serai_backends.local.settings import LocalSettings
    from serai_backends.model import ReplicaSpec, Resources
    task = json.load(sys.stdin)
    async def main():
        backend = await open_local(LocalSettings(**task["settings"]))
        print("open", flush=True)
        for job_id, argv in task["jobs"]:
            await backend.submit(ReplicaSpec(job_id=job_id, replicas=1, argv=tuple(argv), environment=(),
                resources=Resources(cpu=1, memory_bytes=0), output_folder=f"drive/Jobs/test/{job_id}"))
            print("taken", job_id, flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
""")
ONCE = ("sh", "-c", "echo run >> runs")


class Driver:
    """A server process in miniature: opens the backend and submits jobs."""

    def __init__(self, site: LocalSite, jobs: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        settings = {"state_dir": site.settings.state_dir, "drives_dir": site.settings.drives_dir, "cpu": 4}
        self._output = site.folder / f"driver-{random.getrandbits(64):x}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=output)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"settings": settings, "jobs": jobs}).encode())
        self.process.stdin.close()

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def test_a_job_outlives_its_server_and_is_adopted(tmp_path: Path) -> None:
    """The server is killed: output goes on, the next one adopts the job, reads all output and sees the exit code."""
    site = LocalSite(tmp_path)
    loop = 'n=0; while [ ! -e stop ]; do n=$((n+1)); echo "$n"; sleep 0.02; done; exit 9'
    driver = Driver(site, [("job", ("sh", "-c", loop))])
    log = site.work("job") / "stdout.txt"
    try:
        await until(lambda: log.exists() and log.stat().st_size > 10, "the job prints")
    finally:
        driver.kill()
    size = log.stat().st_size
    await until(lambda: log.stat().st_size > size + 20, "the job goes on printing without a server")
    await site.open()
    try:
        found = await site.backend.inspect("job")
        assert found is not None and found.phase is Phase.RUNNING
        (site.work("job") / "stop").touch()
        found = await site.ended("job")
        assert (found.replicas[0].end, found.replicas[0].exit_code) == (End.EXITED, 9)
        numbers = [int(line) for line in (await site.output("job")).split()]
        assert numbers == list(range(1, len(numbers) + 1))
    finally:
        await site.clear()


async def test_what_ended_without_a_server_is_found(tmp_path: Path) -> None:
    """Server killed, job ends by itself, next server: the exit code is known, and so is the time of the end."""
    site = LocalSite(tmp_path)
    driver = Driver(site, [("job", ("sh", "-c", "while [ ! -e stop ]; do sleep 0.02; done; exit 3"))])
    await until((site.work("job") / "stdout.txt").exists, "the job is started")
    driver.kill()
    await until((site.state("job") / "begun").exists, "the job has begun")
    (site.work("job") / "stop").touch()
    await until(lambda: b'"done"' in (site.state("job") / "journal").read_bytes(), "the supervisor wrote the end")
    await site.open()
    found = await site.backend.inspect("job")
    assert found is not None and found.phase is Phase.ENDED
    assert found.replicas[0].exit_code == 3
    await site.clear()


async def test_a_new_server_leaves_the_groups_of_a_living_job_alone(site: LocalSite) -> None:
    """A server starts at the moment in which a program has ended and its supervisor has not looked yet: the group is empty, and the
    supervisor reads in it whether memory ran out. Without it the job would be lost. What an earlier job left is removed."""
    tree, start = site.backend.machine.cgroups, limits.prefix(site.settings.state_dir)
    if not tree:
        pytest.skip("no cgroups can be made here")
    groups = [Path(f"{parent}/{start}job+0") for parent in tree.values()]
    left = [Path(f"{parent}/{start}gone+0") for parent in tree.values()]
    await site.backend.submit(site.spec("job", "sh", "-c", "until [ -e stop ]; do sleep 0.05; done; exit 3"))
    await site.running("job")
    supervisor = json.loads((site.state("job") / "begun").read_text())["pid"]
    await site.close()
    os.kill(supervisor, signal.SIGSTOP)
    try:
        (site.work("job") / "stop").touch()
        await until(lambda: not any((group / "cgroup.procs").read_text() for group in groups), "the program has ended")
        for group in left:
            group.mkdir()
        await site.open()
        assert [group for group in groups if not group.exists()] == []
        assert [group for group in left if group.exists()] == []
    finally:
        os.kill(supervisor, signal.SIGCONT)
    found = await site.ended("job")
    assert (found.replicas[0].end, found.replicas[0].exit_code) == (End.EXITED, 3)
    assert [group for group in groups if group.exists()] == []


async def test_a_cancel_that_nobody_heard_is_repeated(tmp_path: Path) -> None:
    """The marker is on disk, the server died before it told the supervisor: the next server tells it."""
    site = LocalSite(tmp_path)
    driver = Driver(site, [("job", ("sleep", "600"))])
    await until((site.state("job") / "begun").exists, "the job has begun")
    driver.kill()
    (site.state("job") / "cancel").write_text('{"grace_ms": 0}')
    await site.open()
    assert (await site.ended("job")).replicas[0].end is End.CANCELED
    await site.clear()


async def test_the_death_of_a_supervisor_is_told_and_leaves_nothing(site: LocalSite) -> None:
    """LOST in words for every rank, when every process of the job is gone, daemons included; the same after a restart."""
    mark = f"6{os.getpid()}"
    await site.backend.submit(site.spec("job", "sh", "-c", f"setsid sleep {mark} & sleep {mark}", replicas=3))
    await site.running("job")
    await until(lambda: len(processes_of(mark)) == 6, "six processes sleep")
    supervisor = json.loads((site.state("job") / "begun").read_text())["pid"]
    os.kill(supervisor, signal.SIGKILL)
    found = await site.ended("job")
    assert processes_of(mark) == []
    assert [replica.end for replica in found.replicas] == [End.LOST] * 3
    assert {replica.why for replica in found.replicas} == {Why.KILLED_FROM_OUTSIDE} == {found.why}
    assert found.reason == "the supervisor of the job"
    await site.close()
    await site.open()
    assert await site.backend.inspect("job") == found
    assert (await site.backend.capacity()).used_cpu == 0


async def test_nothing_of_a_job_outlives_its_end(site: LocalSite) -> None:
    """A program that left daemons behind and ended: they are gone when the job is ENDED."""
    mark = f"7{os.getpid()}"
    found, text = await site.run("job", "sh", "-c", f"for i in 1 2 3; do setsid nohup sleep {mark} >/dev/null 2>&1 & done; echo started")
    assert (found.replicas[0].exit_code, text) == (0, "started\n")
    assert processes_of(mark) == []


async def test_one_rank_ends_and_the_others_go_on(site: LocalSite) -> None:
    """A job ends when all of its replicas have."""
    await site.backend.submit(site.spec("job", "sh", "-c", 'test "$(cat /etc/ucloud/rank.txt)" = 1 && exit 4; exec sleep 600', replicas=3))
    found = await site.observed("job", lambda found: len(found.replicas) == 3 and found.replicas[1].phase is Phase.ENDED)
    assert found.replicas[1].exit_code == 4
    assert [found.replicas[rank].phase for rank in (0, 2)] != [Phase.ENDED] * 2
    await site.backend.cancel("job")
    found = await site.ended("job")
    assert [replica.end for replica in found.replicas] == [End.CANCELED, End.EXITED, End.CANCELED]


async def test_a_graceful_cancel_lets_the_program_finish(site: LocalSite) -> None:
    """SIGTERM first; a program that ends in the grace has written its last words, and the job is CANCELED."""
    line = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    await site.backend.submit(site.spec("job", "sh", "-c", line))
    log = site.work("job") / "stdout.txt"
    await until(lambda: log.exists() and log.stat().st_size > 0, "the program is ready")
    await site.backend.cancel("job", grace_ms=60_000)
    found = await site.ended("job")
    assert found.replicas[0].end is End.CANCELED
    assert await site.output("job") == "ready\nbye\n"


async def test_the_grace_ends_without_a_server(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed when the grace is over, by the supervisor: the server is away meanwhile."""
    site = LocalSite(tmp_path)
    await site.open()
    await site.backend.submit(site.spec("job", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"))
    log = site.work("job") / "stdout.txt"
    await until(lambda: log.exists() and log.stat().st_size > 0, "the program is ready")
    await site.backend.cancel("job", grace_ms=300)
    await site.close()
    await until(lambda: b'"done"' in (site.state("job") / "journal").read_bytes(), "the supervisor ended the job")
    await site.open()
    assert (await site.ended("job")).replicas[0].end is End.CANCELED
    await site.clear()


async def test_a_cancel_is_heard_from_a_server_that_is_gone(site: LocalSite) -> None:
    """It subscribed, cancelled and died before the supervisor had read a word of it: the job ends without another server."""
    await site.backend.submit(site.spec("job", "sleep", "600"))
    await site.running("job")
    await site.close()
    supervisor = json.loads((site.state("job") / "begun").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    connection = dial(JobFolder(site.state("job").parent, "job"))
    assert connection is not None
    with connection:
        for message in (b'{"op":"watch"}', b'{"op":"ping"}', b'{"op":"cancel","grace_ms":0}'):
            connection.send(message)
    os.kill(supervisor, signal.SIGCONT)
    await until(lambda: b'"done"' in (site.state("job") / "journal").read_bytes(), "the supervisor ended the job")
    await site.open()
    assert (await site.ended("job")).replicas[0].end is End.CANCELED


async def test_servers_killed_at_random_moments(tmp_path: Path) -> None:
    """Each job that was taken on ends; none runs twice; what EXITED ran once; a second server at the same time is refused."""
    site = LocalSite(tmp_path)
    chance = random.Random(20261123)
    taken: set[str] = set()
    for number in range(ROUNDS):
        jobs = [(f"job{number}-{i}", ONCE) for i in range(4)]
        driver = Driver(site, jobs)
        try:
            await until(lambda driver=driver: "open" in driver.lines(), "the driver is open")
            await asyncio.sleep(chance.uniform(0, 0.15))
        finally:
            driver.kill()
        taken |= {line.split()[1] for line in driver.lines() if line.startswith("taken ")}
    await site.open()
    known = {found.job_id for found in await site.backend.list()}
    assert taken <= known
    assert taken
    for job_id in sorted(known):
        found = await site.ended(job_id)
        assert found.replicas[0].end is End.EXITED, found
        assert (site.work(job_id) / "runs").read_text() == "run\n"
    await site.clear()


async def test_launchers_and_supervisors_killed_at_random_moments(site: LocalSite) -> None:
    """Around the start of a job any of its processes is killed: it ends all the same, and its program ran at most once."""
    chance = random.Random(20261124)
    ends: dict[End | None, int] = {}
    for number in range(LAUNCHER_ROUNDS):
        job_id = f"job{number}"
        await site.backend.submit(site.spec(job_id, *ONCE))
        await asyncio.sleep(chance.uniform(0, 0.08))
        victims = processes_of(str(site.state(job_id)))
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
        found = await site.ended(job_id)
        end = found.replicas[0].end
        ends[end] = ends.get(end, 0) + 1
        runs = site.work(job_id) / "runs"
        text = runs.read_text() if runs.exists() else ""
        assert text in {"", "run\n"}, (job_id, found)
        if end is End.EXITED:
            assert text == "run\n", (job_id, found)
        else:
            # START_FAILED: one of bubblewrap's two processes was the victim before the program was executed
            assert end in {End.LOST, End.START_FAILED}, found
    assert ends.get(End.EXITED), ends


async def test_a_kill_in_the_middle_of_forgetting_runs_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves of a folder that was being removed is never started, whatever of it is left; forgetting again clears it away."""
    site = LocalSite(tmp_path)
    await site.open()
    await site.run("job", *ONCE)
    with monkeypatch.context() as killed:
        killed.setattr("shutil.rmtree", lambda *_args, **_more: None)  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
        await site.backend.forget("job")
    await site.close()
    # The worst that can be left: all that says that it began is gone.
    for name in ("begun", "journal", "lock"):
        (site.state("job") / name).unlink(missing_ok=True)
    await site.open()
    await site.run("other", "true")
    assert await site.backend.inspect("job") is None
    await site.backend.forget("job")
    assert not site.state("job").exists()
    assert (site.work("job") / "runs").read_text() == "run\n"
    await site.clear()


async def test_an_end_that_could_not_be_read_is_read_later(tmp_path: Path) -> None:
    """The job ends while this process may open no more files: its end is seen when it may again, and its place is free for the next."""
    site = LocalSite(tmp_path, cpu=1)
    await site.open()
    await site.backend.submit(site.spec("job", "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"))
    await site.running("job")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    (site.work("job") / "go").touch()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        await asyncio.sleep(0.5)  # not for a result: time in which the end is told and cannot be read
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (await site.ended("job")).replicas[0].exit_code == 0
    await site.run("next", "true")
    await site.clear()


async def test_a_job_that_no_longer_fits_the_settings_ends_and_holds_nobody_up(tmp_path: Path) -> None:
    """After a restart with fewer cores, a queued job that can never start ends in words; the one behind it runs."""
    site = LocalSite(tmp_path, cpu=4)
    await site.open()
    await site.backend.submit(site.spec("running", "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"))
    await site.running("running")
    await site.backend.submit(site.spec("large", "true", cpu=4))
    await site.backend.submit(site.spec("small", "true"))
    await site.close()
    site.settings = msgspec.structs.replace(site.settings, cpu=2)
    await site.open()
    large = await site.ended("large")
    assert large.replicas[0].end is End.START_FAILED
    assert (large.why, large.reason) == (Why.TOO_LARGE, "the job needs 4 cores, the machine has 2")
    assert (await site.ended("small")).replicas[0].exit_code == 0
    (site.work("running") / "go").touch()
    await site.clear()
