"""Connections to ports inside the job, handed out as sockets: a socket keeps the network in which it was made, so the server talks to the
program without a byte being copied here.

    {"op":"connect","rank":0,"port":80}     answers {"ok":true} with a connected socket; {"error":…}, with "gone":true when no such
                                            replica runs

A rank is tried at its own address first, then at 127.0.0.1 and ::1, where programs listen that are not meant to be reached by others.
In a job of several ranks only if what listens there is a program of that rank. Nothing here waits: a program that does not accept holds up
nobody but who asked for it.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from serai_backends.local.supervisor import namespaces
from serai_backends.local.supervisor.events import WRITABLE
from serai_backends.local.supervisor.listeners import Purse, TooManyFiles, held_by, listeners, packed, would_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from serai_backends.local.supervisor.control import Control
    from serai_backends.local.supervisor.events import Events
    from serai_backends.local.supervisor.replica import Replica

MOST = 32
"""Connections of one job that are being made at a time."""
_TIMEOUT_S = 2.0
_LARGEST_PORT = 0xFFFF
_OWN = ("127.0.0.1", "::1")


class _Attempt:
    """What one connection of the control socket waits for."""

    def __init__(self, fd: int, rank: int, port: int, addresses: list[str]) -> None:
        self.fd, self.rank, self.port, self.left = fd, rank, port, addresses
        self.inside: socket.socket | None = None
        self.due_s = time.monotonic() + _TIMEOUT_S
        self.words = f"nothing of rank {rank} listens on port {port}"


class Doors:
    def __init__(self, block: str, replicas: Sequence[Replica], *, control: Control, events: Events) -> None:
        self._block, self._replicas, self._control, self._events = block, replicas, control, events
        self._attempts: dict[int, _Attempt] = {}
        self._purse = Purse()

    @property
    def due_s(self) -> float | None:
        """When `check` has to be called at the latest."""
        return min((attempt.due_s for attempt in self._attempts.values()), default=None)

    def ask(self, fd: int, message: dict[str, object]) -> None:
        rank, port = message["rank"], message["port"]
        if not isinstance(rank, int) or not isinstance(port, int):
            raise TypeError
        if not 0 < port <= _LARGEST_PORT:
            raise ValueError
        if not 0 <= rank < len(self._replicas) or not self._replicas[rank].started or self._replicas[rank].ended:
            self._control.answer(fd, {"error": f"rank {rank} does not run", "gone": True})
        elif fd in self._attempts or len(self._attempts) >= MOST:
            self._control.answer(fd, {"error": "too many connections are being made at a time"})
        else:
            attempt = _Attempt(fd, rank, port, [namespaces.address(self._block, rank), *_OWN])
            self._attempts[fd] = attempt
            self._next(attempt)

    def dropped(self, fd: int) -> None:
        attempt = self._attempts.pop(fd, None)
        if attempt is not None:
            self._let_go(attempt)

    def check(self) -> None:
        """Give up what is due."""
        now_s = time.monotonic()
        for attempt in list(self._attempts.values()):
            if now_s >= attempt.due_s:
                attempt.left = []
                attempt.words = f"rank {attempt.rank} does not accept connections on port {attempt.port}"
                self._next(attempt)

    def _next(self, attempt: _Attempt) -> None:
        """The next address that may be tried; without one, the answer."""
        while True:
            self._let_go(attempt)
            if not attempt.left:
                del self._attempts[attempt.fd]
                self._control.answer(attempt.fd, {"error": attempt.words})
                return
            address = attempt.left.pop(0)
            try:
                if self._is_its_own(attempt, address) and self._begin(attempt, address):
                    return
            except OSError as error:
                attempt.words = f"rank {attempt.rank} cannot be reached on port {attempt.port}: {error.strerror}"
            except TooManyFiles:
                attempt.left = []
                attempt.words = f"rank {attempt.rank} has too many open files to find now who listens on port {attempt.port}: try again"

    def _is_its_own(self, attempt: _Attempt, address: str) -> bool:
        if len(self._replicas) == 1:
            return True
        inodes, inner = would_answer(listeners(attempt.port), packed(address)), self._replicas[attempt.rank].inner
        return bool(inodes) and inner is not None and held_by(inner, inodes, self._purse)

    def _begin(self, attempt: _Attempt, address: str) -> bool:
        """False = refused at once. Raises OSError."""
        # not create_connection: it would import a codec, which a job's user may not be able to read from the server's Python
        inside = attempt.inside = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        inside.setblocking(False)
        number = inside.connect_ex((address, attempt.port))
        if number not in {0, errno.EINPROGRESS}:
            return False
        self._events.add(inside.fileno(), lambda: self._done(attempt, inside), WRITABLE)
        if number == 0:
            self._done(attempt, inside)
        return True

    def _done(self, attempt: _Attempt, inside: socket.socket) -> None:
        if attempt.inside is not inside:
            return
        if inside.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._next(attempt)
            return
        try:
            inside.getpeername()
        except OSError:  # called for nothing
            return
        os.set_blocking(inside.fileno(), True)
        self._control.answer(attempt.fd, {"ok": True}, [inside.fileno()])
        self._let_go(attempt)
        self._attempts.pop(attempt.fd, None)

    def _let_go(self, attempt: _Attempt) -> None:
        if attempt.inside is not None:
            self._events.forget(attempt.inside.fileno())
            attempt.inside.close()
            attempt.inside = None
