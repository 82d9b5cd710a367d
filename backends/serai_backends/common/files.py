# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH123
"""Small durable steps on files, shared by server and supervisor; only the standard library.

Everything goes through folder descriptors and never follows a link, because jobs can write in some of these folders.
"""

from __future__ import annotations

import fcntl
import os
import stat

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def log_name(rank: int, stream: str) -> str:
    """`stdout.txt` for rank 0, `stdout-3.txt` for rank 3, in the job's folder."""
    return f"{stream}.txt" if rank == 0 else f"{stream}-{rank}.txt"


class UnsafePath(OSError):
    """A path that leaves its root, or goes through something that is not a plain folder or file."""


def components(path: str) -> list[str]:
    """The parts of a relative path. Raises UnsafePath for absolute paths, empty or dot components and NUL."""
    parts = path.split("/")
    for part in parts:
        if part in {"", ".", ".."} or "\0" in part or len(part.encode()) > 255:
            raise UnsafePath(f"not a path below a folder: {path!r}")
    return parts


def open_drive(drives_dir: str, drives: dict[str, str], drive: str, *, create: bool = False, owner: int | None = None) -> int:
    """A descriptor of a drive's root: where `drives` maps it to, else below `drives_dir`. Raises OSError, UnsafePath."""
    elsewhere = drives.get(drive)
    if len(components(drive)) != 1:
        raise UnsafePath(f"not the name of a drive: {drive!r}")
    root = os.open(elsewhere or drives_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if elsewhere is not None:
        return root
    try:
        return open_folder(root, drive, create=create, owner=owner)
    finally:
        os.close(root)


def open_output(drives_dir: str, drives: dict[str, str], path: str, *, create: bool = False, owner: int | None = None) -> int:
    """A descriptor of a job's folder, `{drive}/{rest}`. Raises OSError, UnsafePath."""
    drive, _, rest = path.partition("/")
    components(path)
    root = open_drive(drives_dir, drives, drive, create=create, owner=owner)
    if not rest:
        return root
    try:
        return open_folder(root, rest, create=create, owner=owner)
    finally:
        os.close(root)


def open_folder(root_fd: int, path: str, *, create: bool = False, mode: int = 0o755, owner: int | None = None) -> int:
    """A descriptor of the folder `path` below `root_fd`; with `create` missing folders are made, durably, and given to `owner`.

    Raises OSError, UnsafePath.
    """
    here = os.dup(root_fd)
    try:
        for part in components(path):
            made = False
            if create:
                try:
                    os.mkdir(part, mode, dir_fd=here)
                    made = True
                    os.fsync(here)
                except FileExistsError:
                    pass
            below = os.open(part, DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            # what somebody put in its place meanwhile stays as it is
            if made and owner is not None and os.fstat(here).st_uid == os.geteuid():
                os.fchown(here, owner, owner)
    except BaseException:
        os.close(here)
        raise
    return here


def open_regular(dir_fd: int, name: str, flags: int, mode: int = 0o600) -> int:
    """Open `name` when it is a regular file. NONBLOCK: a FIFO in its place must not hang the caller. Raises OSError, UnsafePath."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, mode, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnsafePath(f"{name} is not a regular file")
    return fd


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(dir_fd: int, name: str, data: bytes, mode: int = 0o600) -> None:
    """After the return the file is there with all of `data`, also after a power cut; before it, the old one is. Raises OSError."""
    temporary = f".{name}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.fsync(dir_fd)


def read_file(dir_fd: int, name: str) -> bytes | None:
    """The file's bytes; None = there is none. Raises OSError."""
    try:
        fd = open_regular(dir_fd, name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read()


def exists(dir_fd: int, name: str) -> bool:
    """Needs only the right to search the folder, so the supervisor can ask after it gave its user up."""
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def try_lock(dir_fd: int, name: str = "lock") -> int | None:
    """A descriptor that holds the lock, or None when another process does."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot (field 22 of its stat); with the pid it names one process. None = gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rsplit(b")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
