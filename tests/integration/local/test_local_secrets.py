"""Secrets of jobs on this machine: who could get at them on their way, and what kills leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.local_site import LocalSite, until
from serai_backends.local.supervisor.secrets import lay, seal
from serai_backends.model import Phase, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serai_backends.model import ReplicaSpec

CANARY = b"canary-77c0a1"
FILE = "/etc/ucloud/secrets/key"
PLAIN_UID = 54_321
WAITS = f"cksum < {FILE}; until [ -e go ]; do sleep 0.02; done"

DRIVER = textwrap.dedent("""
    import asyncio, json, sys
    from serai_backends.local.backend import open_local
    from serai_backends.local.settings import LocalSettings
    from serai_backends.model import ReplicaSpec, Resources, Secret
    task = json.load(sys.stdin)
    async def source(job_id):
        print("asked", job_id, flush=True)
        if task["hangs"]:
            await asyncio.Event().wait()
        return (Secret("key", task["content"].encode()),)
    async def main():
        async with await open_local(LocalSettings(**task["settings"])) as backend:
            backend.take_secrets_from(source)
            await backend.submit(ReplicaSpec(job_id="job", replicas=2, argv=("sh", "-c", task["line"]), environment=(),
                resources=Resources(cpu=1, memory_bytes=0), output_folder="drive/Jobs/test/job", secrets=("key",)))
            async for event in backend.watch():
                print(event.observation.phase.value, flush=True)
                if event.observation.phase.value == "ended":
                    return
    asyncio.run(main())
""")


def keyed(site: LocalSite, line: str, content: bytes = CANARY, replicas: int = 1) -> ReplicaSpec:
    async def source(_job_id: str) -> tuple[Secret, ...]:
        return (Secret("key", content),)

    site.backend.take_secrets_from(source)
    return replace(site.spec("job", "sh", "-c", line, replicas=replicas), secrets=("key",))


def supervisor_of(site: LocalSite) -> int:
    return int(json.loads((site.state("job") / "begun").read_text())["pid"])


def core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.removeprefix("Max core file size").split()[:2] for line in lines if line.startswith("Max core"))


def memory_of(pid: int) -> Iterator[bytes]:
    """Every page of a process that can be read."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            first, last = (int(word, 16) for word in line.split(" ")[0].split("-"))
            try:
                memory.seek(first)
                yield memory.read(last - first) or b""
            except (OSError, OverflowError, ValueError):  # [vvar] and its like
                continue


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of other processes")
async def test_the_supervisor_keeps_nothing(site: LocalSite) -> None:
    """While the job runs: no copy in the supervisor's memory, no descriptor of the file that it came in, and no core of it ever."""
    await site.backend.submit(keyed(site, WAITS))
    await site.running("job")
    pid = supervisor_of(site)
    assert not any(CANARY in part for part in memory_of(pid))
    assert not [name for name in os.listdir(f"/proc/{pid}/fd") if "memfd" in os.readlink(f"/proc/{pid}/fd/{name}")]  # noqa: PTH115, PTH208 - of /proc
    assert core_limit(pid) == ["0", "0"]
    (site.work("job") / "go").touch()
    assert (await site.ended("job")).replicas[0].exit_code == 0


ATTACKS = {
    "write it": f"echo x > {FILE}",
    "give it to all": f"chmod 444 {FILE}",
    "open its folder": "chmod 755 /etc/ucloud/secrets",
    "remove it": f"rm -f {FILE}",
    "lay another beside it": "touch /etc/ucloud/secrets/more",
    "mount over it": "mount -t tmpfs none /etc/ucloud/secrets",
    "find the file that it came in": "ls -l /proc/*/fd 2>/dev/null | grep memfd:serai",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_the_program_can_only_read_it(site: LocalSite, attack: str) -> None:
    """It is its own user's, and still neither changed nor replaced."""
    await site.backend.submit(keyed(site, f"({attack}) > said 2>&1 && exit 1; cat {FILE}"))
    found = await site.ended("job")
    assert (found.replicas[0].exit_code, await site.output("job")) == (0, CANARY.decode()), (site.work("job") / "said").read_text()


async def test_a_program_that_is_root_in_its_view_owns_them_too(site: LocalSite) -> None:
    """Mode 0400 and the owner are what that user sees as himself."""
    await site.backend.submit(replace(keyed(site, f"stat -c %u:%a {FILE}; cat {FILE}"), run_as_root=True))
    await site.ended("job")
    assert await site.output("job") == f"0:400\n{CANARY.decode()}"


async def test_the_file_that_it_comes_in_cannot_be_changed() -> None:
    """It is sealed; and what is not what the job names is not laid down."""
    fd = seal([("key", b"content"), ("more", b"")])
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    with pytest.raises(OSError, match="other secrets"):
        lay(fd, ["more", "key"])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


class Driver:
    """A server process in miniature."""

    def __init__(self, settings: dict[str, object], line: str, *, content: str, hangs: bool = False, uid: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, user=uid
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"settings": settings, "line": line, "content": content, "hangs": hangs}))
        self.process.stdin.close()
        self.said = self.process.stdout

    def until(self, last: str) -> list[str]:
        """The lines that it says, up to this one or its end."""
        lines: list[str] = []
        for line in self.said:
            lines.append(line)
            if line == last:
                break
        return lines

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.said.close()


