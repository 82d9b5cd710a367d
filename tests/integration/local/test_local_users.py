"""Whose files a job can use: as root, each drive belongs to a user of the machine of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import textwrap
from pathlib import Path

import msgspec
import pytest
from fakes.local_site import LocalSite
from serai_backends.common.users import Users
from serai_backends.errors import BackendUnavailable
from serai_backends.local.settings import LocalSettings
from serai_backends.model import End, Stream

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a drive to a user of its own")
PEOPLES_UID = 1234


def in_range(settings: LocalSettings, uid: int) -> bool:
    return settings.uid_first <= uid < settings.uid_first + settings.uid_count


async def test_jobs_of_one_drive_can_change_each_others_files(site: LocalSite) -> None:
    """The drive and every folder on the way belong to one user, also after a restart and for the jobs that come later."""
    await site.run("first", "sh", "-c", "umask 077; echo secret > file; mkdir private; echo more > private/file")
    drive, work = site.drives / "drive", site.work("first")
    owner = drive.stat().st_uid
    assert in_range(site.settings, owner)
    on_the_way = (drive, drive / "Jobs", drive / "Jobs" / "test", work, work / "file", work / "private", work / "stdout.txt")
    assert {path.stat().st_uid for path in on_the_way} == {owner}
    await site.close()
    await site.open()
    await site.run("second", "true")
    assert site.work("second").stat().st_uid == owner


async def test_drives_belong_to_different_users(site: LocalSite) -> None:
    """Two drives at a time, neither root's; a third one later, when the others' jobs have ended, is not given one of theirs."""
    await asyncio.gather(*(site.backend.submit(site.spec(drive, "sleep", "600", drive=drive)) for drive in ("a", "b")))
    await asyncio.gather(site.running("a"), site.running("b"))
    for job_id in ("a", "b"):
        await site.backend.cancel(job_id)
        await site.ended(job_id)
    await site.backend.submit(site.spec("c", "true", drive="c"))
    await site.ended("c")
    owners = {(site.drives / drive).stat().st_uid for drive in ("a", "b", "c")}
    assert len(owners) == 3
    assert all(in_range(site.settings, owner) for owner in owners)
    assert (site.folder / "state").stat().st_mode & 0o777 == 0o700


async def test_a_drive_that_a_kill_left_half_made_is_taken_over(site: LocalSite) -> None:
    """Made and not yet given away: the next job of the drive goes on from there."""
    (site.drives / "drive").mkdir()
    found, _ = await site.run("job", "sh", "-c", "echo x > /work/y")
    assert found.replicas[0].exit_code == 0
    assert in_range(site.settings, (site.drives / "drive").stat().st_uid)


async def test_a_drive_elsewhere_is_never_given_away(tmp_path: Path) -> None:
    """A folder of a person of this machine, named by the settings: it stays theirs, and each job there has a user of its own."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, PEOPLES_UID, PEOPLES_UID)
    site = LocalSite(tmp_path, drives={"mine": str(home)})
    await site.open()
    for job_id in ("a", "b"):
        await site.backend.submit(site.spec(job_id, "sh", "-c", "echo hi", drive="mine"))
        assert (await site.ended(job_id)).replicas[0].exit_code == 0
        assert await site.output(job_id) == "hi\n"
    assert home.stat().st_uid == PEOPLES_UID
    assert not (site.drives / "mine").exists()
    owners = {(home / "Jobs" / "test" / job_id).stat().st_uid for job_id in ("a", "b")}
    assert len(owners) == 2
    assert all(in_range(site.settings, owner) for owner in owners)
    await site.clear()


async def test_a_drive_elsewhere_that_is_ours_keeps_its_user(tmp_path: Path) -> None:
    """Owned by a user of the range: that one runs its jobs."""
    home = tmp_path / "home"
    home.mkdir()
    site = LocalSite(tmp_path, drives={"mine": str(home)})
    os.chown(home, site.settings.uid_first + 77, site.settings.uid_first + 77)
    await site.open()
    await site.backend.submit(site.spec("job", "true", drive="mine"))
    await site.ended("job")
    assert (home / "Jobs" / "test" / "job").stat().st_uid == site.settings.uid_first + 77
    await site.clear()


