"""What a replica finds inside, and what the machine finds when it has gone."""

from __future__ import annotations

import os
import textwrap
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from fakes.local_site import LocalSite, processes_of
from serai_backends.clock import SteadyClock
from serai_backends.errors import BackendUnavailable
from serai_backends.local.backend import open_local
from serai_backends.local.limits import prefix
from serai_backends.local.settings import LocalSettings
from serai_backends.model import End, ReplicaSpec, Resources, Stream, Waiting, Why


async def test_the_facts_of_each_rank(site: LocalSite) -> None:
    """One line and a newline in each file of /etc/ucloud; the host name; the variables; /work."""
    show = "cd /etc/ucloud; for f in *.txt; do echo $f=$(wc -l < $f):$(cat $f); done; hostname; pwd; echo $GREETING; echo $HOME; id -u"
    spec = ReplicaSpec(
        job_id="job",
        replicas=3,
        argv=("sh", "-c", show),
        environment=(("GREETING", "a b=c '$x'"),),
        resources=Resources(cpu=2, memory_bytes=0),
        output_folder="drive/Jobs/test/job",
    )
    await site.backend.submit(spec)
    await site.ended("job")
    block = (await site.ended("job")).replicas[0].address.rpartition(".")[0]
    assert block.startswith("10.")
    for rank in range(3):
        lines = (await site.output("job", rank)).splitlines()
        assert lines == [
            "cores.txt=1:2",
            "job_id.txt=1:job",
            f"node-0.txt=1:{block}.1",
            f"node-1.txt=1:{block}.2",
            f"node-2.txt=1:{block}.3",
            "nodes.txt=3:node-0 node-1 node-2",
            "number_of_nodes.txt=1:3",
            f"rank.txt=1:{rank}",
            f"node-{rank}",
            "/etc/ucloud",
            "a b=c '$x'",
            "/work",
            "1000",
        ]


async def test_arguments_arrive_as_they_are(site: LocalSite) -> None:
    """No shell reads them; odd bytes, empty words and 100 KiB included."""
    words = ("$HOME", "", "a  b", "'", '"', "-x", "--", "*", "ä\n", "x" * 100_000)
    show = "import sys; sys.stdout.buffer.write(b'\\0'.join(w.encode() for w in sys.argv[1:]))"
    _, text = await site.run("job", "/usr/bin/python3", "-c", show, *words)
    assert tuple(text.split("\0")) == words


async def test_replicas_reach_each_other_by_name(site: LocalSite) -> None:
    """Rank 1 talks to rank 0 by its host name; nothing of it is heard outside."""
    talk = textwrap.dedent("""
        import socket, time
        rank = int(open("/etc/ucloud/rank.txt").read())
        if rank == 0:
            server = socket.create_server(("node-0", 7000))
            server.accept()[0].sendall(b"hello from rank 0")
        else:
            while True:
                try:
                    print(socket.create_connection(("node-0", 7000)).recv(99).decode())
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
    """)
    await site.backend.submit(site.spec("job", "/usr/bin/python3", "-c", talk, replicas=2))
    assert [replica.exit_code for replica in (await site.ended("job")).replicas] == [0, 0]
    assert await site.output("job", 1) == "hello from rank 0\n"


async def test_ordinary_habits_of_programs(site: LocalSite) -> None:
    """/dev/stdout and /dev/stderr can be opened, a closed pipe ends a writer (SIGPIPE), stdin is empty, /tmp is writable and private."""
    line = "cat; echo one >> /dev/stdout; echo two >> /dev/stderr; yes | head -1; echo ${PIPESTATUS[0]}; echo x > /tmp/x && cat /tmp/x"
    found, text = await site.run("job", "bash", "-c", line)
    assert (found.replicas[0].exit_code, text) == (0, "one\ny\n141\nx\n")
    assert await site.output("job", stream=Stream.STDERR) == "two\n"


async def test_programs_of_the_machine_stand_in_for_images(tmp_path: Path) -> None:
    """A program of `program_dirs` is found by name before others, is read-only, and may lie where only root can look."""
    programs = tmp_path / "private" / "programs"
    programs.mkdir(parents=True)
    (programs / "acme").write_text("#!/bin/sh\necho acme $1\ntouch /opt/serai/bin/x || exit 5\n")
    (programs / "acme").chmod(0o755)
    (tmp_path / "private").chmod(0o700)
    site = LocalSite(tmp_path, program_dirs=(str(programs),))
    await site.open()
    found, text = await site.run("job", "acme", "batch")
    assert (found.replicas[0].exit_code, text) == (5, "acme batch\n")
    await site.clear()


async def test_a_file_that_may_not_be_executed(site: LocalSite) -> None:
    """START_FAILED with the program as the detail, stderr is left empty."""
    found, _ = await site.run("job", "/etc/passwd")
    assert found.replicas[0].end is End.START_FAILED
    assert (found.replicas[0].why, found.replicas[0].cause) == (Why.COMMAND_NOT_EXECUTABLE, "/etc/passwd")
    assert await site.output("job", stream=Stream.STDERR) == ""


