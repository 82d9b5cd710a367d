"""What can be called: each method of a service with its shape, its readers and its handler, made once from the descriptors.

The generated servicer classes are not used: they hand a gRPC context to each handler, and a call from inside the process has none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import cast

import msgspec
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serai_server.errors import InvalidRequest


class Caller(Enum):
    """On whose behalf a call is made."""

    CORE = "core"
    """The gateway, for UCloud/Core."""
    USER = "user"
    """The gateway, for a user with a token of their own."""
    SESSION = "session"
    """The gateway, for whoever holds a session's secret."""
    CONSOLE = "console"
    """The gateway, for an operator at Serai's own page."""
    TOOL = "tool"
    """A program of the operator on the socket."""


class Call(msgspec.Struct, gc=False):
    """What a handler may know of the call that it answers."""

    method: str
    """"/serai.jobs.v1.JobsService/Create"."""
    request_id: str
    caller: Caller = Caller.TOOL
    user: str = ""
    """UCloud username; empty = not told."""
    project: str = ""
    """Of a user's call: the project in which they work; empty = their personal workspace."""
    role: str = ""
    """Of a user's call: what they are in that project, "PI", "ADMIN" or "USER"; empty = no member of it."""
    groups: tuple[str, ...] = ()
    """Of a user's call: the groups of that project that they are in."""


class Shape(Enum):
    """(the request is a stream, the answer is a stream)"""

    UNARY_UNARY = (False, False)
    UNARY_STREAM = (False, True)
    STREAM_UNARY = (True, False)
    STREAM_STREAM = (True, True)

    @property
    def many_requests(self) -> bool:
        return self.value[0]

    @property
    def many_answers(self) -> bool:
        return self.value[1]


Request = bytes | AsyncIterator[bytes]
"""Wire bytes of the request, or of each request where the method takes a stream."""

Once = Callable[[object, Call], Awaitable[Message]]
Many = Callable[[object, Call], AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `once` is set for methods with one answer, `many` for those with a stream of them."""

    path: str
    shape: Shape
    read: Callable[[Request], object]
    """To what the handler takes: a message, or an iterator of messages. Raises InvalidRequest for bytes that are no such message."""
    once: Once | None = None
    many: Many | None = None


def methods_of(service: ServiceDescriptor, servicer: object, name: str = "") -> list[Method]:
    """Every method of `service`, answered by the servicer's attribute of the same name.

    `name` replaces the service's full name in paths; empty = as declared. Raises AttributeError at start when a method has no handler.
    """
    return [_method(descriptor, getattr(servicer, descriptor.name), name or service.full_name) for descriptor in service.methods]


def _method(descriptor: MethodDescriptor, handler: object, service: str) -> Method:
    message = GetMessageClass(descriptor.input_type)
    shape = Shape((descriptor.client_streaming, descriptor.server_streaming))
    path = f"/{service}/{descriptor.name}"
    read = _reader_of_many(message) if shape.many_requests else _reader_of_one(message)
    # Names tie handlers to methods, so the type of a handler is checked by the tests that call each of them.
    if shape.many_answers:
        return Method(path, shape, read, many=cast("Many", handler))
    return Method(path, shape, read, once=cast("Once", handler))


def _reader_of_one(message: type[Message]) -> Callable[[Request], object]:
    parse = message.FromString
    name = message.DESCRIPTOR.full_name

    def read(request: Request) -> Message:
        try:
            return parse(cast("bytes", request))
        except DecodeError as error:
            raise InvalidRequest(f"the request is not a {name}") from error

    return read


def _reader_of_many(message: type[Message]) -> Callable[[Request], object]:
    read = _reader_of_one(message)

    async def read_each(requests: Request) -> AsyncIterator[object]:
        async for request in cast("AsyncIterator[bytes]", requests):
            yield read(request)

    return read_each
