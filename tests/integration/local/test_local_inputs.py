"""Inputs and what somebody could try with them: links, races, odd files, kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.local_site import LocalSite, processes_of
from serai_backends.common import beneath
from serai_backends.model import End, JobObservation, Mount, Why

if TYPE_CHECKING:
    from collections.abc import Callable

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="as a plain user all jobs have the server's own rights")


async def run(site: LocalSite, line: str, *mounts: Mount, job_id: str = "job") -> tuple[JobObservation, str]:
    await site.backend.submit(replace(site.spec(job_id, "sh", "-c", line), mounts=mounts))
    found = await site.ended(job_id)
    return found, await site.output(job_id)


def cause(found: JobObservation) -> tuple[End | None, Why, str]:
    return found.replicas[0].end, found.replicas[0].why, found.replicas[0].cause


BAITS: dict[str, Callable[[LocalSite, Path], object]] = {
    "a link to the host": lambda _, bait: bait.symlink_to("/etc/passwd"),
    "a link to a folder of the host": lambda _, bait: bait.symlink_to("/etc"),
    "a link that climbs": lambda _, bait: bait.symlink_to("../../../../../../etc/passwd"),
    "a link to another drive": lambda site, bait: bait.symlink_to(site.drives / "other" / "file"),
    "a link that climbs to another drive": lambda _, bait: bait.symlink_to("../../other/file"),
    "a magic link": lambda _, bait: bait.symlink_to("/proc/self/root/etc/passwd"),
    "a magic link to a descriptor": lambda _, bait: bait.symlink_to("/proc/self/fd/0"),
    "links in a circle": lambda _, bait: bait.symlink_to("bait"),
    "a chain of links that leaves": lambda _, bait: (bait.symlink_to("next"), (bait.parent / "next").symlink_to("../../../etc")),
    "a FIFO": lambda _, bait: os.mkfifo(bait),
    "a socket": lambda _, bait: os.mknod(bait, 0o140644),
}


@pytest.mark.parametrize("bait", BAITS)
@pytest.mark.parametrize("walk", [False, True])
async def test_baits_are_refused(site: LocalSite, bait: str, walk: bool) -> None:
    """Each is INPUT_FORBIDDEN, at once (a FIFO never blocks), by openat2 and by the walk of older kernels."""
    site.put("other/file")
    folder = site.put("drive/data/file").parent
    BAITS[bait](site, folder / "bait")
    if walk:
        root = os.open(site.drives / "drive", os.O_RDONLY)
        try:
            fd = beneath.walk_beneath(root, "data/bait")
        except OSError:
            return
        finally:
            os.close(root)
        assert bait in {"a FIFO", "a socket"}  # opened by path only, and refused by its kind
        os.close(fd)
        return
    found, text = await run(site, "cat bait", Mount("drive/data/bait", "/work/bait"))
    assert (cause(found), text) == ((End.START_FAILED, Why.INPUT_FORBIDDEN, "/drive/data/bait"), "")
    assert list(site.work("job").iterdir()) == [] if site.work("job").exists() else True


@ONLY_ROOT
async def test_a_device_is_refused(site: LocalSite) -> None:
    """Nobody reads the disk through a drive."""
    site.put("drive/data/file")
    os.mknod(site.drives / "drive" / "data" / "disk", 0o60666, os.makedev(1, 3))
    found, _ = await run(site, "true", Mount("drive/data/disk", "/work/disk"))
    assert cause(found) == (End.START_FAILED, Why.INPUT_FORBIDDEN, "/drive/data/disk")


async def test_links_that_stay_in_the_drive_are_followed(site: LocalSite) -> None:
    """Also those that go up and down again."""
    folder = site.put("drive/data/file", "found\n").parent
    (folder / "link").symlink_to("../data/file")
    (site.drives / "drive" / "way").symlink_to("data")
    found, text = await run(site, "cat one two", Mount("drive/data/link", "/work/one"), Mount("drive/way/file", "/work/two"))
    assert (found.replicas[0].exit_code, text) == (0, "found\nfound\n")


async def test_a_drive_that_is_a_link_is_refused(site: LocalSite) -> None:
    """The drive's own root is no link."""
    (site.drives / "linked").symlink_to("/etc")
    found, _ = await run(site, "true", Mount("linked/passwd", "/work/x"))
    assert found.why is Why.INPUT_FORBIDDEN


