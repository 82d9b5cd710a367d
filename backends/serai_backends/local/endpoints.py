"""Ports of replicas on this machine's loopback: a small relay for each that is asked for, as long as its replica runs.

A relay listens on a port of its own of 127.0.0.1 and hands each connection to a socket that the job's supervisor made inside the job's
network (see supervisor/doors.py). It takes connections of few users only (see callers.py), because what is on the loopback can be reached
by every user of the machine; and it keeps its port for a while after the end of its replica. Bytes go on as fast as the slower side takes
them; at most one chunk in each direction is held here. An end that one side has sent is passed on, the other direction goes on, until
nobody has the caller's socket any more: a program that does not hang up would keep the connection, and with it a place, for ever.

Nothing is stored: a server that is killed leaves nothing, and the next one opens relays when it is asked.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import TYPE_CHECKING

import structlog

from serai_backends.errors import BackendError, BackendUnavailable
from serai_backends.local.callers import uid_of
from serai_backends.local.conversation import Conversation
from serai_backends.model import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from serai_backends.common.board import Board
    from serai_backends.local.folder import JobFolder

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_HOST = "127.0.0.1"
_CHUNK_BYTES = 256 * 1024
_CHUNKS_IN_A_ROW = 8
MOST_CONNECTIONS = 1024
"""Of one port at a time; more wait in the kernel's queue."""
_SHARE, _LEAST = 8, 64
"""All connections together are at most one for so many descriptors that this process may have; each takes two. One port has a quarter of
them. What is left is the server's own: people at pages that never end must not cut off Core."""
_MADE_AT_A_TIME = 16
"""Connections that one job's supervisor is asked for at a time: it has few places."""
_QUEUE = 512
_RETRY_S = 0.2
_LAST_BYTES_S = 10.0
"""For what a replica that has ended had sent, and its reader has not taken yet."""
_KEPT_S = 60.0
"""For which the port of a replica that has ended is nobody else's: who was told of it may not know yet, and must not reach another job."""
_LOOK_S = 3.0
"""Between two looks whether somebody still has the caller's end."""
_LOOKS, _LOOKS_WHILE_SENDING = 2, 20
"""In a row that find nobody, and nothing that has moved meanwhile, until both ends are closed. More while the program has not taken
all that the caller had sent: it may be slow."""
_OPEN_STATES = {1, 4, 5}
"""Of the kernel's tcp_states.h, ESTABLISHED, FIN_WAIT1 and FIN_WAIT2: the other end has not sent its end."""


def most_connections() -> int:
    """Of all ports together."""
    return max(_LEAST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)


class _Flow:
    """What has become of one connection's bytes."""

    def __init__(self) -> None:
        self.moved, self.waiting, self.taken = 0, 0, False
        """Chunks handed on, in both directions; chunks that wait for their reader; whether the program's end has been given all that the
        caller sent, with its end."""


