# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH115, PTH116
"""Who listens on a port inside the job. All ranks of a job share one network, so a port of rank 0's address may be a program of rank 1's
that listens on every address: before the server is connected to a rank, the listening socket has to be found among that rank's files.

How many files those are is up to the job, and the supervisor does nothing else while it looks: so only so many are looked at.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from serai_backends.local.supervisor.processes import all_pids

_LISTEN = "0A"
_MOST_FILES, _FILES_PER_S = 100_000, 200_000
"""At once, and in the long run. Some 2 us each: all looking takes less than half of the supervisor's time."""
_ANY = {b"\0" * 4, b"\0" * 16}


def packed(address: str) -> bytes:
    """As in `listeners`: 4 or 16 bytes in the order of the network."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def listeners(port: int) -> dict[int, bytes]:
    """Sockets of this network namespace that listen on a TCP port: inode → address. IPv4 in the form of IPv6 is IPv4."""
    found: dict[int, bytes] = {}
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), open(f"/proc/net/{name}", encoding="ascii") as file:  # noqa: PTH123
            for line in file:
                words = line.split()
                if words[3] != _LISTEN or int(words[1].rpartition(":")[2], 16) != port:
                    continue
                found[int(words[9])] = _address(words[1].rpartition(":")[0])
    return found


def _address(text: str) -> bytes:
    """The kernel shows words of 32 bits in the order of the machine (little endian on all that have a filter here)."""
    raw = bytes.fromhex(text)
    address = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return address[12:] if address.startswith(b"\0" * 10 + b"\xff\xff") else address


def would_answer(found: dict[int, bytes], address: bytes) -> set[int]:
    """Those of `listeners` that a connection to `address` may reach."""
    exact = {inode for inode, at in found.items() if at == address}
    return exact or {inode for inode, at in found.items() if at in _ANY and len(at) >= len(address)}


class TooManyFiles(Exception):
    """They cannot be looked through now."""


class Purse:
    """How many files may be looked at now."""

    def __init__(self) -> None:
        self._left, self._at_s = float(_MOST_FILES), time.monotonic()

    def fill(self) -> None:
        """By what has come with time."""
        now_s = time.monotonic()
        self._left = min(_MOST_FILES, self._left + (now_s - self._at_s) * _FILES_PER_S)
        self._at_s = now_s

    def take(self) -> None:
        """One. Raises TooManyFiles."""
        if self._left < 1:
            raise TooManyFiles
        self._left -= 1


def held_by(inner: int, inodes: set[int], purse: Purse) -> bool:
    """Whether each of the sockets is a file of a process in the pid namespace of `inner`. Raises TooManyFiles."""
    names, left = {inode: f"socket:[{inode}]" for inode in inodes}, set(inodes)
    purse.fill()
    try:
        home = os.stat(f"/proc/{inner}/ns/pid").st_ino
    except OSError:
        return False
    for pid in all_pids():
        purse.take()
        with suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == home:
                left -= _held(pid, {names[inode]: inode for inode in left}, purse)
        if not left:
            return True
    return not left


def _held(pid: int, wanted: dict[str, int], purse: Purse) -> set[int]:
    found: set[int] = set()
    with os.scandir(f"/proc/{pid}/fd") as files:
        for file in files:
            purse.take()
            with suppress(OSError):
                inode = wanted.get(os.readlink(file.path))
                if inode is not None:
                    found.add(inode)
    return found
