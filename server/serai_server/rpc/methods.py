"""What can be called: each method of a service with its shape, its readers and its handler, made once from the descriptors.

The generated servicer classes are not used: they hand a gRPC context to each handler, and a call from inside the process has none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serai_server.errors import InvalidRequest
from serai_server.rpc.access import NOBODY, Rule, rule_of
from serai_server.rpc.call import Call


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
    rule: Rule = NOBODY


def methods_of(
    service: ServiceDescriptor, servicer: object, name: str = "", rule: Rule | None = None, rules: Mapping[str, Rule] | None = None
) -> list[Method]:
    """Every method of `service`, answered by the servicer's attribute of the same name.

    `name` replaces the service's full name in paths; empty = as declared. `rule`: of every method, for services whose protos are not
    ours; `rules`: of some of them by name, over `rule`. Raises AttributeError at start when a method has no handler.
    """
    over = rules or {}
    return [
        _method(found, getattr(servicer, found.name), name or service.full_name, over.get(found.name) or rule or rule_of(found))
        for found in service.methods
    ]


def _method(descriptor: MethodDescriptor, handler: object, service: str, rule: Rule) -> Method:
    message = GetMessageClass(descriptor.input_type)
    shape = Shape((descriptor.client_streaming, descriptor.server_streaming))
    path = f"/{service}/{descriptor.name}"
    read = _reader_of_many(message) if shape.many_requests else _reader_of_one(message)
    # Names tie handlers to methods, so the type of a handler is checked by the tests that call each of them.
    if shape.many_answers:
        return Method(path, shape, read, many=cast("Many", handler), rule=rule)
    return Method(path, shape, read, once=cast("Once", handler), rule=rule)


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
