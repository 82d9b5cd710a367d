"""What a replica tries in order to get out, to see, to change, or to exhaust: each must fail inside. The list is in fakes/attacks.py.

An attempt "fails" when the command has an exit code other than 0; commands that do not exist would fail for the wrong reason, so each is
looked up first.
"""

from __future__ import annotations

import os
import socket
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from fakes.attacks import EPERM, FILTERED, MUST_FAIL, SYSCALL, codes, script
from serai_backends.model import End, Mount, Peer, Stream

if TYPE_CHECKING:
    from fakes.local_site import LocalSite

PY = "/usr/bin/python3 -c"


@pytest.mark.parametrize("run_as_root", [False, True])
@pytest.mark.parametrize("with_peer", [False, True])
async def test_nothing_of_the_host_can_be_seen_or_changed(site: LocalSite, run_as_root: bool, with_peer: bool) -> None:
    """Every attempt of the list fails inside, as a user and as root of its own view, with an input and with a peer."""
    folder = site.put("drive/data/file", "input").parent
    secret = site.folder / "input-secret"
    secret.write_text("the host's secret")
    (folder / "link").symlink_to(secret)
    peers: tuple[Peer, ...] = ()
    if with_peer:
        if not site.backend.features.peers:
            pytest.skip("jobs cannot be connected here")
        await site.backend.submit(site.spec("peer", "sleep", "600"))
        await site.running("peer")
        peers = (Peer("peer", "peer"),)
    lines = {name: line.replace("{host_pid}", str(os.getpid())) for name, line in MUST_FAIL.items()}
    if with_peer:
        # a route to the peer's block is what it asked for; there is no other
        lines["a route to anywhere"] = "tail -n +2 /proc/net/route | grep -v ^peer | grep -q ."
    spec = replace(site.spec("attack", "bash", "-c", script(lines)), run_as_root=run_as_root, peers=peers)
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0serai-attack-{os.getpid()}")
        await site.backend.submit(replace(spec, mounts=(Mount("drive/data", "/work/input", read_only=True),)))
        await site.ended("attack")
    result = codes(await site.output("attack"))
    assert (folder / "file").read_text() == "input"
    assert result.keys() == MUST_FAIL.keys()
    assert [f for f in site.work("attack").iterdir() if f.stat().st_mode & 0o6000] == []
    assert {name for name, code in result.items() if code == 0} == set()


async def test_ordinary_file_work_is_allowed(site: LocalSite) -> None:
    """The filter that refuses setuid bits leaves everything else of files alone, also opens whose mode argument is garbage."""
    line = "set -e; echo a > f; chmod 755 f; chmod u-s,g-s f; install -m 640 f g; mkdir -m 700 d; cp -a f d/; mkfifo p"
    line += "; tar cf t.tar f g; tar xf t.tar"
    garbage = f"{PY} 'import ctypes; exit(ctypes.CDLL(None).syscall(257, -100, b\"f\", 0, 0o7777) < 0)'"
    found, _ = await site.run("files", "bash", "-c", f"cd /work; {line}; {garbage}")
    assert found.replicas[0].exit_code == 0


def test_the_commands_of_the_list_exist_inside() -> None:
    """Otherwise an attempt would fail for want of its command."""
    for command in (
        "mount",
        "umount",
        "unshare",
        "ip",
        "hostname",
        "date",
        "chroot",
        "nsenter",
        "su",
        "chown",
        "mknod",
        "dmesg",
        "prlimit",
        "nice",
        "python3",
    ):
        found = [folder for folder in ("/usr/bin", "/usr/sbin", "/bin", "/sbin") if Path(folder, command).exists()]
        if not found:
            pytest.skip(f"{command} is not installed on this machine")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the system calls are those of x86_64")
@pytest.mark.parametrize("run_as_root", [False, True])
async def test_the_filter_refuses_system_calls(site: LocalSite, run_as_root: bool) -> None:
    """EPERM, not another error that the arguments would have caused."""
    lines = {name: f"{SYSCALL} {numbers}" for name, numbers in FILTERED.items()}
    await site.backend.submit(replace(site.spec("filter", "bash", "-c", script(lines)), run_as_root=run_as_root))
    await site.ended("filter")
    assert codes(await site.output("filter")) == dict.fromkeys(FILTERED, EPERM)


