"""The job's folder on the server: what is made, what is refused, and what an attacker with a running job on the same drive can do."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from serai_backends.model import Mount, ReplicaSpec, Resources, Why
from serai_backends.nomad.jobfile import CannotPrepare, JobFolders, Prepared
from serai_backends.nomad.jobfile.codes import FOLDER_NOT_OURS, GUARD_MS, NOT_BEGUN, NOT_FOUND, NOT_READY, RAN_BEFORE, START_MS, explain
from serai_backends.nomad.settings import NomadSettings, Placement

USER = 2_000_000_009
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")


@pytest.fixture
def settings(tmp_path: Path) -> NomadSettings:
    for name in ("drives/home/data", "drives/other", "mapped"):
        (tmp_path / name).mkdir(parents=True)
    if os.geteuid() == 0:
        for name in ("drives/home", "drives/home/data"):
            os.chown(tmp_path / name, USER, USER)
    return NomadSettings(
        state_dir=str(tmp_path / "state"), provider="p", drives_dir=str(tmp_path / "drives"), drives={"mapped": str(tmp_path / "mapped")}
    )


def spec(*mounts: Mount, drive: str = "home", replicas: int = 1, files: tuple[tuple[str, str], ...] = ()) -> ReplicaSpec:
    return ReplicaSpec(
        job_id="7",
        replicas=replicas,
        argv=("x",),
        environment=(),
        resources=Resources(1, 0),
        output_folder=f"{drive}/Jobs/title/7",
        mounts=mounts,
        files=files,
    )


def work(settings: NomadSettings) -> Path:
    return Path(settings.drives_dir, "home/Jobs/title/7")


def failure(settings: NomadSettings, *mounts: Mount) -> tuple[Why, str]:
    with pytest.raises(CannotPrepare) as refused:
        JobFolders(settings).prepare(spec(*mounts), set())
    return refused.value.why, refused.value.detail


def test_a_job_with_an_input_that_it_cannot_have_leaves_no_folders(settings: NomadSettings) -> None:
    """Neither on its drive nor a drive for an owner that nobody knows."""
    before = sorted(Path(settings.drives_dir).rglob("*"))
    for drive in ("home", "invented"):
        with pytest.raises(CannotPrepare):
            JobFolders(settings).prepare(spec(Mount("nowhere/file", "file", read_only=True), drive=drive), set())
    assert sorted(Path(settings.drives_dir).rglob("*")) == before


def test_all_is_there_and_the_users(settings: NomadSettings) -> None:
    """Logs of each rank, files, the proof; everything on the way belongs to the drive's user; a second time nothing changes."""
    described = spec(replicas=2, files=(("JobParameters.json", "{}"),))
    folders = JobFolders(settings)
    first = folders.prepare(described, set())
    (work(settings) / "JobParameters.json").write_text("mine")
    (work(settings) / "stdout.txt").write_text("said\n")
    assert (
        folders.prepare(described, set()) == first == (Prepared(USER, USER) if os.geteuid() == 0 else Prepared(os.geteuid(), os.getegid()))
    )
    names = {str(path.relative_to(work(settings))) for path in work(settings).rglob("*")}
    assert names == {"JobParameters.json", "stdout.txt", "stderr.txt", "stdout-1.txt", "stderr-1.txt", ".ucloud", ".ucloud/7"}
    assert (work(settings) / "JobParameters.json").read_text() == "mine"
    assert (work(settings) / "stdout.txt").read_text() == "said\n"
    mine = [
        Path(settings.drives_dir, "home/Jobs"),
        Path(settings.drives_dir, "home/Jobs/title"),
        work(settings),
        *work(settings).glob("[!.]*"),
    ]
    assert {path.stat().st_uid for path in [*mine, work(settings) / ".ucloud"]} == {first.uid}


@root_only
def test_a_mapped_drive_gives_each_job_a_user_that_stays(settings: NomadSettings) -> None:
    """The operator's drive is never given away; preparing again finds the same user."""
    first = JobFolders(settings).prepare(spec(drive="mapped"), set())
    assert first.uid is not None and first.uid >= settings.uid_first
    assert JobFolders(settings).prepare(spec(drive="mapped"), {first.uid}) == first
    assert Path(settings.drives["mapped"]).stat().st_uid == 0


