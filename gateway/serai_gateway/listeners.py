"""Where the gateway is reached: at a TCP port, at a Unix socket, or at both.

Envoy comes by the socket: that costs both sides less than TCP over loopback, and who may connect is a matter of files. Two gateways are
kept apart by what they have besides: `serai up` by the server's socket, which has a lock, `serai serve` by its port.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from serai_gateway.settings import GatewaySettings

BACKLOG = 2_048
"""Connections that wait to be taken."""


@dataclass(frozen=True, slots=True)
class Listeners:
    sockets: list[socket.socket]
    """Not empty."""
    port: int
    """The TCP port that is bound; 0 = none."""


@contextmanager
def listeners(http: GatewaySettings, *, tcp: bool = True) -> Generator[Listeners]:
    """All that the settings name, until the block ends. `tcp` False = the socket only, which must be set.

    OSError with the address in its text when one cannot be had: EADDRINUSE when another gateway has it.
    """
    with ExitStack() as stack:
        found: list[socket.socket] = []
        port = 0
        if tcp:
            found.append(listen(http.address, http.port))
            stack.callback(found[-1].close)
            port = found[-1].getsockname()[1]
        if http.socket:
            found.append(
                stack.enter_context(unix_listener(Path(http.socket), "gateway.socket", int(http.socket_mode, 8), http.socket_group))
            )
        yield Listeners(found, port)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. OSError with the address in its text when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


@contextmanager
def unix_listener(path: Path, setting: str, mode: int = 0o600, group: str = "") -> Generator[socket.socket]:
    """A listening Unix socket until the block ends; one that nobody listens on any more is replaced. `group`: the socket's, as a name or a
    number, empty = the process's own. A missing folder is made, 0700, or so that `group` may enter it.

    OSError with the path in its text when it cannot be had: EADDRINUSE when somebody listens on it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _bind(listener, path, setting, mode, group)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {path}: {error.strerror or error}") from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _bind(listener: socket.socket, path: Path, setting: str, mode: int, group: str) -> None:
    number = _number(group) if group else -1
    _make_folder(path.parent, number)
    _check_folder(path.parent, setting)
    _remove_stale(path, setting)
    # Nobody else may connect in the moment before it has its rights; and nobody can before it listens.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    try:
        if group:
            os.chown(path, -1, number)
        path.chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path, group: int) -> None:
    """One that is there stays as it is. It has its name only when the group may enter it: a killed start must not leave it closed."""
    if folder.exists():
        return
    if group < 0:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)  # the group passes there too
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        os.chown(made, -1, group)
        made.chmod(0o710)
        made.rename(folder)
    except OSError as error:
        made.rmdir()
        # Somebody else, such as the server, made it meanwhile.
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise


def _check_folder(folder: Path, setting: str) -> None:
    """Who could replace the socket would be sent Core's tokens."""
    found = folder.stat()
    kept_apart = found.st_mode & stat.S_ISVTX and found.st_uid in {0, os.geteuid()}
    if found.st_mode & stat.S_IWOTH and not kept_apart:
        words = f"everybody on this machine may write in {folder}, and could put a socket of their own there"
        raise OSError(errno.EPERM, f"{words}; `chmod o-w {folder}`, or set another {setting}")


def _number(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise OSError(errno.EINVAL, f"there is no group {group!r} on this machine; set another gateway.socket_group") from error


def _remove_stale(path: Path, setting: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, f"another gateway listens on it; stop that first, or set another {setting}")