async def test_a_server_that_is_killed_while_it_asks_asks_again(tmp_path: Path) -> None:
    """Nothing of the job has begun; the next server asks its own source, and the job runs once, with what that says."""
    site = LocalSite(tmp_path)
    settings: dict[str, object] = {"state_dir": site.settings.state_dir, "drives_dir": site.settings.drives_dir, "cpu": 4}
    driver = Driver(settings, f"cat {FILE} >> ran", content="old", hangs=True)
    try:
        said = await asyncio.to_thread(driver.until, "asked job\n")
        assert "asked job\n" in said
    finally:
        driver.kill()
    await site.open()
    try:
        assert not (site.state("job") / "begun").exists()
        found = await site.backend.inspect("job")
        assert found is not None and found.phase is Phase.WAITING
        keyed(site, "", b"new")
        assert (await site.ended("job")).replicas[0].exit_code == 0
        assert (site.work("job") / "ran").read_text() == "newnew"
    finally:
        await site.clear()


def plain_folder() -> Path:
    """Where a plain user may write, with the two folders that a backend needs."""
    folder = Path(tempfile.mkdtemp(prefix="serai-plain-"))
    folder.chmod(0o755)
    for name in ("state", "drives"):
        (folder / name).mkdir()
        os.chown(folder / name, PLAIN_UID, PLAIN_UID)
    return folder


def is_for_all() -> bool:
    """Whether a plain user can execute this interpreter and read the backends."""
    try:
        words = [sys.executable, "-c", "import serai_backends.local.backend"]
        return subprocess.run(words, user=PLAIN_UID, stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes a plain user; whoever is one sees the same by the other tests")
async def test_a_server_that_is_no_root_does_the_same() -> None:
    """The same bytes, mode and owner, and no copy in the supervisor."""
    if not is_for_all():
        pytest.skip("a plain user cannot execute this Python")
    folder = plain_folder()
    try:
        settings: dict[str, object] = {"state_dir": str(folder / "state"), "drives_dir": str(folder / "drives"), "cpu": 4}
        work = folder / "drives" / "drive" / "Jobs" / "test" / "job"
        driver = Driver(settings, f"stat -c %u:%a {FILE}; {WAITS}; cat {FILE}", content=CANARY.decode(), uid=PLAIN_UID)
        try:
            said = await asyncio.to_thread(driver.until, "running\n")
            if "cannot isolate" in "".join(said):
                pytest.skip("a plain user cannot isolate jobs here")
            pid = int(json.loads((folder / "state" / "jobs" / "job" / "begun").read_text())["pid"])
            assert not any(CANARY in part for part in memory_of(pid))
            (work / "go").touch()
            said = await asyncio.to_thread(driver.until, "ended\n")
            text = (work / "stdout.txt").read_text()
            assert text.startswith("1000:400\n") and text.endswith(CANARY.decode()), text
        finally:
            driver.kill()
    finally:
        shutil.rmtree(folder)


async def test_a_killed_supervisor_takes_them_along(site: LocalSite) -> None:
    """The job is lost as ever, and nothing of it is left in a process or a mount."""
    await site.backend.submit(keyed(site, WAITS))
    await site.running("job")
    os.kill(supervisor_of(site), 9)
    await site.ended("job")
    await until(lambda: not any(_holds(path) for path in Path("/proc").glob("[0-9]*/environ")), "no process has it")
    assert not [path for path in site.folder.rglob("*") if path.is_file() and _holds(path)]


def _holds(path: Path) -> bool:
    try:
        return CANARY in path.read_bytes()
    except OSError:
        return False