class _Relay:
    """One port of one replica."""

    def __init__(
        self, folder: JobFolder, rank: int, port: int, *, allowed: frozenset[int], gate: asyncio.Semaphore, in_all: asyncio.Semaphore
    ) -> None:
        """Raises OSError."""
        self._folder, self._rank, self._port, self._allowed, self._gate = folder, rank, port, allowed, gate
        self._loop = asyncio.get_running_loop()
        self._room, self._in_all = asyncio.Semaphore(min(MOST_CONNECTIONS, most_connections() // 4)), in_all
        self._connections: set[asyncio.Task[None]] = set()
        self._over = False
        """Whoever still connects is let go at once."""
        self._listener = socket.create_server((_HOST, 0), backlog=_QUEUE)
        self._listener.setblocking(False)
        self.endpoint = Endpoint(_HOST, self._listener.getsockname()[1])

    async def run(self, over: Coroutine[None, None, None]) -> None:
        """Take connections until `over` is done, see those to their end that are open then, and keep the port for a while."""
        taking = asyncio.create_task(self._take())
        try:
            await over
            self._over = True
            if self._connections:
                _, left = await asyncio.wait(self._connections, timeout=_LAST_BYTES_S)
                for task in left:
                    task.cancel()
            await asyncio.sleep(_KEPT_S)
        finally:
            tasks = [taking, *self._connections]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    def close(self) -> None:
        self._listener.close()

    async def _take(self) -> None:
        while True:
            await self._room.acquire()
            try:
                outside, _ = await self._loop.sock_accept(self._listener)
            except OSError as error:  # no descriptors, most likely
                self._room.release()
                _log.warning("endpoint: a connection cannot be taken now", job=self._folder.job_id, rank=self._rank, why=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                await self._in_all.acquire()
            except BaseException:
                outside.close()
                raise
            task = asyncio.create_task(self._serve(outside))
            self._connections.add(task)
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._room.release()
        self._in_all.release()

    async def _serve(self, outside: socket.socket) -> None:
        where = {"job": self._folder.job_id, "rank": self._rank, "port": self._port}
        with outside:
            if self._over:
                return
            uid = uid_of(outside)
            if uid not in self._allowed:
                _log.warning("endpoint: a connection of another user of this machine was refused", **where, uid=uid)
                return
            try:
                inside = await self._connect()
            except (OSError, BackendError) as error:
                _log.info("endpoint: a connection could not be handed on", **where, why=str(error))
                return
            with inside:
                await self._join(outside, inside)

    async def _join(self, outside: socket.socket, inside: socket.socket) -> None:
        """Until both directions have ended, or one of the two has gone, or nobody has the outside's other end: then so has the other."""
        flow = _Flow()
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(_until_nobody(outside, flow))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(inside, outside, flow))
                    await self._pass_on(outside, inside, flow)
                    flow.taken = True
                looking.cancel()
        except* OSError:
            pass

    async def _connect(self) -> socket.socket:
        async with self._gate:
            with Conversation(self._folder) as conversation:
                answer = await conversation.ask(op="connect", rank=self._rank, port=self._port)
        inside = socket.socket(fileno=answer.fd)
        inside.setblocking(False)
        return inside

    async def _pass_on(self, source: socket.socket, target: socket.socket, flow: _Flow) -> None:
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count = 0
        while data := await self._loop.sock_recv(source, _CHUNK_BYTES):
            flow.waiting += 1
            await self._loop.sock_sendall(target, data)
            flow.waiting -= 1
            flow.moved += 1
            count += 1
            if count % _CHUNKS_IN_A_ROW == 0:
                await asyncio.sleep(0)  # two fast ends would let nobody else run
        target.shutdown(socket.SHUT_WR)


async def _until_nobody(outside: socket.socket, flow: _Flow) -> None:
    """Raises ConnectionAbortedError when the caller has closed its socket, and not only said its end: such a one still reads."""
    looks, moved = 0, -1
    while True:
        await asyncio.sleep(_LOOK_S)
        # behind bytes that the program does not take, the caller's end has not come here
        asked = flow.waiting or outside.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _OPEN_STATES
        # more than one look: nobody is also found when this process has no descriptor left to ask with
        looks = looks + 1 if asked and flow.moved == moved and uid_of(outside) is None else 0
        moved = flow.moved
        if looks >= (_LOOKS if flow.taken else _LOOKS_WHILE_SENDING):
            raise ConnectionAbortedError


class Endpoints:
    """All relays of one backend."""

    def __init__(self, board: Board, allowed: frozenset[int], has_ended: Callable[[str, int], bool]) -> None:
        self._board, self._allowed, self._has_ended = board, allowed, has_ended
        self._relays: dict[tuple[str, int, int], _Relay] = {}
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._in_all = asyncio.Semaphore(most_connections())
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, folder: JobFolder, rank: int, port: int) -> Endpoint:
        """Of a replica that runs. Raises BackendUnavailable."""
        key = (folder.job_id, rank, port)
        relay = self._relays.get(key)
        if relay is None:
            gate = self._gates.setdefault(folder.job_id, asyncio.Semaphore(_MADE_AT_A_TIME))
            try:
                relay = _Relay(folder, rank, port, allowed=self._allowed, gate=gate, in_all=self._in_all)
            except OSError as error:
                raise BackendUnavailable(f"no port can be opened on this machine: {os.strerror(error.errno or 0)}") from error
            self._relays[key] = relay
            task = asyncio.create_task(self._run(key, relay))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return relay.endpoint

    async def _run(self, key: tuple[str, int, int], relay: _Relay) -> None:
        await relay.run(self._until_over(key))

    async def _until_over(self, key: tuple[str, int, int]) -> None:
        job_id, rank, _ = key
        changed = self._board.subscribe(job_id)
        try:
            while not self._has_ended(job_id, rank):
                changed.clear()
                await changed.wait()
        finally:
            self._board.unsubscribe(changed, job_id)
            self._relays.pop(key, None)
            if not any(other == job_id for other, _, _ in self._relays):
                self._gates.pop(job_id, None)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for relay in self._relays.values():  # those that had not begun
            relay.close()
