"""The small parts of the local backend: queue, journal, files, system-call filter, words."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.common import files
from serai_backends.common.submission import is_job_id
from serai_backends.errors import SubmissionRefused
from serai_backends.local import journal
from serai_backends.local.folder import JobFolder
from serai_backends.local.places import Places
from serai_backends.local.probe import words_for as words_for_check
from serai_backends.local.queue import CapacityQueue, Need
from serai_backends.local.record import History
from serai_backends.local.submission import spec_of
from serai_backends.local.supervisor import seccomp
from serai_backends.local.supervisor.replica import words_for
from serai_backends.model import Mount, ReplicaSpec, Resources

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=30), st.randoms(use_true_random=False))
def test_the_queue_keeps_order_and_never_overbooks(needs: list[tuple[int, int]], chance: object) -> None:
    """Whatever ends when: jobs start in order of arrival, and what is used never exceeds what there is."""
    queue = CapacityQueue(cpu=4, memory_bytes=4)
    for number, (cpu, memory) in enumerate(needs):
        queue.add(str(number), Need(cpu, memory))
    started: list[str] = []
    running: list[str] = []
    while len(started) < len(needs) or running:
        while (job_id := queue.take()) is not None:
            started.append(job_id)
            running.append(job_id)
            assert queue.used.cpu <= 4
            assert queue.used.memory_bytes <= 4
        assert running, "the machine is empty and nothing starts"
        ended = running.pop(chance.randrange(len(running)))  # type: ignore[attr-defined]  # pyright: ignore
        queue.remove(ended)
    assert started == [str(number) for number in range(len(needs))]


@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 10_000)), max_size=3000))
def test_places_in_the_line(steps: list[tuple[str, int]]) -> None:
    """Whoever leaves from anywhere: each knows how many are before it, as a plain list would count them."""
    places, line = Places(), list[str]()
    for number, (step, which) in enumerate(steps):
        if step == "+" or not line:
            places.append(str(number))
            line.append(str(number))
        else:
            places.remove(line.pop(which % len(line)))
    asked = line[:: max(1, len(line) // 50)]
    assert [places.before(name) for name in asked] == [line.index(name) for name in asked]


def test_a_long_line_grows_and_is_counted() -> None:
    """Beyond its first room, with gaps."""
    places = Places(str(number) for number in range(900))
    for number in range(900, 5000):
        places.append(str(number))
    for number in range(0, 5000, 2):
        places.remove(str(number))
    assert [places.before(str(number)) for number in (1, 1001, 4999)] == [0, 500, 2499]


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 50)), max_size=12),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 50)), max_size=12),
)
def test_estimates_are_what_happens_when_all_use_their_limits_up(old: list[tuple[int, int, int]], new: list[tuple[int, int, int]]) -> None:
    """Played by hand, ms for ms: the same starts; whoever would wait for a job without a limit has no estimate."""
    queue = CapacityQueue(cpu=4, memory_bytes=4)
    for number, need in enumerate([*old, *new]):
        queue.add(str(number), Need(*need))
    while (job_id := queue.take()) is not None:
        queue.began(job_id, 0)
    waiting = queue.first(100)
    needs = dict(zip(map(str, range(100)), [Need(*need) for need in [*old, *new]], strict=False))
    running = {job_id: (needs[job_id].limit_ms or 10**9) for job_id in needs if job_id not in waiting}
    starts: dict[str, int] = {}
    for at in range(26 * 50):
        running = {job_id: end for job_id, end in running.items() if end > at}
        for job_id in [name for name in waiting if name not in starts]:
            held = [needs[name] for name in running]
            if sum(n.cpu for n in held) + needs[job_id].cpu > 4 or sum(n.memory_bytes for n in held) + needs[job_id].memory_bytes > 4:
                break
            starts[job_id] = at
            running[job_id] = at + (needs[job_id].limit_ms or 10**9)
    for job_id in waiting:
        told = queue.explain(job_id, 0)
        assert told is not None
        assert told.latest_start_ms == starts.get(job_id)


@given(st.integers(0, 400))
def test_a_torn_journal_keeps_its_whole_lines(cut: int) -> None:
    """Cut anywhere: every whole line is read, the rest is not."""
    lines = [journal.start(1, 0), journal.end(2, 0, "exited", code=3), journal.done(3)]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)[:cut]
    assert journal.parse(data) == lines[: data.count(b"\n")]


def test_a_torn_line_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    """After a power cut in mid-line the next writer's line stands alone."""
    (tmp_path / "journal").write_bytes(b'{"k":"start","rank":0,"at":1}\n{"k":"en')
    folder = os.open(tmp_path, files.DIRECTORY)
    fd = journal.open_journal(folder)
    journal.append(fd, [journal.done(2, "over")])
    history = History()
    history.add(JobFolder(tmp_path.parent, tmp_path.name).lines()[0])
    assert (history.starts, history.cause) == ({0: 1}, "over")
    os.close(fd)
    os.close(folder)


