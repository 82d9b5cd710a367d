"""The control socket of a supervisor: connections of servers, and what they ask for.

Messages (SEQPACKET, one JSON object each):
    {"op":"watch"}                     from now on one byte after each change of the journal; end of file when the supervisor has gone
    {"op":"cancel","grace_ms":5000}    idempotent; the nearest deadline counts
    {"op":"suspend"}, {"op":"resume"}  idempotent; nothing happens unless every replica has started
    {"op":"ping"}                      answers {"ok":true,"replicas":…}
    {"op":"connect", …}                a connection to a port of a replica, see doors.py
    {"op":"shell", …}                  a terminal in a replica, see shells.py
An operation that is not known here (a server may be newer than the supervisors that it finds) answers {"error":"unknown operation"}.
"""

from __future__ import annotations

import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from serai_backends.local.supervisor.events import Events

    class Job(Protocol):
        """What can be asked of the job."""

        def cancel(self, grace_ms: int) -> None: ...
        def suspend(self) -> None: ...
        def resume(self) -> None: ...

    class Desk(Protocol):
        """Takes one operation, and keeps something for the connection that asked for it."""

        def ask(self, fd: int, message: dict[str, object]) -> None:
            """`fd`: of the connection, for `Control.answer`. Raises ValueError, KeyError, TypeError for what is not understood."""
            ...

        def dropped(self, fd: int) -> None:
            """The connection has gone."""
            ...


UNKNOWN_OPERATION = "unknown operation"
_MESSAGE_BYTES = 65536
_MAX_CONNECTIONS = 96


class Control:
    def __init__(self, listener: socket.socket, events: Events, replicas: int, job: Job) -> None:
        self._listener, self._events, self._job = listener, events, job
        self._replicas = replicas
        self._connections: dict[int, socket.socket] = {}
        self._subscribers: set[int] = set()
        self._desks: dict[str, Desk] = {}

    def offer(self, operation: str, desk: Desk) -> None:
        """Before `listen`."""
        self._desks[operation] = desk

    def answer(self, fd: int, facts: dict[str, object], passed: Sequence[int] = ()) -> None:
        """`passed`: descriptors that go with it."""
        self._send(fd, json.dumps(facts, separators=(",", ":")).encode(), passed)

    def listen(self) -> None:
        self._listener.setblocking(False)
        self._events.add(self._listener.fileno(), self._accept)

    def tell_change(self) -> None:
        """To every subscriber: the journal has a new line."""
        for fd in list(self._subscribers):
            self._send(fd, b".")

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._connections) >= _MAX_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self._connections[connection.fileno()] = connection
        fd = connection.fileno()
        self._events.add(fd, lambda: self._receive(fd))

    def _drop(self, fd: int) -> None:
        self._events.remove(fd)
        self._subscribers.discard(fd)
        self._connections.pop(fd).close()
        for desk in self._desks.values():
            desk.dropped(fd)

    def _send(self, fd: int, data: bytes, passed: Sequence[int] = ()) -> None:
        connection = self._connections.get(fd)
        if connection is None:
            return  # dropped while its own message was being handled
        try:
            socket.send_fds(connection, [data], list(passed))
        except BlockingIOError:
            pass  # a subscriber that has unread bytes knows that there is something new
        except OSError:
            self._subscribers.discard(fd)  # it has gone; what it said before that is still read

    def _receive(self, fd: int) -> None:
        try:
            data = self._connections[fd].recv(_MESSAGE_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return  # it went away without having read everything; what it said before that comes next
        except OSError:
            data = b""
        if not data:
            self._drop(fd)
            return
        try:
            message: dict[str, object] = json.loads(data)
            self._handle(fd, message)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.answer(fd, {"error": f"not understood: {type(error).__name__}"})

    def _handle(self, fd: int, message: dict[str, object]) -> None:
        operation = message.get("op")
        if operation == "watch":
            self._subscribers.add(fd)
            self._send(fd, b".")
        elif operation == "cancel":
            grace = message["grace_ms"]
            if not isinstance(grace, int):
                raise TypeError
            self._job.cancel(grace)
            self._send(fd, b'{"ok":true}')
        elif operation == "suspend":
            self._job.suspend()
        elif operation == "resume":
            self._job.resume()
        elif operation == "ping":
            self.answer(fd, {"ok": True, "replicas": self._replicas})
        elif isinstance(operation, str) and operation in self._desks:
            try:
                self._desks[operation].ask(fd, message)
            except OSError as error:  # no descriptors, no memory: no reason for the job to end
                self.answer(fd, {"error": f"this cannot be done now: {error.strerror or error}"})
        else:
            self.answer(fd, {"error": UNKNOWN_OPERATION})
