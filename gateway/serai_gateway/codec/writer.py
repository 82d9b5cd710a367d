"""Messages to JSON: the generated functions and what stands around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

import msgspec
from google.protobuf.message import Message
from serai.wire.v1 import options_pb2

from serai_gateway.codec.shape import MessageShape
from serai_gateway.codec.writer_source import WriterSource

# From a message to the tree that msgspec spells.
Tree = Callable[[Message], object]


class _Bulk(Protocol):
    responses: Sequence[Message]


class Writers:
    """Writers by message."""

    def __init__(self) -> None:
        self._source = WriterSource()
        self._trees: dict[str, Tree] = {}
        self._elements: dict[str, Tree] = {}
        # By class as well: a descriptor and its name cost more than writing a small message.
        self._classes: dict[type[Message], Tree] = {}
        self._encode = msgspec.json.Encoder().encode

    def add(self, shapes: Iterable[MessageShape]) -> None:
        """Compiles writers of messages and of all below them."""
        names = [(shape, self._source.add(shape)) for shape in shapes]
        exec(compile(self._source.take(), "<serai codec: writers>", "exec"), self._source.namespace)  # noqa: S102 -- made from our own descriptors
        for shape, name in names:
            self._trees[shape.full_name] = cast("Tree", self._source.namespace[name])
            for field in shape.fields:
                if field.key == "responses" and field.repeated and field.message is not None:
                    self._elements[shape.full_name] = cast("Tree", self._source.namespace[self._source.add(field.message)])

    def __contains__(self, full_name: str) -> bool:
        return full_name in self._trees

    def source(self, shape: MessageShape) -> str:
        """The generated function of one message, for debugging."""
        return self._source.functions[f"write_{shape.identifier}"]

    def write(self, message: Message) -> bytes:
        """Raises KeyError for a message that was not added."""
        tree = self._classes.get(message.__class__)
        if tree is None:
            tree = self._classes[message.__class__] = self._trees[message.DESCRIPTOR.full_name]
        return self._encode(tree(message))

    def write_bulk(self, message: Message, empty_element: int) -> bytes:
        """`message` has nothing but `responses`. Raises KeyError for any other."""
        tree = self._elements[message.DESCRIPTOR.full_name]
        nothing: object = {} if empty_element == options_pb2.EMPTY_ELEMENT_OBJECT else None
        elements = [tree(element) if element.ByteSize() else nothing for element in cast("_Bulk", message).responses]
        return self._encode({"responses": elements})
