"""Shells in local jobs: what is tried from one in order to get out fails as it does for the program, and what one does not leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import uvloop
from fakes.attacks import EPERM, FILTERED, MUST_FAIL, SYSCALL, codes, script
from fakes.local_site import LocalSite, processes_of, until
from fakes.screen import Screen
from serai_backends.errors import BackendUnavailable
from serai_backends.local.conversation import Conversation
from serai_backends.local.folder import JobFolder
from serai_backends.model import End, Mount, Phase, Stream, TerminalSize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SIZE = TerminalSize(columns=80, rows=24)
ONLY_X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86_64")
WATCHER = """
import os
own = set(os.listdir("/proc"))
print("up", flush=True)
while not os.path.exists("/work/over"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or pid in own or pid == str(os.getpid()): continue
        for name in ("exe", "cwd", "root", "fd", "maps", "environ"):
            path = f"/proc/{pid}/{name}"
            try:
                if name in ("exe", "cwd", "root"): seen = [os.readlink(path)]
                elif name == "fd": seen = [os.readlink(f"{path}/{fd}") for fd in os.listdir(path)]
                elif name == "maps": seen = [line.split()[-1] for line in open(path) if "/" in line]
                else: seen = [word.partition("=")[0] for word in open(path).read().split(chr(0)) if word]
            except OSError: continue
            for one in seen: print(name, one, flush=True)
"""


@pytest.fixture
def mark() -> str:
    """Seconds to sleep by which a process is found among all of the machine, those of other tests included."""
    return str(int.from_bytes(os.urandom(4)) + 100_000)


async def shell(site: LocalSite, *argv: str, job_id: str = "job", rank: int = 0) -> Screen:
    return Screen(await site.backend.open_shell(job_id, rank, argv, SIZE))


async def run(site: LocalSite, *argv: str, job_id: str = "job") -> tuple[int | None, str]:
    async with await shell(site, *argv, job_id=job_id) as screen:
        return await screen.end()


async def hang(site: LocalSite, memory_bytes: int = 256 << 20) -> None:
    await site.backend.submit(site.spec("job", "sleep", "600", memory_bytes=memory_bytes))
    await site.running("job")


def supervisor(site: LocalSite) -> int:
    return json.loads((site.state("job") / "begun").read_text())["pid"]


@pytest.mark.parametrize("run_as_root", [False, True])
async def test_nothing_of_the_host_can_be_seen_or_changed(site: LocalSite, run_as_root: bool) -> None:
    """Every attempt of the program's list fails from a shell too, typed on a real terminal, as a user and as root of its own view."""
    folder = site.put("drive/data/file", "input").parent
    secret = site.folder / "input-secret"
    secret.write_text("the host's secret")
    (folder / "link").symlink_to(secret)
    lines = {name: line.replace("{host_pid}", str(os.getpid())) for name, line in MUST_FAIL.items()}
    spec = replace(site.spec("job", "sleep", "600"), run_as_root=run_as_root, mounts=(Mount("drive/data", "/work/input", read_only=True),))
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0serai-attack-{os.getpid()}")
        await site.backend.submit(spec)
        await site.running("job")
        _, text = await run(site, "bash", "-c", script(lines))
    result = codes(text)
    assert (folder / "file").read_text() == "input"
    assert result.keys() == MUST_FAIL.keys()
    assert [f for f in site.work("job").iterdir() if f.stat().st_mode & 0o6000] == []
    assert {name for name, code in result.items() if code == 0} == set()


@ONLY_X86_64
@pytest.mark.parametrize("run_as_root", [False, True])
async def test_the_filter_refuses_system_calls(site: LocalSite, run_as_root: bool) -> None:
    """The program's filter is the shell's."""
    await site.backend.submit(replace(site.spec("job", "sleep", "600"), run_as_root=run_as_root))
    await site.running("job")
    lines = {name: f"{SYSCALL} {numbers}" for name, numbers in FILTERED.items()}
    assert codes((await run(site, "bash", "-c", script(lines)))[1]) == dict.fromkeys(FILTERED, EPERM)


async def test_it_has_what_the_program_has_and_nothing_more(site: LocalSite) -> None:
    """Capabilities, filter, groups, limits and open files: line for line the same."""
    line = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Speculation)' /proc/self/status; cat /proc/self/limits; cat /proc/self/cgroup"
    line += "; for name in user mnt ipc uts net cgroup pid; do readlink /proc/self/ns/$name; done; umask; ls /proc/self/fd | wc -l"
    await site.backend.submit(site.spec("job", "sh", "-c", f"{line}; echo end; exec sleep 600"))
    await site.running("job")
    await until(lambda: (site.work("job") / "stdout.txt").read_text().endswith("end\n"), "the program has said it")
    code, text = await run(site, "sh", "-c", f"{line}; echo end")
    assert (code, text.replace("\r\n", "\n")) == (0, await site.output("job"))


