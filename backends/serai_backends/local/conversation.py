"""One connection to a supervisor for one thing that is asked of it, with the descriptors that come with the answer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.local.adopt import dial
from serai_backends.local.supervisor.control import UNKNOWN_OPERATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from serai_backends.local.folder import JobFolder

_MESSAGE_BYTES = 4096
_LONGEST = 60_000
"""Of what is asked: a supervisor reads 64 KiB at once."""
_ANSWER_S = 10.0


class Readiness:
    """Waits for one descriptor until it can be used, or until `stop`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self.stopped = False

    async def readable(self) -> None:
        await self._wait(self._loop.add_reader, self._loop.remove_reader)

    async def writable(self) -> None:
        await self._wait(self._loop.add_writer, self._loop.remove_writer)

    async def _wait(self, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object]) -> None:
        future = self._loop.create_future()
        add(self._fd, lambda: None if future.done() else future.set_result(None))
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
            if not self.stopped:
                remove(self._fd)

    def stop(self) -> None:
        """Before the descriptor is closed: who waits goes on."""
        self.stopped = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


@dataclass(frozen=True, slots=True)
class Answer:
    facts: dict[str, object]
    fds: list[int] = field(default_factory=list[int])
    """They belong to who gets the answer."""

    @property
    def fd(self) -> int:
        """Raises BackendUnavailable: it came with the answer and was lost on the way."""
        if not self.fds:
            raise BackendUnavailable("the server has too many open files")
        return self.fds[0]


class Conversation:
    """For one task at a time. Its end is seen by the supervisor, which then lets go of what it had for it."""

    def __init__(self, folder: JobFolder) -> None:
        """Raises BackendUnavailable."""
        connection = dial(folder)
        if connection is None:
            raise BackendUnavailable(f"the supervisor of job {folder.job_id} does not answer")
        self._job_id, self._connection = folder.job_id, connection
        self._readiness = Readiness(connection.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def ask(self, **message: object) -> Answer:
        """The answer, if it is one to go on with. Raises JobNotThere when no such replica runs, BackendUnavailable with words of the
        supervisor's for everything else."""
        data = json.dumps(message).encode()
        if len(data) > _LONGEST:
            raise BackendUnavailable("the command is too long")
        try:
            self._connection.send(data)
            async with asyncio.timeout(_ANSWER_S):
                answer = await self.receive()
        except (OSError, TimeoutError) as error:
            raise BackendUnavailable(f"the supervisor of job {self._job_id} does not answer") from error
        if answer is None:
            raise BackendUnavailable(f"the supervisor of job {self._job_id} hung up: it has ended, or has too many connections")
        if "error" not in answer.facts:
            return answer
        for fd in answer.fds:
            os.close(fd)
        if answer.facts.get("gone"):
            raise JobNotThere(self._job_id)
        if answer.facts["error"] == UNKNOWN_OPERATION:
            raise BackendUnavailable(f"job {self._job_id} was started by an older version of the server, which could not do this")
        raise BackendUnavailable(str(answer.facts["error"]))

    async def receive(self) -> Answer | None:
        """What the supervisor says next; None = it has hung up."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._connection, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._readiness.readable()
                continue
            except OSError:  # also when it was closed meanwhile
                return None
            return Answer(json.loads(data), fds) if data else None

    def close(self) -> None:
        if not self._readiness.stopped:
            self._readiness.stop()
            self._connection.close()