async def test_many_replicas(site: LocalSite) -> None:
    """Forty start, write to their own logs and end; none is left."""
    mark = f"8{os.getpid()}"
    await site.backend.submit(site.spec("job", "sh", "-c", f"cat /etc/ucloud/rank.txt; exec sleep {mark}", replicas=40))
    await site.running("job")
    await site.backend.cancel("job", grace_ms=60_000)
    found = await site.ended("job")
    assert {replica.end for replica in found.replicas} == {End.CANCELED}
    assert processes_of(mark) == []
    assert [await site.output("job", rank) for rank in range(40)] == [f"{rank}\n" for rank in range(40)]


async def test_waiting_is_explained(site: LocalSite) -> None:
    """Cores, what is free of them, and the place in the queue; no words, the server has them."""
    await site.backend.submit(site.spec("first", "sleep", "600", cpu=63))
    await site.backend.submit(site.spec("second", "true", cpu=2))
    await site.backend.submit(site.spec("third", "true"))
    found = [await site.backend.inspect(job_id) for job_id in ("second", "third")]
    assert [one.reason for one in found if one] == ["", ""]
    free = 64 * 2**30 - (256 << 20)
    assert [one.waiting for one in found if one] == [
        Waiting(ahead=0, cpu=2, free_cpu=1, all_cpu=64, free_memory_bytes=free),
        Waiting(ahead=1, cpu=0, free_cpu=1, all_cpu=64, free_memory_bytes=free),
    ]


async def test_the_latest_start_is_estimated_from_limits(site: LocalSite) -> None:
    """The running job's limit, counted from when it began; another limit moves it; without one nobody knows."""
    await site.backend.submit(replace(site.spec("first", "sleep", "600", cpu=64), time_limit_ms=60_000))
    running = await site.running("first")
    assert running.running_since_ms is not None
    await site.backend.submit(replace(site.spec("second", "true", cpu=64), time_limit_ms=5_000))
    await site.backend.submit(site.spec("third", "true", cpu=64))
    await site.backend.submit(site.spec("fourth", "true"))

    async def starts() -> list[int | None]:
        found = [await site.backend.inspect(job_id) for job_id in ("second", "third", "fourth")]
        return [one.waiting.latest_start_ms for one in found if one and one.waiting]

    at_ms = running.running_since_ms + 60_000
    assert await starts() == [at_ms, at_ms + 5_000, None]
    site.backend.tell_limit("first", 90_000)
    assert await starts() == [at_ms + 30_000, at_ms + 35_000, None]
    site.backend.tell_limit("first", 0)
    assert await starts() == [None, None, None]


async def test_two_servers_cannot_use_one_state_folder(site: LocalSite) -> None:
    """The second is refused in words; after the first closed it may."""
    with pytest.raises(BackendUnavailable, match="another server uses the state folder"):
        await open_local(site.settings)
    await site.close()
    await site.open()


async def test_limits_are_taken_away_with_the_job(site: LocalSite) -> None:
    """The groups that a job had are gone when it has ended."""
    tree = site.backend.machine.cgroups
    if not tree:
        pytest.skip("no cgroups can be made here")
    await site.backend.submit(site.spec("job", "sh", "-c", "grep -c serai- /proc/self/cgroup; sleep 600"))
    await site.running("job")
    groups = [path for parent in tree.values() for path in Path(parent).glob(prefix(site.settings.state_dir) + "job+0")]  # noqa: ASYNC240 - no disk
    assert len(groups) == len(tree)
    await site.backend.cancel("job")
    await site.ended("job")
    assert [path for path in groups if path.exists()] == []


async def test_the_check_says_what_is_missing(tmp_path: Path) -> None:
    """No bubblewrap, no drives: errors in words; jobs are refused with the same words, and nothing is run unisolated."""
    settings = LocalSettings(state_dir=str(tmp_path / "state"), drives_dir=str(tmp_path / "none"), bwrap="/nonexistent/bwrap")
    async with await open_local(settings) as backend:
        report = await backend.check()
        assert not report.usable
        texts = [finding.text for finding in report.findings]
        assert any("bubblewrap is not installed" in text for text in texts)
        assert any("not a folder" in text for text in texts)
        spec = ReplicaSpec("job", 1, ("true",), (), Resources(1, 0), "drive/job")
        with pytest.raises(BackendUnavailable, match="cannot isolate jobs"):
            await backend.submit(spec)
        assert await backend.list() == []


def test_unsafe_settings_are_refused() -> None:
    """`allow_unisolated` is not built, and says so; unknown keys are refused."""
    with pytest.raises(msgspec.ValidationError, match="allow_unisolated"):
        msgspec.convert({"state_dir": "s", "drives_dir": "d", "allow_unisolated": True}, LocalSettings)
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.convert({"state_dir": "s", "drives_dir": "d", "surprise": 1}, LocalSettings)


async def test_times_are_of_the_clock_that_was_given(tmp_path: Path) -> None:
    """Starts and ends lie between what the server's clock says before and after, though it is years away from the wall clock."""
    clock = SteadyClock(offset_ms=5_000_000_000_000)
    site = LocalSite(tmp_path)
    await site.open(clock)
    before = clock.now_ms()
    found, _ = await site.run("job", "true")
    replica = found.replicas[0]
    assert found.running_since_ms is not None and found.ended_at_ms is not None and replica.ended_at_ms is not None
    assert before <= found.running_since_ms <= replica.ended_at_ms <= found.ended_at_ms <= clock.now_ms()
    await site.clear()