async def test_nobody_inside_can_look_into_one_that_is_being_made(site: LocalSite) -> None:
    """A program that goes for every new process of its sandbox sees only programs that were executed: no file, memory or folder of ours."""
    await site.backend.submit(site.spec("job", "/usr/bin/python3", "-c", WATCHER, cpu=2))
    await site.running("job")
    async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
        break
    for _ in range(12):
        assert [code for code, _ in await asyncio.gather(*(run(site, "true") for _ in range(4)))] == [0] * 4
    (site.work("job") / "over").touch()
    await site.ended("job")
    said = set((await site.output("job")).splitlines()[1:])
    opened = [f"{name} {path}" for name in ("fd", "maps") for path in ("/usr/", "/etc/ld.so.cache")]  # what a program opens to begin
    fine = ("fd /dev/pts/", "maps [", "environ ", *opened)
    said -= {"exe /usr/bin/true", "cwd /", "cwd /work", "root /"}
    assert {line for line in said if not line.startswith(fine) or "python" in line} == set()
    assert {line for line in said if line.startswith("environ")} <= {f"environ {name}" for name in ("PATH", "HOME", "USER", "LANG", "TERM")}


async def test_a_shell_is_in_the_groups_of_its_rank(site: LocalSite, mark: str) -> None:
    """Hard limits are those of the replica, seen from the machine."""
    if not site.backend.machine.cgroups:
        pytest.skip("there are no hard limits here")
    await site.backend.submit(site.spec("job", "sleep", f"0{mark}", replicas=2))
    await site.running("job")
    async with await shell(site, "sh", "-c", f"echo up; exec sleep {mark}", rank=1) as screen:
        await screen.until("up\r\n")
        groups = [_groups(pid) for pid in (*processes_of(f"0{mark}"), *processes_of(mark))]
    mine = groups.pop()
    assert "job+1" in mine
    assert mine in groups


