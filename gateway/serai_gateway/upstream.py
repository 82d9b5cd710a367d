"""The way to the server: one Protocol, so that nobody in the gateway sees whether the server is in this process or behind a socket.

Requests and answers are protobuf wire bytes; a method is named as on the wire, "/serai.jobs.v1.JobsService/Create".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from google.rpc import code_pb2, status_pb2

CALLER = "serai-caller"
"""Metadata: for whom the gateway calls: "core", "user", "session" (whoever holds a session's secret), "console" (an operator at our own
page)."""
HOLDER: Mapping[str, str] = {CALLER: "session"}
"""Metadata of calls for whoever holds a session's secret."""
SESSIONS = "/serai.sessions.v1.SessionsService/"
"""What stands before the names of its methods."""
USER = "serai-user"
"""Metadata: the UCloud user who calls, or for whom Core calls, %XX for what is not printable ASCII; absent = Core's own business."""
PROJECT = "serai-project"
"""Metadata of a user's call: the project in which they work, written as the username; absent = their personal workspace."""
ROLE = "serai-role"
"""Metadata of a user's call: "PI", "ADMIN" or "USER" in that project."""
GROUPS = "serai-groups"
"""Metadata of a user's call: the groups of that project that they are in, each written as the username, with commas between them."""


class UpstreamError(Exception):
    """The server's answer is an error, or there was no answer."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(f"{code_name(status.code)}: {status.message}")
        self.status = status


class Upstream(Protocol):
    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        """One request, one answer. UpstreamError otherwise, DEADLINE_EXCEEDED after `timeout_s`."""
        ...

    def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        """One request, many answers, until the server ends it or the iterator is closed. UpstreamError otherwise."""
        ...


class Exchanging(Upstream, Protocol):
    """The whole way, for those who also talk in both directions at once."""

    def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Many requests, many answers, each way as they come, until the server ends it or the iterator is closed. UpstreamError
        otherwise. `requests` is read by a task of its own; who ends the exchange ends it."""
        ...


class Dispatcher(Protocol):
    """The server's own entry for calls from this process (serai_server.rpc.dispatch); same checks as on the wire."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str]) -> bytes: ...

    def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]: ...

    def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]: ...


class InProcessUpstream:
    """The server is in this process: no channel, the same chain."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        timeout = asyncio.timeout(timeout_s)
        try:
            async with timeout:
                return await self._dispatcher.unary(method, request, metadata)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise UpstreamError(status(code_pb2.DEADLINE_EXCEEDED, "no answer in time")) from error
        except Exception as error:
            raise _translated(error) from error

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        async with aclosing(_passed_on(self._dispatcher.stream(method, request, metadata))) as messages:
            async for message in messages:
                yield message

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        async with aclosing(_passed_on(self._dispatcher.exchange(method, requests, metadata))) as messages:
            async for message in messages:
                yield message


async def _passed_on(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async with closing(stream) as messages:
            async for message in messages:
                yield message
    except Exception as error:
        raise _translated(error) from error


@asynccontextmanager
async def closing(stream: AsyncIterator[bytes]) -> AsyncGenerator[AsyncIterator[bytes]]:
    """Closes a stream that is left before its end, at once and not when it is collected."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _translated(error: Exception) -> Exception:
    """The dispatcher's errors carry a `status`; the gateway must not import their class, so it goes by that."""
    carried: object = getattr(error, "status", None)
    return UpstreamError(carried) if isinstance(carried, status_pb2.Status) else error


def status(code: code_pb2.Code.ValueType, message: str) -> status_pb2.Status:
    return status_pb2.Status(code=code, message=message)


def code_name(code: int) -> str:
    try:
        return code_pb2.Code.Name(code_pb2.Code.ValueType(code))
    except ValueError:
        return str(code)


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