@pytest.mark.parametrize("what", ["folder", "log"])
async def test_what_belongs_to_somebody_else_is_not_given_to_a_job(site: LocalSite, what: str) -> None:
    """A folder or file of root's in the place of the job's own (jobs of the drive can move things there): the start fails in words."""
    work = site.work("job")
    work.mkdir(parents=True)
    if what == "folder":
        (work / "theirs").write_text("root's")
    else:
        await site.run("other", "true")
        os.chown(work, (site.drives / "drive").stat().st_uid, -1)
        (work / "stdout.txt").write_text("root's")
    found, _ = await site.run("job", "true")
    assert found.replicas[0].end is End.START_FAILED
    assert "belongs to another user" in found.replicas[0].cause
    assert {path.stat().st_uid for path in work.iterdir()} <= {0, work.stat().st_uid}
    assert not any(path.stat().st_uid for path in work.iterdir() if path.read_text() == "root's")


async def test_jobs_of_one_user_cannot_reach_each_other(site: LocalSite) -> None:
    """Same drive, same user of the machine: neither signals, nor ptrace, nor /proc, nor files, sockets or shared memory of the other."""
    victim = """
        import os, socket, mmap, time
        s = socket.socket(socket.AF_UNIX); s.bind("\\0victim"); s.listen()
        os.makedirs("/dev/shm/victim"); open("/tmp/victim", "w").write("x")
        open("/work/secret", "w").write("x")
        print("up", flush=True)
        time.sleep(600)
    """
    await site.backend.submit(site.spec("victim", "/usr/bin/python3", "-c", textwrap.dedent(victim)))
    async for _ in site.backend.logs("victim", 0, Stream.STDOUT, follow=True):
        break
    uid = site.work("victim").stat().st_uid
    theirs = _processes(uid)
    assert len(theirs) >= 3
    attack = f"""
        import ctypes, glob, os, signal, socket
        libc, seen = ctypes.CDLL(None, use_errno=True), []
        own = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
        for pid in set({theirs}) | set(range(2, 400)):
            if pid in own: continue
            try: os.kill(pid, 0); seen.append(f"signal {{pid}}")
            except ProcessLookupError: pass
            if libc.ptrace(16, pid, 0, 0) == 0: seen.append(f"ptrace {{pid}}")
            for name in ("root", "cwd", "mem", "environ", "fd", "ns/net"):
                if os.path.lexists(f"/proc/{{pid}}/{{name}}"): seen.append(f"/proc/{{pid}}/{{name}}")
        for path in ("/work/../victim", "/work/secret", "/tmp/victim", "/dev/shm/victim", "/proc/1/root/work/../victim/secret"):
            if os.path.exists(path): seen.append(path)
        s = socket.socket(socket.AF_UNIX)
        try: s.connect("\\0victim"); seen.append("socket")
        except OSError: pass
        try: os.kill(-1, signal.SIGCONT)
        except OSError: pass
        print(seen, len(own))
    """
    found, text = await site.run("attack", "/usr/bin/python3", "-c", textwrap.dedent(attack))
    assert site.work("attack").stat().st_uid == uid
    assert found.replicas[0].exit_code == 0, await site.output("attack", stream=Stream.STDERR)
    assert text.startswith("[] "), text
    assert (await site.running("victim")).ended_at_ms is None


def _processes(uid: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(int(entry.name))
    return found


def test_no_user_is_left(tmp_path: Path) -> None:
    """Every user of the range owns a drive or runs a job: in words, and nothing is given away twice."""
    settings = LocalSettings(state_dir=str(tmp_path), drives_dir=str(tmp_path / "drives"), uid_count=2)
    (tmp_path / "drives").mkdir()
    users = Users(settings)
    first = users.choose("a", set())
    assert users.choose("a", {first}) == first
    second = users.choose("b", set())
    assert {first, second} == {settings.uid_first, settings.uid_first + 1}
    with pytest.raises(BackendUnavailable, match="uid_count"):
        users.choose("c", set())


@pytest.mark.parametrize("drives", [{"..": "/x"}, {"a/b": "/x"}, {"": "/x"}, {"a": "x"}])
def test_odd_drives_are_refused(drives: dict[str, str]) -> None:
    """An id that is no single name, a folder that is not absolute."""
    with pytest.raises(msgspec.ValidationError, match="drive"):
        msgspec.convert({"state_dir": "s", "drives_dir": "d", "drives": drives}, LocalSettings)