@pytest.mark.parametrize("path", ["", "/", "/etc", "a//b", "a/../b", ".", "..", "a/.", "a\0b", "x" * 256])
def test_paths_that_leave_their_root_are_refused(path: str) -> None:
    """Before anything is opened; as an output folder: SubmissionRefused."""
    with pytest.raises(files.UnsafePath):
        files.components(path)
    with pytest.raises(SubmissionRefused):
        spec_of(ReplicaSpec("job", 1, ("true",), (), Resources(1, 0), path), 1, 0)


@pytest.mark.parametrize("job_id", ["", ".", "..", ".x", "a/b", "a\0", "a b", "x" * 129, "ä", "a+b", "-a", "a\n"])
def test_ids_that_cannot_be_a_folder_are_refused(job_id: str) -> None:
    """A job id is a path component of harmless characters."""
    assert not is_job_id(job_id)
    with pytest.raises(SubmissionRefused):
        spec_of(ReplicaSpec(job_id, 1, ("true",), (), Resources(1, 0), "d/j"), 1, 0)


HALF = "\ud800"


PLAIN = ReplicaSpec("job", 1, ("true",), (), Resources(1, 0), "d/j")


@pytest.mark.parametrize(
    "spec",
    [
        replace(PLAIN, argv=("echo", HALF)),
        replace(PLAIN, environment=(("A", HALF),)),
        replace(PLAIN, environment=((HALF, "a"),)),
        replace(PLAIN, scripts=(HALF,)),
        replace(PLAIN, files=(("name", HALF),)),
        replace(PLAIN, files=((HALF, "text"),)),
        replace(PLAIN, mounts=(Mount(HALF, "/work/a", True),)),
        replace(PLAIN, mounts=(Mount("d/a", f"/work/{HALF}", True),)),
        replace(PLAIN, output_folder=f"d/{HALF}"),
    ],
)
def test_half_a_character_is_refused(spec: ReplicaSpec) -> None:
    """What no file and no argument can hold is refused in words, and not found when it is too late."""
    with pytest.raises(SubmissionRefused, match="UTF-8"):
        spec_of(spec, 1, 0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither as a folder on the way nor as the file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").symlink_to("real/file")
    os.mkfifo(tmp_path / "fifo")
    root = os.open(tmp_path, files.DIRECTORY)
    try:
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            files.open_folder(root, "link")
        with pytest.raises(OSError, match="symbolic"):
            files.open_regular(root, "file", os.O_RDONLY)
        with pytest.raises(files.UnsafePath):
            files.open_regular(root, "fifo", os.O_RDONLY)
    finally:
        os.close(root)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_lands_inside(machine: str) -> None:
    """A classic BPF program: forward jumps only, each to an instruction, and the last one returns."""
    program = seccomp.program(machine)
    assert program is not None
    steps = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    for at, (code, if_true, if_false, _) in enumerate(steps):
        if code & 0x07 == 0x05:
            assert at + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06


def test_no_filter_for_unknown_processors() -> None:
    """Then jobs are refused rather than run without one."""
    assert seccomp.program("riscv64") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bwrap: execvp acme: No such file or directory", ("command_not_found", "acme")),
        ("bwrap: execvp ./a: b: Permission denied", ("command_not_executable", "./a: b")),
        ("bwrap: execvp a: Exec format error", ("command_not_executable", "a")),
        ("bwrap: execvp a: Argument list too long", ("", "program a could not be started: Argument list too long")),
        ("bwrap: Can't chdir to /work: x", ("sandbox_failed", "Can't chdir to /work: x")),
        ("", ("sandbox_failed", "no word from bubblewrap")),
    ],
)
def test_bubblewraps_words_become_causes(text: str, words: tuple[str, str]) -> None:
    """Why the program did not start, and its detail."""
    assert words_for(text) == words


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("unshare: Operation not permitted", "user namespaces are blocked"),
        ("unshare: No space left on device", "user namespaces are switched off"),
        ("Can't mount proc on /newroot/proc: Operation not permitted", "masked /proc"),
    ],
)
def test_the_checks_words_name_the_cause(cause: str, words: str) -> None:
    """What an operator can act on."""
    assert words_for_check(cause).startswith(words)


@pytest.mark.parametrize(("ends", "over_ms", "how"), [((100, 300), 300, "exited"), ((100,), 900, "lost")])
def test_a_job_is_over_when_its_last_rank_ended(tmp_path: Path, ends: tuple[int, ...], over_ms: int, how: str) -> None:
    """A supervisor that died between its last rank's end and its last word: the job's end, and so its bill, is that of the rank, however
    late that is found. Where a rank's end is not known, it is when its loss was found."""
    folder = JobFolder(tmp_path, "job")
    folder.path.mkdir()
    (folder.path / "spec.json").write_text('{"replicas": 2}')
    fd = folder.open()
    journal_fd = journal.open_journal(fd)
    journal.append(journal_fd, [journal.end(at_ms, rank, "exited", code=0) for rank, at_ms in enumerate(ends)])
    os.close(journal_fd)
    os.close(fd)
    assert folder.close_if_over(900, "lost", "nobody saw it")
    history = History()
    history.add(folder.lines()[0])
    assert history.done_at_ms == over_ms
    assert history.ends[1].get("end") == how
