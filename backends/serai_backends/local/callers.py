"""Who is at the other end of a connection on this machine's loopback: every user of the machine can connect to a port there, and the ports
of jobs are for few.

The kernel is asked for the socket by its two addresses (sock_diag, one question and one answer); where it does not know that, /proc/net/tcp
is read. A socket that its process has closed belongs to nobody, and the kernel shows that as root: it is told by its inode, which is 0.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SOCK_DIAG_BY_FAMILY, _ERROR, _REQUEST = 20, 2, 1
_NETLINK_SOCK_DIAG = 4
_NO_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("IHHII")
_ID_BYTES = 48
Ends = tuple[tuple[str, int], tuple[str, int]]


def uid_of(connection: socket.socket) -> int | None:
    """The user whose socket the other end of an IPv4 connection is; None = nobody's any more, or not of this machine. Blocks for less than
    a ms where the kernel knows sock_diag."""
    try:
        ends: Ends = connection.getpeername(), connection.getsockname()
    except OSError:
        return None
    try:
        return _ask(ends)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
    return _read(ends)


def _ask(ends: Ends) -> int | None:
    """Raises OSError."""
    (address, port), (other, other_port) = ends
    where = struct.pack(">HH", port, other_port)
    where += socket.inet_aton(address).ljust(16, b"\0") + socket.inet_aton(other).ljust(16, b"\0") + struct.pack("I", 0) + _NO_COOKIE
    body = struct.pack("BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + where
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(1.0)
        link.send(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + body)
        answer = link.recv(65536)
    if _HEADER.unpack_from(answer)[1] == _ERROR:
        number = -struct.unpack_from("i", answer, _HEADER.size)[0]
        raise OSError(number, os.strerror(number))
    # family, state, timer, retransmissions; the id; expires, queues; then:
    uid, inode = struct.unpack_from("II", answer, _HEADER.size + 4 + _ID_BYTES + 12)
    return uid if inode else None


def _read(ends: Ends) -> int | None:
    (address, port), (other, other_port) = ends
    for name, show in (("tcp", _short), ("tcp6", _long)):
        wanted = [f"{show(address)}:{port:04X}", f"{show(other)}:{other_port:04X}"]
        try:
            lines = Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[1:3] == wanted:
                return int(words[7]) if int(words[9]) else None
    return None


def _short(address: str) -> str:
    return f"{struct.unpack('=I', socket.inet_aton(address))[0]:08X}"


def _long(address: str) -> str:
    """IPv4 in the form of IPv6."""
    return "0" * 16 + f"{struct.unpack('=I', bytes([0, 0, 255, 255]))[0]:08X}{_short(address)}"


def uids_of(users: Iterable[str]) -> frozenset[int]:
    """Root, this process' user and those named. A name that this machine does not know is left out: see `unknown_users`."""
    found = {0, os.geteuid()}
    for user in users:
        uid = _uid(user)
        if uid is not None:
            found.add(uid)
    return frozenset(found)


def unknown_users(users: Iterable[str]) -> list[str]:
    return [user for user in users if _uid(user) is None]


def _uid(user: str) -> int | None:
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