@pytest.mark.parametrize("run_as_root", [False, True])
async def test_no_way_to_the_host_or_to_other_jobs(site: LocalSite, run_as_root: bool) -> None:
    """Listeners on the host's loopback, on its abstract sockets and in another job: none answers; a peer in the own job does."""
    listener = """
        import socket, sys
        s = socket.socket(); s.bind(("0.0.0.0", 7000)); s.listen()
        print("up", flush=True)
        while True: s.accept()[0].close()
    """
    await site.backend.submit(site.spec("other", "/usr/bin/python3", "-c", textwrap.dedent(listener)))
    address = (await site.running("other")).replicas[0].address
    async for _ in site.backend.logs("other", 0, Stream.STDOUT, follow=True):
        break
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        abstract.bind(f"\0serai-test-{os.getpid()}")
        abstract.listen()
        attack = f"""
            import socket
            def tries(family, address):
                s = socket.socket(family); s.settimeout(2)
                try: s.connect(address); return "CONNECTED"
                except OSError as error: return "no"
            inet, unix = socket.AF_INET, socket.AF_UNIX
            print(tries(inet, ("127.0.0.1", {tcp.getsockname()[1]})))
            print(tries(unix, {abstract.getsockname()!r}))
            print(tries(inet, ({address!r}, 7000)))
            mine = socket.socket(); mine.bind(("node-0", 7001)); mine.listen()
            print(tries(inet, ("node-0", 7001)))
        """
        await site.backend.submit(replace(site.spec("attack", "/usr/bin/python3", "-c", textwrap.dedent(attack)), run_as_root=run_as_root))
        found = await site.ended("attack")
    text = await site.output("attack")
    assert text.split() == ["no", "no", "no", "CONNECTED"], (found, text)


async def test_what_root_inside_makes_belongs_to_the_jobs_user(site: LocalSite) -> None:
    """No file of root's, no setuid bit, no device: outside, uid 0 of the view is the job's unprivileged user."""
    line = "umask 0; touch f; mkdir d; chmod 4755 f; chown 1:1 f; mknod b b 8 0; mknod c c 1 3; cp /bin/true t; chmod u+s t; ls -ln"
    await site.backend.submit(replace(site.spec("job", "bash", "-c", line), run_as_root=True))
    await site.ended("job")
    made = {path.name: path.lstat() for path in site.work("job").iterdir()}
    assert made.keys() == {"stdout.txt", "stderr.txt", "f", "d", "t"}
    assert {facts.st_uid for facts in made.values()} == {site.work("job").stat().st_uid}
    assert site.work("job").stat().st_uid == os.geteuid() or site.work("job").stat().st_uid >= site.settings.uid_first
    assert [name for name, facts in made.items() if facts.st_mode & 0o6000] == []


async def test_scratch_space_ends_at_its_size(site: LocalSite) -> None:
    """More than `tmpfs_bytes` does not fit into /tmp, /run or /dev/shm."""
    await site.close()
    site.settings = msgspec.structs.replace(site.settings, tmpfs_bytes=8 << 20)
    await site.open()
    line = "for d in /tmp /run /dev/shm; do head -c 9000000 /dev/zero > $d/x 2> /dev/null && echo $d; stat -c %s $d/x; rm $d/x; done"
    _, text = await site.run("job", "sh", "-c", line, memory_bytes=512 << 20)
    assert text.split() == [str(8 << 20)] * 3


async def test_cores_beyond_the_quota_are_not_used(site: LocalSite) -> None:
    """Two spinning processes in a job of one core get the time of about one, also when they set their own affinity."""
    if "cpu" not in site.backend.machine.cgroups and "unified" not in site.backend.machine.cgroups:
        pytest.skip("cores are advisory here")
    spin = textwrap.dedent("""
        import os, resource, time
        os.sched_setaffinity(0, range(os.cpu_count()))
        children = []
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                end = time.monotonic() + 2
                while time.monotonic() < end: pass
                os._exit(0)
            children.append(pid)
        for pid in children: os.waitpid(pid, 0)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(used.ru_utime + used.ru_stime)
    """)
    _, text = await site.run("spin", "/usr/bin/python3", "-c", spin)
    assert float(text) < 2.6


async def test_a_fork_bomb_stays_in_its_job(site: LocalSite) -> None:
    """The limit of processes stops it, the backend still answers, and cancel ends all of it."""
    await site.close()
    site.settings = msgspec.structs.replace(site.settings, pids=64)
    await site.open()
    bomb = textwrap.dedent("""
        import os, time
        n = 0
        try:
            while n < 500:
                if os.fork() == 0:
                    time.sleep(600)
                n += 1
        except OSError:
            pass
        print(n, flush=True)
        time.sleep(600)
    """)
    await site.backend.submit(site.spec("bomb", "/usr/bin/python3", "-c", bomb))
    async for chunk in site.backend.logs("bomb", 0, Stream.STDOUT, follow=True):
        assert 10 < int(chunk.data) <= 80
        break
    found, text = await site.run("next", "echo", "well")
    assert (found.replicas[0].exit_code, text) == (0, "well\n")
    await site.backend.cancel("bomb")
    assert (await site.ended("bomb")).replicas[0].end is End.CANCELED