def test_inputs_are_links_into_the_replicas_view_and_go_again(settings: NomadSettings) -> None:
    """What the user put in their place stays, and so do folders that hold anything else."""
    mounts = (Mount("home/data", "/work/a/b/in"), Mount("home/data", "/work/c/in", read_only=True), Mount("home/data", "/work/d"))
    folders = JobFolders(settings)
    folders.prepare(spec(*mounts), set())
    assert (work(settings) / "a/b/in").readlink() == Path("/run/ucloud/drives/rw/home/data")
    assert (work(settings) / "c/in").readlink() == Path("/run/ucloud/drives/ro/home/data")
    (work(settings) / "c/more").touch()
    (work(settings) / "d").unlink()
    (work(settings) / "d").mkdir()
    (work(settings) / ".ucloud/rank-0").mkdir()
    folders.tidy(spec(*mounts))
    folders.tidy(spec(*mounts))
    names = {str(path.relative_to(work(settings))) for path in work(settings).rglob("*")}
    assert names == {"c", "c/more", "d", "stdout.txt", "stderr.txt"}


def test_tidy_of_what_is_not_there_is_done(settings: NomadSettings) -> None:
    """The user may have removed the folder."""
    JobFolders(settings).tidy(spec())
    JobFolders(settings).prepare(spec(), set())
    shutil.rmtree(work(settings))
    JobFolders(settings).tidy(spec())


@pytest.mark.parametrize("source", ["home/none", "home/none/x", "none", "none/x", "home/file/below"])
def test_missing_inputs_are_named(settings: NomadSettings, source: str) -> None:
    """By the path that the user wrote; nothing is made."""
    Path(settings.drives_dir, "home/file").touch()
    assert failure(settings, Mount(source, "/work/x")) == (Why.INPUT_MISSING, f"/{source}")
    assert not work(settings).exists()


@pytest.mark.parametrize(
    "source",
    ["home/../other", "home/../../etc", "home//etc/passwd", "..", "../etc", ".", "", "/etc", "home/", "home/link", "home/up", "home/fifo"],
)
def test_what_leads_out_or_is_no_file_is_forbidden(settings: NomadSettings, source: str) -> None:
    """Links out of the drive too; the words are the user's path."""
    Path(settings.drives_dir, "home/link").symlink_to("/etc/passwd")
    Path(settings.drives_dir, "home/up").symlink_to("../other")
    os.mkfifo(Path(settings.drives_dir, "home/fifo"))
    assert failure(settings, Mount(source, "/work/x")) == (Why.INPUT_FORBIDDEN, f"/{source}")


@root_only
def test_what_the_jobs_user_may_not_use_is_forbidden(settings: NomadSettings) -> None:
    """Asked as that user: not to be read, or not to be written though it should be; and the server is itself again afterwards."""
    secret, public = Path(settings.drives_dir, "other/secret"), Path(settings.drives_dir, "other/public")
    secret.write_text("x")
    secret.chmod(0o600)
    public.write_text("x")
    assert failure(settings, Mount("other/secret", "/work/x", read_only=True)) == (Why.INPUT_FORBIDDEN, "/other/secret")
    assert failure(settings, Mount("other/public", "/work/x")) == (Why.INPUT_FORBIDDEN, "/other/public")
    assert failure(settings, Mount("other", "/work/x")) == (Why.INPUT_FORBIDDEN, "/other")
    JobFolders(settings).prepare(spec(Mount("other/public", "/work/x", read_only=True)), set())
    assert secret.read_text() == "x"


def test_a_taken_place_is_said(settings: NomadSettings) -> None:
    """A file of the user's, a link to elsewhere, or a file on the way."""
    work(settings).mkdir(parents=True)
    (work(settings) / "x").write_text("mine")
    (work(settings) / "y").symlink_to("/etc")
    if os.geteuid() == 0:
        os.chown(work(settings), USER, USER)
    for target in ("/work/x", "/work/y", "/work/x/in", "/work/y/in"):
        why, detail = failure(settings, Mount("home/data", target))
        assert why is Why.MOUNT_FAILED and detail.startswith("/home/data: ")
    assert (work(settings) / "x").read_text() == "mine"


