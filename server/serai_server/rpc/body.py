"""Requests that are read after it is known who sends them, and not for ever.

grpc.aio reads the one request of a call before its handler is asked, however large it is and however long it takes, unless the method
takes a stream of requests. So where strangers may come each method is one that does, and the chain fetches the request when the caller
was let in. What is refused before that costs a stranger's metadata and nothing else.

A call that is open to anybody is never kept waiting by the requests of others, nor for long by its own: what did not come is a request that
says nothing. So strangers who open such calls and send nothing take nothing from those who ask whether the server works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import grpc.aio
from google.rpc import code_pb2, status_pb2

from serai_server.errors import InvalidRequest
from serai_server.rpc.status import RpcFailure

BODY_S = 30.0
"""Seconds in which the request of a caller who is known must have come whole."""
STRANGERS_BODY_S = 1.0
"""Of anybody: calls that are open have requests of a few bytes, which come with the call."""
STRANGERS_BODIES = 16
"""Requests of strangers that are read at a time; the others are answered without."""

_NOTHING = b""
"""A message in which nothing is set."""


class Coming:
    """The one request of a call, which may not have come yet."""

    def __init__(self, read: Callable[[], Awaitable[object]], limit_s: float, turns: asyncio.Semaphore | None = None) -> None:
        """`read`: of grpc.aio's context. `turns`: how many may be read at a time, and the call is answered in any case; None = neither."""
        self._read = read
        self._limit_s = limit_s
        self._turns = turns

    async def whole(self) -> bytes:
        """Its wire bytes. To be called once. Raises InvalidRequest when there is none, and RpcFailure when it takes too long."""
        if self._turns is not None:
            return await self._in_turn(self._turns)
        try:
            return await self._in_time()
        except TimeoutError as error:
            text = f"the request did not come whole within {self._limit_s:g} s; nothing was done"
            raise RpcFailure(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message=text)) from error

    async def _in_turn(self, turns: asyncio.Semaphore) -> bytes:
        if turns.locked():
            return _NOTHING
        async with turns:
            try:
                return await self._in_time()
            except TimeoutError:
                return _NOTHING

    async def _in_time(self) -> bytes:
        async with asyncio.timeout(self._limit_s):
            message = await self._read()
        if message is grpc.aio.EOF:
            raise InvalidRequest("the call has no request")
        return cast("bytes", message)


class Bodies:
    """How the requests at one door are read."""

    def __init__(self, limit_s: float = BODY_S, strangers_limit_s: float = STRANGERS_BODY_S, strangers: int = STRANGERS_BODIES) -> None:
        self._limit_s = limit_s
        self._strangers_limit_s = strangers_limit_s
        self._turns = asyncio.Semaphore(strangers)

    def coming(self, read: Callable[[], Awaitable[object]], *, of_anybody: bool) -> Coming:
        """`of_anybody`: the method is open to those who are not known."""
        return Coming(read, self._strangers_limit_s, self._turns) if of_anybody else Coming(read, self._limit_s)
