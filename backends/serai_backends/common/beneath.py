"""A path of a user, resolved below a folder and never out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from serai_backends.common import files

_OPENAT2, _RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 437, 0x02, 0x08
_TRIES = 100
_PATH = os.O_PATH | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(root: int, path: str) -> int:
    """A path descriptor of `path` below the folder `root`, whatever links lie on the way. Raises OSError: EXDEV when it leads out."""
    how = struct.pack("QQQ", _PATH, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    for _ in range(_TRIES):
        fd = int(_libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), os.fsencode(path), how, ctypes.c_size_t(len(how))))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number in {errno.ENOSYS, errno.EPERM}:
            return walk_beneath(root, path)
        if number != errno.EAGAIN:  # something on the way was renamed at that moment
            raise OSError(number, os.strerror(number))
    raise OSError(errno.EAGAIN, "folders on the way are renamed all the time")


def open_source(drives_dir: str, drives: dict[str, str], source: str) -> int:
    """As `open_beneath`, what a job is to see: `source` is a drive, or a folder or file in it, `{drive}/{rest}`.

    Raises OSError, UnsafePath also for a link in the drive's place among them.
    """
    drive, _, rest = source.partition("/")
    if not rest and source != drive:
        raise files.UnsafePath(source)
    try:
        root = files.open_drive(drives_dir, drives, drive)
    except NotADirectoryError as error:
        raise files.UnsafePath(source) from error
    try:
        return open_beneath(root, rest or ".")
    finally:
        os.close(root)


def walk_beneath(root: int, path: str) -> int:
    """The same for kernels without openat2; no link is followed. Raises OSError."""
    parts = [] if path == "." else files.components(path)
    here = os.dup(root)
    for part in parts:
        try:
            below = os.open(part, _PATH | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = below
        if stat.S_ISLNK(os.fstat(here).st_mode):
            os.close(here)
            raise OSError(errno.ELOOP, "a link")
    return here
