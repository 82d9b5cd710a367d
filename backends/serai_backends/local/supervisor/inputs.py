# pathlib would cost each supervisor 5 ms and its memory
"""Inputs: files and folders of drives, opened by the launcher, and their mount points in the job's folder.

A path of a user never leads out of its drive: the kernel resolves it below the drive's root (openat2), links included, and refuses what
leaves it. From then on it is a descriptor. A kernel without openat2 gets a walk that follows no link at all.

kill -9 between any two steps: the mount points that are about to be made are written down first (`points`), so whoever finds the job over
removes those that are still empty: the launcher or the supervisor at the end, else the server when it writes the job off or forgets it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress

from serai_backends.common import beneath, files
from serai_backends.local.supervisor.failure import StartFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from serai_backends.local.supervisor.plan import Plan, Spec

POINTS = "points"
WORK = "/work/"


_KINDS = {errno.ENOENT: "input_missing", errno.ENOTDIR: "input_missing"} | dict.fromkeys(
    (errno.EXDEV, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG), "input_forbidden"
)


def _failure(error: OSError, shown: str) -> StartFailure:
    why = "input_forbidden" if isinstance(error, files.UnsafePath) else _KINDS.get(error.errno or 0, "mount_failed")
    return StartFailure(why, f"{shown}: {error.strerror or error}" if why == "mount_failed" else shown)


def _may(fd: int, uid: int | None, *, write: bool) -> bool:
    """Whether the job's user may read it (and write to it): asked of the kernel, as that user."""
    mode = os.R_OK | (os.W_OK if write else 0) | (os.X_OK if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
    if uid is None:
        return os.access(f"/proc/self/fd/{fd}", mode)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os._exit(0 if os.access(f"/proc/self/fd/{fd}", mode) else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def open_inputs(spec: Spec, plan: Plan) -> list[int]:
    """A path descriptor of each mount, in order. Raises StartFailure."""
    opened: list[int] = []
    for mount in spec["mounts"]:
        shown = f"/{mount['source']}"
        try:
            fd = beneath.open_source(plan["drives_dir"], plan["drives"], mount["source"])
        except OSError as error:
            raise _failure(error, shown) from error
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or not _may(fd, plan["uid"], write=not mount["read_only"]):
            raise StartFailure("input_forbidden", shown)
        opened.append(fd)
    return opened


def make_points(job_fd: int, work_fd: int, spec: Spec, plan: Plan, inputs: Sequence[int]) -> list[str]:
    """Have a mount point in the job's folder for each input. Those that are new, noted in the job's state before they are made.

    Raises OSError, StartFailure.
    """
    missing: dict[str, bool] = {}
    for mount, fd in zip(spec["mounts"], inputs, strict=True):
        path, folder = mount["target"].removeprefix(WORK), stat.S_ISDIR(os.fstat(fd).st_mode)
        there = _kind(work_fd, path)
        if there is None:
            parts = path.split("/")
            for count in range(1, len(parts)):
                above = "/".join(parts[:count])
                if _kind(work_fd, above) is None:
                    missing[above] = True
            missing[path] = folder
        elif there != folder:
            what = "not a folder" if folder else "not a file"
            raise StartFailure("mount_failed", f"/{mount['source']}: {path} is in the job's folder already and is {what}")
    if missing:
        noted = sorted({*points(job_fd), *missing})
        files.write_atomic(job_fd, POINTS, json.dumps(noted).encode())
    for path, folder in missing.items():
        _make(work_fd, path, plan["uid"], folder=folder)
    return points(job_fd)


def _kind(work_fd: int, path: str) -> bool | None:
    """True = a folder, False = a regular file, None = not there. Raises StartFailure for anything else, links on the way included."""
    try:
        fd = beneath.walk_beneath(work_fd, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartFailure("mount_failed", f"/work/{path}: {error.strerror}") from error
    mode = os.fstat(fd).st_mode
    os.close(fd)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise StartFailure("mount_failed", f"/work/{path} is neither a file nor a folder")
    return stat.S_ISDIR(mode)


def _make(work_fd: int, path: str, uid: int | None, *, folder: bool) -> None:
    above, _, name = path.rpartition("/")
    parent = files.open_folder(work_fd, above) if above else os.dup(work_fd)
    try:
        if folder:
            os.mkdir(name, 0o755, dir_fd=parent)
            fd = os.open(name, files.DIRECTORY, dir_fd=parent)
        else:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
        if uid is not None and os.fstat(fd).st_uid == os.geteuid():
            os.fchown(fd, uid, uid)
        os.close(fd)
    finally:
        os.close(parent)


def points(job_fd: int) -> list[str]:
    """The mount points that were made for the job, or were about to be."""
    return json.loads(files.read_file(job_fd, POINTS) or b"[]")


def remove_points(work_fd: int, paths: Sequence[str]) -> None:
    """Those that are still empty; what the job or its user put there stays. After the job's last process only."""
    for path in sorted(paths, reverse=True):
        above, _, name = path.rpartition("/")
        with suppress(OSError):
            parent = files.open_folder(work_fd, above) if above else os.dup(work_fd)
            try:
                facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    os.rmdir(name, dir_fd=parent)
                elif stat.S_ISREG(facts.st_mode) and facts.st_size == 0:
                    os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)


def clear_points(job_fd: int, spec: Spec, plan: Plan) -> None:
    """`remove_points` for whoever finds the job over, by what its folders say. Raises nothing."""
    with suppress(OSError):
        paths = points(job_fd)
        if paths:
            work_fd = files.open_output(plan["drives_dir"], plan["drives"], spec["output_folder"])
            remove_points(work_fd, paths)
            os.close(work_fd)


def write_files(work_fd: int, texts: Sequence[tuple[str, str]], uid: int | None) -> None:
    """Files that the job finds in its folder, whole or not at all; one that is there already stays. Raises OSError."""
    for name, text in texts:
        if name in os.listdir(work_fd):
            continue
        try:
            fd = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o644, dir_fd=work_fd)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
                raise
            raise StartFailure("sandbox_failed", "the drive's file system knows no unnamed files (O_TMPFILE)") from error
        try:
            files.write_all(fd, text.encode())
            if uid is not None:
                os.fchown(fd, uid, uid)
            os.fsync(fd)
            with suppress(FileExistsError):
                os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=work_fd, follow_symlinks=True)
        finally:
            os.close(fd)
