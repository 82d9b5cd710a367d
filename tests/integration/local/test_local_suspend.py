"""Suspension of real process trees: ends meanwhile, kills of the server, processes that would rather not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import textwrap
from pathlib import Path

import pytest
from fakes.local_site import LocalSite, processes_of, until
from serai_backends.clock import open_clock
from serai_backends.local import limits
from serai_backends.local.adopt import dial
from serai_backends.local.folder import JobFolder
from serai_backends.model import End, JobObservation, Phase
from serai_server.jobs.causes import failed


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def is_frozen(pid: int) -> bool:
    """By the freezer of cgroups of version 2: whoever is woken in it does not get to its program."""
    folder = limits.own_folders().get("unified")
    group = next((line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")), "")
    events = Path(folder or "/nowhere") / Path(group).name / "cgroup.events"
    return events.exists() and "frozen 1" in events.read_text()


def sleepers(mark: str) -> list[int]:
    """The programs themselves, without bubblewrap's processes that have the same words."""
    return [pid for pid in processes_of(mark) if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def sandboxed(uid: int, name: str) -> list[int]:
    """Processes inside sandboxes of this host user."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_sandboxed(path, uid, name)]


def _is_sandboxed(path: Path, uid: int, name: str) -> bool:
    try:
        if path.stat().st_uid != uid or (path / "comm").read_text() != f"{name}\n":
            return False
        return any(line.startswith("NSpid") and len(line.split()) == 4 for line in (path / "status").read_text().splitlines())
    except OSError:
        return False


async def suspended(site: LocalSite, job_id: str) -> JobObservation:
    await site.running(job_id)
    await site.backend.suspend(job_id)
    return await site.observed(job_id, lambda found: found.phase is Phase.SUSPENDED)


async def test_a_program_that_is_killed_meanwhile_is_seen(site: LocalSite) -> None:
    """Somebody ends one rank's program: its end is told though its sandbox stands still; the others stay suspended."""
    mark = f"9{os.getpid()}"
    await site.backend.submit(site.spec("job", "sleep", mark, replicas=2))
    await suspended(site, "job")
    victims = sleepers(mark)
    os.kill(victims[0], signal.SIGKILL)
    found = await site.observed("job", lambda found: any(r.phase is Phase.ENDED for r in found.replicas))
    assert found.phase is Phase.SUSPENDED
    ended = [replica for replica in found.replicas if replica.phase is Phase.ENDED]
    assert [(replica.end, replica.signal) for replica in ended] == [(End.SIGNALED, 9)]
    left = sleepers(mark)
    assert [state_of(pid) for pid in left] == ["T"]
    await site.backend.resume("job")
    await site.observed("job", lambda found: found.phase is Phase.RUNNING)


async def test_a_sandbox_that_is_killed_meanwhile_is_seen(site: LocalSite) -> None:
    """The pid 1 of the only replica is ended from outside: the job ends, its pause still open."""
    mark = f"9{os.getpid()}1"
    await site.backend.submit(site.spec("job", "sleep", mark))
    await suspended(site, "job")
    [program] = sleepers(mark)
    inner = parent_of(program)
    os.kill(inner, signal.SIGKILL)
    found = await site.ended("job")
    assert found.pauses[-1].ended_at_ms is None
    assert processes_of(mark) == []


async def test_who_is_woken_from_outside_is_stopped_again(site: LocalSite) -> None:
    """A SIGCONT that did not come from the supervisor does not last, and is not held against the job."""
    mark = f"9{os.getpid()}2"
    await site.backend.submit(site.spec("job", "sleep", mark))
    await suspended(site, "job")
    [program] = sleepers(mark)
    os.kill(program, signal.SIGCONT)
    await until(lambda: state_of(program) == "T" or is_frozen(program), "the program stands still again")
    await asyncio.sleep(1.2)  # not for a result: time for two more checks of the pause
    found = await site.backend.inspect("job")
    assert found is not None and found.phase is Phase.SUSPENDED


SELF_WAKING = textwrap.dedent("""
    import ctypes, signal, struct
    signal.signal(signal.SIGCONT, lambda *_: None)
    libc = ctypes.CDLL(None, use_errno=True)
    event, timer = struct.pack("Pii48x", 0, signal.SIGCONT, 0), ctypes.c_void_p()
    assert libc.timer_create(1, event, ctypes.byref(timer)) == 0
    assert libc.timer_settime(timer, 0, struct.pack("4l", 0, 80_000_000, 0, 80_000_000), None) == 0
    print("up", flush=True)
    while True: pass
""")


async def _self_waking(site: LocalSite) -> int:
    """A suspended job that sends itself SIGCONT all the time; the pid of its program."""
    await site.backend.submit(site.spec("job", "/usr/bin/python3", "-c", SELF_WAKING))
    await until(lambda: (site.work("job") / "stdout.txt").exists() and (site.work("job") / "stdout.txt").stat().st_size > 0, "it is up")
    [program] = sandboxed(site.work("job").stat().st_uid, "python3")
    await suspended(site, "job")
    return program


async def test_who_wakes_itself_is_frozen(site: LocalSite) -> None:
    """A program whose timer sends it SIGCONT gets no CPU for its pause where there is a freezer, and goes on afterwards."""
    if not {"freezer", "unified"} & site.backend.machine.cgroups.keys():
        pytest.skip("there is no freezer here")
    program = await _self_waking(site)
    before = sum(map(int, _ticks(program)))
    await asyncio.sleep(1.5)  # not for a result: time that it could use
    assert sum(map(int, _ticks(program))) <= before + 2
    found = await site.backend.inspect("job")
    assert found is not None and found.phase is Phase.SUSPENDED
    await site.backend.resume("job")
    await site.observed("job", lambda found: found.phase is Phase.RUNNING)
    await until(lambda: sum(map(int, _ticks(program))) > before + 5, "it computes again")


async def test_who_does_not_keep_still_is_charged_and_ended(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a freezer the same program is caught: the pause ends when it last stood still (when it began), and the job with it."""
    monkeypatch.setattr(site.backend.machine, "cgroups", {})
    await _self_waking(site)
    found = await site.ended("job")
    [replica], [pause] = found.replicas, found.pauses
    assert (replica.end, replica.signal, replica.cause) == (End.SIGNALED, 9, "it did not keep still while it was suspended")
    assert pause.ended_at_ms == pause.started_at_ms
    assert failed([replica], 1) == "The program was ended by signal 9 (SIGKILL): it did not keep still while it was suspended."


async def test_a_resume_does_not_hide_what_was_computed(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed before anybody looked: the pause ends when it last stood still, so what it computed is charged all the same."""
    monkeypatch.setattr(site.backend.machine, "cgroups", {})
    clock = open_clock(Path(site.settings.state_dir))
    program = await _self_waking(site)
    before = _cpu_ticks(program)
    # A busy machine may let a check come first: then the job is ended, and the pause as well.
    await until(lambda: not before <= _cpu_ticks(program) < before + 6, "it has computed for 60 ms")
    resumed_at_ms = clock.now_ms()
    await site.backend.resume("job")
    found = await site.observed("job", lambda found: found.pauses[-1].ended_at_ms is not None)
    assert (found.pauses[-1].ended_at_ms or 0) <= resumed_at_ms - 30


async def test_a_forking_and_threaded_tree_stands_still(site: LocalSite) -> None:
    """Programs that fork all the time, ignore what they can, and whose first thread has ended: none of them gets a tick of CPU."""
    program = textwrap.dedent("""
        import os, signal, threading, time
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        def fork():
            while True:
                pid = os.fork()
                if pid == 0: os._exit(0)
                try: os.waitpid(pid, 0)
                except ChildProcessError: pass
        def spin():
            while True: pass
        for work in (fork, fork, spin):
            if os.fork() == 0:
                for _ in range(2): threading.Thread(target=work).start()
                import ctypes; ctypes.CDLL(None).syscall(60, 0) if os.uname().machine == "x86_64" else time.sleep(600)
        print("up", flush=True)
        time.sleep(600)
    """)
    await site.backend.submit(site.spec("job", "/usr/bin/python3", "-c", program, cpu=4))
    await until(lambda: (site.work("job") / "stdout.txt").exists() and (site.work("job") / "stdout.txt").stat().st_size > 0, "it is up")
    await suspended(site, "job")
    uid = site.work("job").stat().st_uid
    job = sandboxed(uid, "python3")
    assert len(job) >= 4
    before = {pid: _ticks(pid) for pid in job}
    await asyncio.sleep(0.3)  # not for a result: time that it could use
    assert {pid: _ticks(pid) for pid in job} == before


def _ticks(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]


def _cpu_ticks(pid: int) -> int:
    """-1 = it is gone."""
    try:
        return sum(map(int, _ticks(pid)))
    except OSError:
        return -1


async def test_a_suspended_job_outlives_its_server(tmp_path: Path) -> None:
    """Suspended, server gone without a word, next server: SUSPENDED as before, and it can be resumed and ends by itself."""
    site = LocalSite(tmp_path)
    await site.open()
    await site.backend.submit(site.spec("job", "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 7"))
    before = await suspended(site, "job")
    await site.close()
    (site.work("job") / "go").touch()
    await site.open()
    assert await site.backend.inspect("job") == before
    await site.observed("job", lambda found: found.phase is Phase.SUSPENDED)
    async with asyncio.timeout(30):
        while (found := await site.backend.inspect("job")) is not None and found.phase is Phase.SUSPENDED:
            await site.backend.resume("job")
            await asyncio.sleep(0.01)
    assert (await site.ended("job")).replicas[0].exit_code == 7
    await site.clear()


async def test_a_server_that_dies_while_it_stops_a_suspended_job(site: LocalSite) -> None:
    """The supervisor has the stop and nobody to answer: writing down that the job goes on finds its subscriber gone. It ends the job."""
    await site.backend.submit(site.spec("job", "sleep", "600"))
    await suspended(site, "job")
    supervisor = json.loads((site.state("job") / "begun").read_text())["pid"]
    connection = dial(JobFolder(site.state("job").parent, "job"))
    assert connection is not None
    with connection:
        connection.setblocking(True)
        connection.send(b'{"op":"watch"}')
        assert await asyncio.to_thread(connection.recv, 1) == b"."
        os.kill(supervisor, signal.SIGSTOP)
        await until(lambda: state_of(supervisor) == "T", "the supervisor stands")
        connection.send(b'{"op":"cancel","grace_ms":600000}')
        connection.send(b'{"op":"cancel","grace_ms":1}')
    os.kill(supervisor, signal.SIGCONT)
    found = await site.observed("job", lambda found: found.phase is not Phase.SUSPENDED)
    await site.backend.cancel("job")
    assert (await site.ended("job")).replicas[0].end is End.CANCELED, found