def _groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def test_memory_of_a_shell_is_the_replicas_where_limits_are_soft(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts, and so ends the replica: OUT_OF_MEMORY."""
    monkeypatch.setattr(site.backend.machine, "cgroups", {})
    await hang(site, memory_bytes=64 << 20)
    async with await shell(site, "/usr/bin/python3", "-c", "import time; x = bytearray(200 << 20); time.sleep(600)"):
        assert (await site.ended("job")).replicas[0].end is End.OUT_OF_MEMORY


async def test_a_fork_bomb_in_a_shell_stays_in_its_job(site: LocalSite) -> None:
    """The limit of processes stops it, other jobs run, and closing it lets new shells in again."""
    await site.close()
    site.settings = msgspec.structs.replace(site.settings, pids=64)
    await site.open()
    await hang(site)
    bomb = textwrap.dedent("""
        import os, time
        n = 0
        try:
            while n < 500:
                if os.fork() == 0: time.sleep(600)
                n += 1
        except OSError: pass
        print(n, "born")
        time.sleep(600)
    """)
    async with await shell(site, "/usr/bin/python3", "-c", bomb) as screen:
        assert 10 < int((await screen.until(" born")).split()[0]) <= 80
        found, text = await site.run("other", "echo", "well")
        assert (found.replicas[0].exit_code, text) == (0, "well\n")
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(BackendUnavailable):
                if await run(site, "echo", "again") == (0, "again\r\n"):
                    break
            await asyncio.sleep(0.05)


async def test_there_is_a_most_of_shells(site: LocalSite) -> None:
    """Words for one too many; one that was closed makes room."""
    await hang(site)
    screens = [await shell(site, "sh", "-c", "read x") for _ in range(32)]
    with pytest.raises(BackendUnavailable, match="32 open shells"):
        await shell(site, "true")
    await screens.pop().__aexit__()
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(BackendUnavailable):
                assert (await run(site, "true"))[0] == 0
                break
            await asyncio.sleep(0.05)
    for screen in screens:
        await screen.__aexit__()


async def test_shells_leave_nothing_behind(site: LocalSite) -> None:
    """A hundred that ended, were closed or could not start: the supervisor has the files and children that it had before."""
    await hang(site)

    def held() -> tuple[int, str]:
        pid = supervisor(site)
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), Path(f"/proc/{pid}/task/{pid}/children").read_text()

    before = held()
    for number in range(100):
        if number % 3 == 0:
            assert (await run(site, "true"))[0] == 0
        elif number % 3 == 1:
            async with await shell(site, "sh", "-c", "trap '' HUP; read x"):
                pass
        else:
            with pytest.raises(BackendUnavailable, match="no-such-program: No such file"):
                await shell(site, "no-such-program")
        if number % 30 == 29:  # those that were hung up go a moment later, and only so many may be there
            await until(lambda: held() == before, "nothing is left of them")
    await until(lambda: held() == before, "nothing is left of them")
    assert (await site.running("job")).phase is Phase.RUNNING


@pytest.mark.parametrize("at", ["open", "asked"])
async def test_a_server_that_is_killed_hangs_up(tmp_path: Path, mark: str, at: str) -> None:
    """kill -9 with a shell open, and while it is being opened: its program ends, also one that ignores that; the job goes on."""
    program = textwrap.dedent(f"""
        import asyncio, json, os, sys
        from serai_backends.local.backend import open_local
        from serai_backends.local.settings import LocalSettings
        from serai_backends.model import TerminalSize
        async def main():
            backend = await open_local(LocalSettings(**json.loads(sys.argv[1])))
            while True:
                try: shell = await backend.open_shell("job", 0, ("sh", "-c", "trap '' HUP; echo up; sleep {mark}"), TerminalSize(80, 24))
                except Exception: await asyncio.sleep(0.01); continue
                break
            if {at == "asked"}: os.kill(os.getpid(), 9)
            async for data in shell.output(): print("up", flush=True)
        asyncio.run(main())
    """)
    site = LocalSite(tmp_path)
    await site.open()
    await hang(site)
    await site.close()
    settings = json.dumps(msgspec.to_builtins(site.settings))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, settings, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if at == "open":
        assert await process.stdout.readline() == b"up\n"
        await until(lambda: bool(processes_of(mark)), "its program has begun")
        process.kill()
    await process.wait()
    await until(lambda: not processes_of(mark), "its program has ended")
    await site.open()
    assert (await site.running("job")).phase is Phase.RUNNING
    await site.clear()


async def test_a_pause_without_a_freezer_is_not_broken_by_a_shell(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed into, resized and closed while its job is suspended: nothing of it computes, and nothing is charged or ended for it."""
    monkeypatch.setattr(site.backend.machine, "cgroups", {})
    await hang(site)
    async with await shell(
        site, "bash", "-c", "trap 'for i in $(seq 100000); do :; done' WINCH HUP INT; echo up; while :; do read -t 1 x; done"
    ) as screen:
        await screen.until("up\r\n")
        async with asyncio.timeout(60):
            while (found := await site.backend.inspect("job")) is None or found.phase is not Phase.SUSPENDED:
                await site.backend.suspend("job")
                await asyncio.sleep(0.05)
        await screen.type("x\n" * 10 + "\x03")
        await screen.shell.resize(TerminalSize(132, 50))
        await asyncio.sleep(1.2)  # not for a result: time in which it would be seen to compute
    await asyncio.sleep(1.2)  # not for a result: as before, with the shell closed
    found = await site.running("job")
    assert found.phase is Phase.SUSPENDED
    await site.backend.resume("job")
    await site.observed("job", lambda found: found.phase is Phase.RUNNING)
    await until(lambda: not any("read -t 1 x" in word for word in _words(site)), "the shell has ended")
    assert (await site.running("job")).ended_at_ms is None


def _words(site: LocalSite) -> list[str]:
    uid, found = site.work("job").stat().st_uid, list[str]()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return found


async def test_who_writes_waits_and_can_give_up(site: LocalSite) -> None:
    """A program that reads nothing: the writer waits, gives up, and what it had written so far is all that comes; others still can."""
    await hang(site)
    async with await shell(site, "sh", "-c", "stty raw -echo; echo ready; while [ ! -e go ]; do sleep 0.02; done; exec cat") as screen:
        await screen.until("ready")
        writing = asyncio.create_task(screen.shell.write(b"x" * (8 << 20)))
        await asyncio.sleep(0.2)  # not for a result: so that it is in the middle of it
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled()
        (site.work("job") / "go").touch()
        await screen.type("END")
        assert set(await screen.until("END")) <= set("xEND\n\r")
        assert len(screen.seen) < 8 << 20


def limit_files(pid: int, most: int = 0) -> None:
    """The soft limit of a process, set by its own user: root may lack the right to. 0 = it cannot open one more file."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    most = most or min(set(range(len(used) + 1)) - used)
    uid = Path(f"/proc/{pid}").stat().st_uid
    user: dict[str, object] = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={most}:"], check=True, **user)  # type: ignore[call-overload]  # pyright: ignore


async def test_a_supervisor_without_descriptors_ends_no_job(site: LocalSite, mark: str) -> None:
    """Shells and connections are refused in words, an open shell can be closed, and afterwards all is as before."""
    await site.backend.submit(replace(site.spec("job", "sleep", "600"), ports=(80,)))
    await site.running("job")
    folder, pid = JobFolder(site.state("job").parent, "job"), supervisor(site)
    with Conversation(folder) as first, Conversation(folder) as second:
        await first.ask(op="ping")
        await second.ask(op="ping")
        async with await shell(site, "sh", "-c", f"echo up; exec sleep {mark}") as screen:
            await screen.until("up\r\n")
            await asyncio.to_thread(limit_files, pid)
            with pytest.raises(BackendUnavailable, match="Too many open files"):
                await first.ask(op="shell", rank=0, argv=[], columns=80, rows=24)
            with pytest.raises(BackendUnavailable, match="Too many open files"):
                await second.ask(op="connect", rank=0, port=80)
        await until(lambda: not processes_of(mark), "the closed shell has ended")
        await asyncio.to_thread(limit_files, pid, 1024)
    assert await run(site, "echo", "well") == (0, "well\r\n")
    assert (await site.running("job")).ended_at_ms is None


async def test_control_c_works_under_a_server_that_ignores_it(site: LocalSite) -> None:
    """A server started in the background by a script ignores SIGINT, and what is ignored is inherited: not by shells."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        await hang(site)
    finally:
        signal.signal(signal.SIGINT, before)
    async with await shell(site, "sh", "-c", "echo up; exec sleep 600") as screen:
        await screen.until("up\r\n")
        await screen.type("\x03")
        assert (await screen.end())[0] == 130


async def test_a_command_that_is_too_long_is_told(site: LocalSite) -> None:
    """In words, and the next one is heard."""
    await hang(site)
    with pytest.raises(BackendUnavailable, match="too long"):
        await shell(site, "echo", "x" * 70_000)
    for argv in (("a\0b",), ("",), ("echo", "\ud800")):
        with pytest.raises(BackendUnavailable, match="not understood"):
            await shell(site, *argv)
    assert await run(site, "echo", "well") == (0, "well\r\n")


def test_on_the_loop_that_serai_uses(tmp_path: Path) -> None:
    """Shells and ports on uvloop, as `serai serve` runs them."""

    async def lines() -> AsyncIterator[str]:
        site = LocalSite(tmp_path)
        await site.open()
        server = (
            'import socket; s = socket.create_server(("127.0.0.1", 80)); print("up", flush=True); s.accept()[0].sendall(b"x" * 5000000)'
        )
        await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", server + "; input()"), ports=(80,)))
        await site.running("job")
        async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
            break
        async with await shell(site) as screen:
            await screen.type("echo $((40 + 2)); exit 4\n")
            yield str(await screen.end())
        where = await site.backend.endpoint("job", 0, 80)
        reader, writer = await asyncio.open_connection(where.host, where.port)
        yield str(len(await reader.read()))
        writer.close()
        await site.clear()

    async def main() -> list[str]:
        return [line async for line in lines()]

    shown, size = uvloop.run(main())
    assert shown.startswith("(4,") and "42\\r\\n" in shown
    assert size == "5000000"
