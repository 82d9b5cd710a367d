"""Suspension of real process trees: ends meanwhile, kills of the server, processes that would rather not."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
from pathlib import Path

from fakes.local_site import LocalSite, processes_of, until
from serai_backends.model import End, JobObservation, Phase


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


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
    """A SIGCONT that did not come from the supervisor does not last."""
    mark = f"9{os.getpid()}2"
    await site.backend.submit(site.spec("job", "sleep", mark))
    await suspended(site, "job")
    [program] = sleepers(mark)
    os.kill(program, signal.SIGCONT)
    await until(lambda: state_of(program) == "T", "the program stands still again")


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