async def test_links_inside_a_mounted_folder_stay_inside_the_sandbox(site: LocalSite) -> None:
    """They mean paths of the sandbox, whatever the host has there."""
    secret = site.folder / "secret"
    secret.write_text("the host's secret")
    folder = site.put("drive/data/file").parent
    for name, target in (("a", str(secret)), ("b", "../" * 9 + str(secret)), ("c", "/proc/1/root" + str(secret)), ("d", "/etc/shadow")):
        (folder / name).symlink_to(target)
    (folder / "e").symlink_to("/etc/ucloud/job_id.txt")
    found, text = await run(site, "cat in/a in/b in/c in/d 2> /dev/null; cat in/e", Mount("drive/data", "/work/in"))
    assert (found.replicas[0].exit_code, text) == (0, "job\n")


async def test_renames_while_jobs_start_show_nothing_else(site: LocalSite) -> None:
    """The input's folder is swapped for a link to a secret all the time: a job reads the input, or does not start."""
    secret = site.folder / "secret"
    secret.mkdir()
    (secret / "file").write_text("the host's secret")
    data = site.put("drive/data/file", "input").parent
    aside, bait = data.parent / "aside", data.parent / "bait"
    bait.symlink_to(secret)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            data.rename(aside)
            bait.rename(data)
            data.rename(bait)
            aside.rename(data)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        jobs = [f"job{number}" for number in range(24)]
        mounts = (Mount("drive/data/file", "/work/one"), Mount("drive/data", "/work/two"))
        for job_id in jobs:
            await site.backend.submit(replace(site.spec(job_id, "sh", "-c", "cat one two/file"), mounts=mounts))
        ends = [await site.ended(job_id) for job_id in jobs]
    finally:
        stop.set()
        thread.join()
    for found in ends:
        text = await site.output(found.job_id)
        if found.replicas[0].end is End.EXITED:
            # the folder may lie aside by now; the descriptor is the folder's all the same
            assert text == "inputinput", found
        else:
            assert found.why in {Why.INPUT_MISSING, Why.INPUT_FORBIDDEN, Why.MOUNT_FAILED}, found
            assert text == ""


@ONLY_ROOT
@pytest.mark.parametrize(
    ("mode", "read_only", "allowed"), [(0o600, True, False), (0o644, True, True), (0o644, False, False), (0o646, False, True)]
)
async def test_rights_are_those_of_the_jobs_user(site: LocalSite, mode: int, read_only: bool, allowed: bool) -> None:
    """Somebody else's file in the drive: what its mode says, though the server may read everything."""
    file = site.put("drive/theirs", "theirs\n", mode)
    os.chown(file, 4321, 4321)
    found, text = await run(site, "cat in", Mount("drive/theirs", "/work/in", read_only=read_only))
    if allowed:
        assert (found.replicas[0].exit_code, text) == (0, "theirs\n")
    else:
        assert cause(found) == (End.START_FAILED, Why.INPUT_FORBIDDEN, "/drive/theirs")


@ONLY_ROOT
async def test_another_drive_is_read_where_its_modes_allow(site: LocalSite) -> None:
    """Drives belong to different users: what others may read can be an input, what they may not cannot."""
    await site.backend.submit(site.spec("first", "sh", "-c", "echo open > open; umask 077; echo closed > closed", drive="theirs"))
    await site.ended("first")
    base = "theirs/Jobs/test/first"
    found, text = await run(site, "cat in", Mount(f"{base}/open", "/work/in", read_only=True), job_id="second")
    assert (found.replicas[0].exit_code, text) == (0, "open\n")
    found, _ = await run(site, "cat in", Mount(f"{base}/closed", "/work/in", read_only=True), job_id="third")
    assert found.why is Why.INPUT_FORBIDDEN


async def test_mount_points_go_with_the_job(site: LocalSite) -> None:
    """Empty ones are removed before the end is told, nested ones too; what was there before stays."""
    site.put("drive/data/file", "input")
    site.put("drive/Jobs/test/job/there/kept", "mine")
    mounts = (
        Mount("drive/data", "/work/folder"),
        Mount("drive/data/file", "/work/deep/er/file"),
        Mount("drive/data", "/work/there", read_only=True),
    )
    found, text = await run(site, "ls folder deep/er there", *mounts)
    assert found.replicas[0].exit_code == 0, text
    assert sorted(path.name for path in site.work("job").iterdir()) == ["stderr.txt", "stdout.txt", "there"]
    assert (site.work("job") / "there" / "kept").read_text() == "mine"


