"""Whether another user may use a file, asked of the kernel as that user, in one thread of the server only."""

from __future__ import annotations

import ctypes
import os
import stat
import threading

_libc = ctypes.CDLL(None, use_errno=True)


def may(fd: int, uid: int, gid: int, *, write: bool) -> bool:
    """Read what the path descriptor `fd` is (and write to it). The server's own supplementary groups count as the user's."""
    mode = os.R_OK | (os.W_OK if write else 0) | (os.X_OK if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
    if os.geteuid() != 0:
        return os.access(f"/proc/self/fd/{fd}", mode)
    verdict: list[bool] = []

    def ask() -> None:
        # the file system's user is the one thing that Linux keeps for each thread and glibc leaves so; capabilities over files go with it
        _libc.setfsgid(ctypes.c_uint(gid))
        _libc.setfsuid(ctypes.c_uint(uid))
        verdict.append(os.access(f"/proc/self/fd/{fd}", mode, effective_ids=True))

    # a thread of its own: whatever happens, no other code runs as that user
    thread = threading.Thread(target=ask, name="access")
    thread.start()
    thread.join()
    return verdict == [True]
