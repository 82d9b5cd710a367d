"""The place of a Unix socket: held while a server listens there, cleared of what a killed one left, and open to whom it shall be."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio

from serai_server.socket_path import too_long


class SocketInUse(Exception):
    """Another server listens on the socket, or it cannot or must not be made there; the text says what to do."""


def listen(server: grpc.aio.Server, path: Path, mode: int = 0o600, group: str = "") -> None:
    """Have the server listen there. `group`: the socket's, as a name or a number; empty = the process's own.

    Raises SocketInUse, and OSError for rights that cannot be given.
    """
    # The socket is made by grpc, with the process's mask: nobody else may connect in the moment before chmod.
    before = os.umask(0o077)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise SocketInUse(f"the socket {path} could not be made; see whether its folder can be written") from error
    finally:
        os.umask(before)
    if group:
        os.chown(path, -1, _number(group))
    path.chmod(mode)


@contextmanager
def socket_place(path: Path, setting: str = "server.socket", group: str = "") -> Generator[None]:
    """Hold the place for the time of the block; a missing folder is made, 0700, or so that `group` may enter it. grpc removes whatever
    socket it finds, also one that another server listens on.

    Raises SocketInUse, and OSError for a folder that cannot be written.
    """
    if problems := too_long({setting: str(path)}):
        raise SocketInUse(problems[0])
    _make_folder(path.parent, group)
    _check_folder(path.parent, setting)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SocketInUse(f"another server serves on {path}; stop it first, or set another {setting}") from error
        _remove_stale(path, setting)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _make_folder(folder: Path, group: str) -> None:
    """Whole or not at all: a folder that is there is taken as it is, so it must not be seen before the group may enter it."""
    if folder.exists():
        return
    if not group:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    number = _number(group)
    folder.parent.mkdir(parents=True, exist_ok=True)  # the group passes there too
    # Of a killed one an empty folder is left, which is in nobody's way.
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        os.chown(made, -1, number)
        made.chmod(0o710)
        made.rename(folder)
    except OSError as error:
        made.rmdir()
        # Somebody else made it meanwhile.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise


def _check_folder(folder: Path, setting: str) -> None:
    """Who could replace the socket would be sent what is meant for this server. Raises SocketInUse."""
    found = folder.stat()
    kept_apart = found.st_mode & stat.S_ISVTX and found.st_uid in {0, os.geteuid()}
    if found.st_mode & stat.S_IWOTH and not kept_apart:
        words = f"everybody on this machine may write in {folder}, and could put a socket of their own there"
        raise SocketInUse(f"{words}; `chmod o-w {folder}`, or set another {setting}")


def _number(group: str) -> int:
    """Raises SocketInUse for a group that is not there."""
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise SocketInUse(f"there is no group {group!r} on this machine; set another server.tools.socket_group") from error


def _remove_stale(path: Path, setting: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUse(f"{path} is there and is not a socket; move it away, or set another {setting}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
            raise SocketInUse(f"somebody listens on {path}; stop that program first, or set another {setting}")
    path.unlink(missing_ok=True)
