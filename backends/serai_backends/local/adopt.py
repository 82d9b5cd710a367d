"""The thread between a server and a living supervisor: its control socket, and its pidfd when it went away without a word."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from serai_backends.common import files
from serai_backends.local.supervisor.plan import CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.local.folder import JobFolder
    from serai_backends.local.supervisor.plan import Begun

_MESSAGE_BYTES = 4096


def dial(folder: JobFolder) -> socket.socket | None:
    """A connection to the job's supervisor; None = nobody listens (yet, or any more)."""
    try:
        folder_fd = folder.open()
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        # by a short path: a socket's path has at most 108 bytes
        connection.connect(f"/proc/self/fd/{folder_fd}/{CONTROL}")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(folder_fd)
    return connection


def tell_cancel(connection: socket.socket, grace_ms: int) -> None:
    """Say it and hang up."""
    with connection, suppress(OSError):
        connection.send(json.dumps({"op": "cancel", "grace_ms": grace_ms}).encode())


class Link:
    """A subscription to one supervisor. `changed` is called after each change of the journal, `gone` once when the supervisor has ended."""

    def __init__(self, connection: socket.socket, changed: Callable[[], None], gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection, self._changed, self._gone = connection, changed, gone
        self._loop.add_reader(connection.fileno(), self._read)
        self._send({"op": "watch"})

    def cancel(self, grace_ms: int) -> None:
        """Best effort: the marker in the job's folder is the truth, and is told again by the next server."""
        self._send({"op": "cancel", "grace_ms": grace_ms})

    def ask(self, operation: str) -> None:
        """`suspend` or `resume`, as the supervisor knows them. Best effort: who wants it looks, and asks again."""
        self._send({"op": operation})

    def close(self) -> None:
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._connection.send(json.dumps(message).encode())
        except OSError:
            return  # it has gone; the reader sees the end of file

    def _read(self) -> None:
        told = False
        while True:
            try:
                data = self._connection.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
                self._gone()
                return
            told = True
        if told:
            self._changed()


def open_process(begun: Begun) -> int | None:
    """A pidfd of the supervisor; None = that process has gone. Pinned first, compared after: a reused pid is never taken for it."""
    if begun["boot_id"] != files.boot_id():
        return None
    try:
        fd = os.pidfd_open(begun["pid"])
    except ProcessLookupError:
        return None
    if files.start_ticks(begun["pid"]) != begun["start_ticks"]:
        os.close(fd)
        return None
    return fd


async def until_gone(begun: Begun) -> None:
    """Until the supervisor and with it (it is their pid 1) every process of the job is gone."""
    fd = open_process(begun)
    if fd is None:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(fd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
