"""What is typed into a shell and not sent yet, in its order, whichever connection to the server takes it.

A connection that is over may still have a task that waits here, until something is typed: so nothing is given to one who waits, as a queue
does, but waiting and taking are two things. What was taken by mistake could only be put back behind the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from serai.sessions.v1 import sessions_service_pb2 as pb2


class Typed:
    """Of one shell."""

    def __init__(self, most: int) -> None:
        """`most`: messages that wait; then who types waits."""
        self._most = most
        self._waiting: deque[pb2.ShellRequest] = deque()
        self._any = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._most

    async def put(self, request: pb2.ShellRequest) -> None:
        """Returns when there was room for it. One at a time: two who wait would have no order."""
        while self.full:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(request)
        self._any.set()

    def requests(self, first: pb2.ShellRequest) -> Requests:
        """For a new connection, which begins with `first`."""
        return Requests(self, first)

    async def arrived(self) -> None:
        """Until something waits."""
        await self._any.wait()

    def take(self) -> pb2.ShellRequest | None:
        """The oldest; None = another connection took it."""
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        self._room.set()
        if not self._waiting:
            self._any.clear()
        return request


class Requests:
    """What one connection sends. No generator: the connection's own task may still wait in it when that ends."""

    def __init__(self, typed: Typed, first: pb2.ShellRequest) -> None:
        self._typed = typed
        self._first: pb2.ShellRequest | None = first
        self.over = False
        """What is typed is for the next connection."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first.SerializeToString()
        while not self.over:
            request = self._typed.take()
            if request is not None:
                return request.SerializeToString()
            await self._typed.arrived()
        raise StopAsyncIteration