@pytest.mark.parametrize(("there", "words"), [("folder", "is not a file"), ("link", "a link"), ("file", "")])
async def test_something_else_in_the_place_of_the_mount_point(site: LocalSite, there: str, words: str) -> None:
    """A folder where a file goes, a link: MOUNT_FAILED in words. A file: covered, and as it was afterwards."""
    site.put("drive/data/file", "input")
    place = site.put("drive/Jobs/test/job/name", "mine")
    if there != "file":
        place.unlink()
        place.mkdir() if there == "folder" else place.symlink_to("/etc/passwd")
    found, text = await run(site, "cat name", Mount("drive/data/file", "/work/name"))
    if there == "file":
        assert (found.replicas[0].exit_code, text, place.read_text()) == (0, "input", "mine")
    else:
        assert found.why is Why.MOUNT_FAILED
        assert words in found.reason


async def test_mount_points_of_a_killed_job_are_removed(site: LocalSite) -> None:
    """The supervisor is killed: the server removes the empty mount points when it writes the job off."""
    site.put("drive/data/file", "input")
    mounts = (Mount("drive/data", "/work/folder"), Mount("drive/data/file", "/work/file"))
    await site.backend.submit(replace(site.spec("job", "sleep", "600"), mounts=mounts))
    await site.running("job")
    assert {path.name for path in site.work("job").iterdir()} >= {"folder", "file"}
    os.kill(_supervisor(site, "job"), signal.SIGKILL)
    assert (await site.ended("job")).replicas[0].end is End.LOST
    assert {path.name for path in site.work("job").iterdir()} == {"stderr.txt", "stdout.txt"}


async def test_mount_points_that_nobody_removed_go_when_the_job_is_forgotten(site: LocalSite) -> None:
    """As after a kill between the last word of the journal and the clearing; and they hold nothing of anybody."""
    site.put("drive/data/file", "input")
    found, _ = await run(site, "true", Mount("drive/data", "/work/folder"), Mount("drive/data/file", "/work/file"))
    assert found.replicas[0].exit_code == 0
    (site.work("job") / "folder").mkdir()
    (site.work("job") / "file").write_text("the user's by now")
    await site.backend.forget("job")
    assert {path.name for path in site.work("job").iterdir()} == {"stderr.txt", "stdout.txt", "file"}


def _supervisor(site: LocalSite, job_id: str) -> int:
    return int(json.loads((site.state(job_id) / "begun").read_text())["pid"])


async def test_inputs_of_mapped_drives(tmp_path: Path) -> None:
    """A drive that the settings map elsewhere: its inputs and nothing beside it; also as the output's drive."""
    home = tmp_path / "elsewhere" / "home"
    home.mkdir(parents=True)
    (home / "file").write_text("mapped\n")
    (tmp_path / "elsewhere" / "secret").write_text("beside")
    site = LocalSite(tmp_path, drives={"mine": str(home)})
    if os.geteuid() == 0:
        os.chown(home, site.settings.uid_first + 5, site.settings.uid_first + 5)
        os.chown(home / "file", site.settings.uid_first + 5, site.settings.uid_first + 5)
    await site.open()
    spec = replace(site.spec("job", "sh", "-c", "cat in", drive="mine"), mounts=(Mount("mine/file", "/work/in"),))
    await site.backend.submit(spec)
    assert (await site.ended("job")).replicas[0].exit_code == 0
    assert await site.output("job") == "mapped\n"
    assert (home / "Jobs" / "test" / "job" / "stdout.txt").read_text() == "mapped\n"
    found, _ = await run(site, "true", Mount("mine/../secret", "/work/in"), job_id="bad")
    assert found.why is Why.INPUT_FORBIDDEN
    await site.clear()


async def test_a_start_that_is_repeated_finds_its_own_traces(tmp_path: Path) -> None:
    """The launcher is killed after it made mount points, files and logs: the next attempt goes on and the job runs once."""
    site = LocalSite(tmp_path)
    await site.open()
    site.put("drive/data/file", "input")
    mounts = (Mount("drive/data", "/work/folder"), Mount("drive/data/file", "/work/file"))
    for number in range(6):
        job_id = f"job{number}"
        spec = replace(
            site.spec(job_id, "sh", "-c", "echo run >> runs; cat file folder/file facts"), mounts=mounts, files=(("facts", "f\n"),)
        )
        await site.backend.submit(spec)
        await asyncio.sleep(number * 0.008)
        for pid in processes_of(str(site.state(job_id)))[:1]:
            os.kill(pid, signal.SIGKILL)
        found = await site.ended(job_id)
        if found.replicas[0].end is End.EXITED:
            assert await site.output(job_id) == "inputinputf\n"
            assert (site.work(job_id) / "runs").read_text() == "run\n"
        assert not (site.work(job_id) / "folder").exists()
    await site.clear()