async def test_scratch_space_is_limited(site: LocalSite) -> None:
    """/tmp has its size, whatever the machine has."""
    _, text = await site.run("fill", "sh", "-c", "df -B1 --output=size /tmp /run /dev/shm | tail -3")
    assert {int(word) for word in text.split()} == {site.settings.tmpfs_bytes}


async def test_more_memory_than_asked_for(site: LocalSite) -> None:
    """OUT_OF_MEMORY: at once where limits are hard, within seconds where they are soft."""
    eat = (
        "b = bytearray()\nwhile True: b += b'x' * (8 << 20)\n"
        if site_is_hard(site)
        else "import time\nb = b'x' * (300 << 20)\ntime.sleep(600)"
    )
    found, _ = await site.run("eat", "/usr/bin/python3", "-c", eat, memory_bytes=100 << 20)
    assert found.replicas[0].end is End.OUT_OF_MEMORY
    assert "memory" in found.replicas[0].cause


def site_is_hard(site: LocalSite) -> bool:
    return bool(site.backend.machine.cgroups)


@pytest.mark.parametrize("bait", ["ln -s {secret} {log}", "mkfifo {log}", "mkdir {log}", "ln -s ../../../../../state {log}"])
async def test_a_job_cannot_make_the_server_read_elsewhere(site: LocalSite, bait: str) -> None:
    """A log that was replaced by a link, a FIFO or a folder is an empty log."""
    secret = site.folder / "secret"
    secret.write_text("the server's secret")
    line = "rm stdout.txt; " + bait.format(secret=secret, log="stdout.txt") + "; echo more"
    found, text = await site.run("bait", "sh", "-c", line)
    assert found.replicas[0].exit_code == 0
    assert text == ""


TRACE = "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))"
STAY_TRACER = f"""
import os, time
if os.fork() == 0:
    {TRACE}
    open("traced", "w").close()
    time.sleep(600)
while not os.path.exists("traced"): time.sleep(0.01)
"""

STOP_LATE = f"""
import ctypes, os, time
ptrace = ctypes.CDLL(None).ptrace
if os.fork() == 0:
    ptrace(16, 1, 0, 0)
    os.waitpid(1, {0x40000000})
    open("traced", "w").close()
    while os.path.exists("/proc/2"):
        ptrace(24, 1, 0, 0)
        os.waitpid(1, {0x40000000})
    ptrace(17, 1, 0, 19)
    time.sleep(600)
while not os.path.exists("traced"): time.sleep(0.01)
"""
"""Follows pid 1 from system call to system call, and lets go of it, stopped, once it has reaped the program."""


@pytest.mark.parametrize(("program", "end"), [(TRACE, (End.EXITED, 0)), (STAY_TRACER, (End.SIGNALED, None)), (STOP_LATE, (End.EXITED, 0))])
async def test_a_sandbox_that_its_program_stopped_ends(site: LocalSite, program: str, end: tuple[End, int | None]) -> None:
    """The pid 1 of the sandbox, traced by the program when it ends: the end is told all the same, with its code where pid 1 can go on."""
    found, _ = await site.run("job", "/usr/bin/python3", "-c", program)
    assert (found.replicas[0].end, found.replicas[0].exit_code) == end


@pytest.mark.parametrize("bait", ["mv -f /work/drive/secret stdout.txt", "rm stdout.txt; ln /work/drive/other stdout.txt"])
async def test_a_job_cannot_have_its_log_be_another_file(site: LocalSite, bait: str) -> None:
    """A file that its user may not read, moved there out of a writable input, and a second name of another file: neither is shown."""
    await site.run("warm", "true")
    site.put("drive/other", "other")
    secret = site.drives / "drive" / "secret"
    secret.write_text("for root only")
    secret.chmod(0o600)
    spec = replace(site.spec("bait", "sh", "-c", f"cd /work/drive/Jobs/test/bait; {bait}"), mounts=(Mount("drive", "/work/drive", False),))
    await site.backend.submit(spec)
    found = await site.ended("bait")
    if os.geteuid() != 0 and "secret" in bait:
        pytest.skip("every file is the server's own user's")
    assert found.replicas[0].exit_code == 0
    assert (site.work("bait") / "stdout.txt").read_text() in {"for root only", "other"}
    assert await site.output("bait") == ""


async def test_the_output_folder_is_made_without_following_links(site: LocalSite) -> None:
    """A link on the way (left by somebody with access to the drives) fails the start; nothing is written behind it."""
    elsewhere = site.folder / "elsewhere"
    elsewhere.mkdir()
    (site.drives / "drive").symlink_to(elsewhere)
    found, _ = await site.run("job", "true")
    assert found.replicas[0].end is End.START_FAILED
    assert list(elsewhere.iterdir()) == []
