"""Why jobs ended: each cause provoked, with its kind and its detail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes.local_site import LocalSite, processes_of, until
from serai_backends.model import End, Why

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A drive with room for a handful of files; as root only."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=6", "tiny", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("rest", ["a/b/c/d/e/f", "a"])
async def test_a_full_drive(tmp_path: Path, tiny: Path, rest: str) -> None:
    """No room for the folders, or for the logs of all ranks: every rank START_FAILED, NO_SPACE, and the next job of another drive runs."""
    site = LocalSite(tmp_path, drives={"tiny": str(tiny)})
    await site.open()
    await site.backend.submit(replace(site.spec("job", "true", replicas=3), output_folder=f"tiny/{rest}"))
    found = await site.ended("job")
    assert {(r.end, r.why, r.cause) for r in found.replicas} == {(End.START_FAILED, Why.NO_SPACE, "the job's drive")}
    assert (found.why, found.reason) == (Why.NO_SPACE, "the job's drive")
    assert (await site.run("other", "true"))[0].replicas[0].exit_code == 0
    await site.clear()


async def test_a_sandbox_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder of programs that went away after the server was opened: SANDBOX_FAILED with what the machine said."""
    programs = tmp_path / "programs"
    programs.mkdir()
    site = LocalSite(tmp_path, program_dirs=(str(programs),))
    await site.open()
    programs.rmdir()
    found, _ = await site.run("job", "true")
    assert (found.replicas[0].end, found.why) == (End.START_FAILED, Why.SANDBOX_FAILED)
    assert "No such file or directory" in found.reason
    await site.clear()


async def test_a_supervisor_that_fails_before_the_first_replica(tmp_path: Path) -> None:
    """Whatever goes wrong in it is told, and nobody is said to have ended it: here its stored script is half a character."""
    site = LocalSite(tmp_path, cpu=1)
    await site.open()
    await site.backend.submit(site.spec("first", "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"))
    await site.running("first")
    await site.backend.submit(site.spec("job", "true"))
    stored = site.state("job") / "spec.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"scripts": ["\ud800"]}))
    (site.work("first") / "go").touch()
    found = await site.ended("job")
    assert (found.replicas[0].end, found.why) == (End.START_FAILED, Why.SANDBOX_FAILED)
    assert "UnicodeEncodeError" in found.reason
    await site.clear()


async def test_a_machine_that_was_restarted(tmp_path: Path) -> None:
    """The job had begun in another boot: LOST, and the machine's name."""
    site = LocalSite(tmp_path)
    await site.open()
    await site.backend.submit(site.spec("job", "sleep", "600"))
    await site.running("job")
    await site.close()
    begun = json.loads((site.state("job") / "begun").read_text())
    os.kill(begun["pid"], 9)
    (site.state("job") / "begun").write_text(json.dumps(begun | {"boot_id": "another"}))
    await site.open()
    found = await site.ended("job")
    assert (found.replicas[0].end, found.why, found.reason) == (End.LOST, Why.NODE_RESTARTED, socket.gethostname())
    await site.clear()


async def test_a_sandbox_that_somebody_killed(site: LocalSite) -> None:
    """One rank's sandbox is ended from outside: that rank is LOST, KILLED_FROM_OUTSIDE; the other goes on."""
    mark = f"5{os.getpid()}"
    await site.backend.submit(site.spec("job", "sleep", mark, replicas=2))
    await site.running("job")
    await until(lambda: len(processes_of(mark)) == 6, "two sandboxes of three processes each")
    os.kill(min(processes_of(mark)), 9)
    found = await site.observed("job", lambda found: any(replica.end for replica in found.replicas))
    ended = [replica for replica in found.replicas if replica.end]
    assert [(r.end, r.why, r.cause) for r in ended] == [(End.LOST, Why.KILLED_FROM_OUTSIDE, f"the sandbox of rank {ended[0].rank}")]


async def test_a_child_over_the_memory_limit(site: LocalSite) -> None:
    """The program survives and ends by itself: its own end, with the remark."""
    if not site.backend.machine.cgroups:
        pytest.skip("memory limits are soft here")
    eat = "/usr/bin/python3 -c 'b = bytearray()\nwhile True: b += b\"x\" * (8 << 20)'; exit 5"
    found, _ = await site.run("job", "sh", "-c", eat, memory_bytes=100 << 20)
    replica = found.replicas[0]
    assert (replica.end, replica.exit_code, replica.why, replica.cause) == (End.EXITED, 5, Why.CHILD_OUT_OF_MEMORY, "")


async def test_a_file_over_its_limit_is_a_signal(site: LocalSite) -> None:
    """SIGXFSZ that a program gave itself is a signal like any other."""
    found, _ = await site.run("job", "bash", "-c", "ulimit -f 1; head -c 999999 /dev/zero > big; kill -XFSZ $$")
    assert (found.replicas[0].end, found.replicas[0].signal, found.why) == (End.SIGNALED, 25, Why.NONE)