@root_only
@pytest.mark.parametrize("name", ["stdout.txt", ".ucloud", "Jobs", "Jobs/title", "Jobs/title/7"])
def test_links_in_the_place_of_our_own_are_never_followed(settings: NomadSettings, tmp_path: Path, name: str) -> None:
    """The server is root, and would write there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = work(settings) / name if not name.startswith("Jobs") else Path(settings.drives_dir, "home", name)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.parent == work(settings):
        os.chown(work(settings), USER, USER)
    place.symlink_to(elsewhere)
    failure(settings)
    assert list(elsewhere.iterdir()) == [] and elsewhere.stat().st_uid == 0


@root_only
@pytest.mark.parametrize("name", ["stdout.txt", ".ucloud", ""])
def test_what_is_anothers_fails_the_start(settings: NomadSettings, name: str) -> None:
    """A log or folder of another user in the place of the job's own."""
    place = work(settings) / name
    if name == "stdout.txt":
        place.parent.mkdir(parents=True)
        place.touch()
    else:
        place.mkdir(parents=True)
    os.chown(work(settings), USER, USER)
    os.chown(place, 2_000_000_999 if name else 1234, 1)
    why, detail = failure(settings)
    assert why is Why.SANDBOX_FAILED and "another user" in detail


@root_only
def test_what_is_moved_to_an_inputs_link_is_not_given_away(settings: NomadSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job of the user has a file that it may not read at the link's name, one moment after the server made the link."""
    secret, symlink = Path(settings.drives_dir, "home/data/secret"), os.symlink
    secret.write_text("of somebody else")
    os.chown(secret, 1234, 1234)

    def made_and_swapped(source: str, name: str, *, dir_fd: int) -> None:
        symlink(source, name, dir_fd=dir_fd)
        secret.rename(work(settings) / name)

    monkeypatch.setattr(os, "symlink", made_and_swapped)
    failure(settings, Mount("home/data", "/work/in"))
    assert (work(settings) / "in").stat().st_uid == 1234


@root_only
@pytest.mark.parametrize("links", [1, 2])
def test_a_file_of_roots_in_the_place_of_a_log_is_not_given_away(settings: NomadSettings, links: int) -> None:
    """The user owns the folder above it and may move it, not read it. An empty one with one name is ours, from a start that was cut off."""
    log = work(settings) / "stdout.txt"
    work(settings).mkdir(parents=True)
    os.chown(work(settings), USER, USER)
    log.write_text("root's\n" if links == 1 else "")
    if links == 2:
        log.with_name("other").hardlink_to(log)
    assert failure(settings)[0] is Why.SANDBOX_FAILED
    assert log.stat().st_uid == 0
    log.unlink()
    log.touch()
    JobFolders(settings).prepare(spec(), set())
    assert log.stat().st_uid == USER


def test_tidy_takes_what_is_ours_by_name(settings: NomadSettings) -> None:
    """A folder full of a user's files is not gone through: a million of them would hold up the ends of everybody's jobs."""
    folders = JobFolders(settings)
    folders.prepare(spec(), set())
    own = work(settings) / ".ucloud"
    for name in ("rank-0", f"start-0-{NOT_FOUND}"):
        (own / name).mkdir()
    for name in ("began-0", "new-0", "theirs"):
        (own / name).touch()
    folders.tidy(spec())
    assert [path.name for path in own.iterdir()] == ["theirs"]


@root_only
def test_swapping_folders_all_the_time_gains_nothing(settings: NomadSettings, tmp_path: Path) -> None:
    """Another thread puts a link to a victim in the place of each folder, over and over: nothing appears in the victim or changes hands."""
    victim = tmp_path / "victim"
    (victim / "title/7").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in [victim, *victim.rglob("*")]}
    jobs, stop = Path(settings.drives_dir, "home/Jobs"), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                jobs.rename(jobs.with_name("aside"))
            with suppress(OSError):
                jobs.symlink_to(victim)
            with suppress(OSError):
                jobs.unlink()
            with suppress(OSError):
                jobs.with_name("aside").rename(jobs)

    attacker = threading.Thread(target=swap)
    attacker.start()
    outcomes = {"made": 0, "refused": 0}
    try:
        for _ in range(300):
            try:
                JobFolders(settings).prepare(spec(files=(("a", "b"),)), set())
                outcomes["made"] += 1
            except CannotPrepare:
                outcomes["refused"] += 1
            JobFolders(settings).tidy(spec())
    finally:
        stop.set()
        attacker.join()
    assert sum(outcomes.values()) == 300
    assert {path: path.stat().st_mtime_ns for path in [victim, *victim.rglob("*")]} == before
    assert {path.stat().st_uid for path in before} == {0}


