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


class UnsafePath(OSError):
    """A path that leaves its root, or goes through something that is not a plain folder or file."""


def components(path: str) -> list[str]:
    """The parts of a relative path. Raises UnsafePath for absolute paths, empty or dot components and NUL."""
    parts = path.split("/")
    for part in parts:
        if part in {"", ".", ".."} or "\0" in part or len(part.encode()) > 255:
            raise UnsafePath(f"not a path below a folder: {path!r}")
    return parts


def open_folder(root_fd: int, path: str, *, create: bool = False, mode: int = 0o755) -> int:
    """A descriptor of the folder `path` below `root_fd`; with `create` missing folders are made, durably. Raises OSError, UnsafePath."""
    here = os.dup(root_fd)
    try:
        for part in components(path):
            if create:
                try:
                    os.mkdir(part, mode, dir_fd=here)
                    os.fsync(here)
                except FileExistsError:
                    pass
            below = os.open(part, DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
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
