# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH115, PTH116, PTH208
"""Who listens on a port inside the job. All ranks of a job share one network, so a port of rank 0's address may be a program of rank 1's
that listens on every address: before the server is connected to a rank, the listening socket has to be found among that rank's files.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from serai_backends.local.supervisor.processes import all_pids

_LISTEN = "0A"
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


def held_by(inner: int, inodes: set[int]) -> bool:
    """Whether each of the sockets is a file of a process in the pid namespace of `inner`."""
    names, left = {inode: f"socket:[{inode}]" for inode in inodes}, set(inodes)
    try:
        home = os.stat(f"/proc/{inner}/ns/pid").st_ino
    except OSError:
        return False
    for pid in all_pids():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == home:
                left -= _held(pid, {names[inode]: inode for inode in left})
        if not left:
            return True
    return not left


def _held(pid: int, wanted: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            inode = wanted.get(os.readlink(f"/proc/{pid}/fd/{name}"))
            if inode is not None:
                found.add(inode)
    return found