def test_marks_of_the_start_are_read(settings: NomadSettings) -> None:
    """Of each rank its own; a folder that is gone says that nothing began."""
    folders, begun = JobFolders(settings), work(settings) / ".ucloud/rank-1"
    assert folders.marks(spec(), 0) == {NOT_BEGUN}
    folders.prepare(spec(), set())
    for name in (f"start-1-{NOT_FOUND}", f"start-1-{RAN_BEFORE}", "start-0-7"):
        (work(settings) / ".ucloud" / name).mkdir()
    begun.mkdir()
    assert (folders.marks(spec(), 0), folders.marks(spec(), 1)) == ({NOT_BEGUN}, {NOT_FOUND, RAN_BEFORE})
    folders.tidy(spec(replicas=2))
    assert folders.marks(spec(), 1) == {NOT_BEGUN}


@pytest.mark.parametrize(
    ("code", "ran_ms", "marks", "why"),
    [
        (NOT_FOUND, 5, frozenset({NOT_FOUND}), Why.COMMAND_NOT_FOUND),
        (NOT_FOUND, 5, frozenset[int](), None),
        (NOT_FOUND, 5, None, Why.COMMAND_NOT_FOUND),
        (NOT_FOUND, START_MS + 1, frozenset({NOT_FOUND}), None),
        (RAN_BEFORE, 5, frozenset({NOT_FOUND}), None),
        (RAN_BEFORE, GUARD_MS, frozenset({RAN_BEFORE}), Why.NONE),
        (RAN_BEFORE, GUARD_MS + 1, frozenset({RAN_BEFORE}), None),
        (FOLDER_NOT_OURS, 5, frozenset({NOT_BEGUN}), Why.SANDBOX_FAILED),
        (FOLDER_NOT_OURS, 5, frozenset[int](), None),
        (127, 5, frozenset({NOT_BEGUN}), Why.SANDBOX_FAILED),
        (127, 5, frozenset[int](), None),
        (127, 5, None, None),
        (0, 5, frozenset({NOT_BEGUN}), None),
        (1, 5, frozenset({NOT_BEGUN}), Why.SANDBOX_FAILED),
        (NOT_READY, 5, frozenset({NOT_BEGUN}), Why.SANDBOX_FAILED),
        (137, 5, frozenset({NOT_BEGUN}), None),
        (7, 5, frozenset({7}), None),
    ],
)
def test_a_code_is_only_the_starts_when_all_agrees(code: int, ran_ms: int, marks: frozenset[int] | None, why: Why | None) -> None:
    """Time and marks; everything else is the program's own."""
    found = explain(code, ran_ms, marks)
    assert (found[0] if found else None) == why


def test_without_shared_drives_nothing_is_made(settings: NomadSettings, tmp_path: Path) -> None:
    """The nodes have their own folders then."""
    for way in ("volume", "scratch"):
        cluster = NomadSettings(
            state_dir="/s", provider="p", drives_dir=str(tmp_path / "none"), work="volume" if way == "volume" else "scratch"
        )
        assert JobFolders(cluster).prepare(spec(), set()) == Prepared(None, None)
        JobFolders(cluster).tidy(spec())


def test_programs_on_the_nodes_themselves_have_users_of_their_own(tmp_path: Path) -> None:
    """Nothing but the user keeps them apart there: one that is nobody reads the memory and the files of the next."""
    cluster = NomadSettings(
        state_dir="/s", provider="p", drives_dir=str(tmp_path / "none"), work="scratch", placements=(Placement(driver="raw_exec"),)
    )
    first = JobFolders(cluster).prepare(spec(), set())
    assert first.uid is not None and cluster.uid_first <= first.uid < cluster.uid_first + cluster.uid_count and first.gid == first.uid
    taken = set(range(cluster.uid_first, cluster.uid_first + cluster.uid_count)) - {first.uid}
    assert JobFolders(cluster).prepare(spec(), taken) == first


def test_logs_can_be_appended_by_the_user_only(settings: NomadSettings) -> None:
    """Others may read them, as Core's own browsing does."""
    JobFolders(settings).prepare(spec(), set())
    assert stat.S_IMODE((work(settings) / "stdout.txt").stat().st_mode) == 0o644
