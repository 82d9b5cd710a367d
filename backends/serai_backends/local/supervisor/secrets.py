# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH101, PTH102
"""The job's secrets on their way from the server's memory into the sandbox: never through a file on a disk, an argument or a variable.

The server puts them into a sealed file that exists in memory only and hands the launcher its descriptor. The supervisor, before it has its
go, lays them into its private file system (a tmpfs that nobody else sees and that goes with it) and clears its own copy. While it has that,
it can neither be traced by its user nor leave a core.

kill -9 anywhere before `begun`: descriptor and tmpfs are gone with their processes; the next server asks for the secrets again.
"""

from __future__ import annotations

import fcntl
import json
import os

from serai_backends.local.supervisor import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = f"{namespaces.VIEW}/secrets"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def seal(secrets: Iterable[tuple[str, bytes]]) -> int:
    """A descriptor from which `lay` reads: a line that says how they are called and how long they are, then their content."""
    pairs = list(secrets)
    fd = os.memfd_create("serai", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(fd, json.dumps([(name, len(content)) for name, content in pairs]).encode() + b"\n")
        for _, content in pairs:
            _write(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write(fd: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _fill(fd: int, content: bytearray) -> None:
    left, offset = memoryview(content), 0
    while left:
        count = os.preadv(fd, [left], offset)
        if not count:
            raise OSError("the job's secrets came only in part")
        left, offset = left[count:], offset + count


def lay(fd: int, names: list[str]) -> None:
    """The files of FOLDER; closes `fd`. In the supervisor only, as the job's user. Raises OSError."""
    content = bytearray(os.fstat(fd).st_size)
    try:
        namespaces.set_dumpable(False)
        _fill(fd, content)
        end = content.find(b"\n") + 1
        table: list[tuple[str, int]] = json.loads(content[:end])
        if [name for name, _ in table] != names:
            raise OSError("other secrets came than the job names")
        os.mkdir(FOLDER, 0o700)
        for name, size in table:
            file = os.open(f"{FOLDER}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            try:
                with memoryview(content) as view:
                    _write(file, view[end : end + size])
            finally:
                os.close(file)
            end += size
        os.chmod(FOLDER, 0o500)
    finally:
        content[:] = bytes(len(content))
        os.close(fd)
        namespaces.set_dumpable(True)  # as it was: peers look for its network by /proc
