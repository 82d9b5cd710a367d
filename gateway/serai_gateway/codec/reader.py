"""JSON to protobuf's wire: compiled readers and what stands around them.

A body goes three steps: respelled if it is not ASCII (`codec.text`), parsed and checked by msgspec into Structs (`codec.structs`), written
by the generated code (`codec.reader_source`). A refused body is looked at again by `codec.diagnosis`, for the path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec

from serai_gateway.codec import wire
from serai_gateway.codec.bare import Wrapped, wrapper
from serai_gateway.codec.diagnosis import MOST_ITEMS, diagnose
from serai_gateway.codec.reader_source import ReaderSource
from serai_gateway.codec.shape import FieldShape, MessageShape
from serai_gateway.codec.structs import Structs
from serai_gateway.codec.subtrees import SubtreeTable
from serai_gateway.codec.text import byte_text

Write = Callable[[object], str]


@dataclass(frozen=True, slots=True)
class _Reader:
    """`quick` knows lengths below 16,384 only and raises IndexError beyond; `thorough` knows all."""

    shape: MessageShape
    bulk: bool
    wrap: Callable[[bytes], Wrapped | None] | None
    decode: Callable[[bytes], object]
    quick: Write
    thorough: Write

    def text(self, body: bytes) -> str:
        """The wire as text. Raises what msgspec raises, RefusedError, RecursionError."""
        value = self.decode(body)
        if self.bulk:
            items = cast("_Items", value).items
            if items is None or not 1 <= len(items) <= MOST_ITEMS:
                raise wire.RefusedError
        try:
            return self.quick(value)
        except IndexError:
            return self.thorough(value)


class _Items(Protocol):
    items: list[object] | None


class Readers:
    """Readers by message. `most_entries` 0 = no cache of subtrees: they are parsed with the rest."""

    def __init__(self, *, most_entries: int, most_bytes: int) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._structs = Structs(cached=most_entries > 0)
        self._tables: dict[str, SubtreeTable] = {}
        self._quick = ReaderSource(self._structs, self._table, {"L": wire.SHORT_LENGTHS, "raw_text": wire.raw_text})
        self._thorough = ReaderSource(self._structs, self._table, {"L": wire.Lengths(), "raw_text": wire.raw_text})
        self._readers: dict[str, _Reader] = {}

    def add(self, shapes: Sequence[tuple[MessageShape, bool]]) -> None:
        """Compiles readers of messages, each with whether it is a bulk request. One `exec` for all of them."""
        names = [(shape, bulk, self._quick.add(shape), self._thorough.add(shape)) for shape, bulk in shapes]
        for source in (self._quick, self._thorough):
            exec(compile(source.take(), "<serai codec: readers>", "exec"), source.namespace)  # noqa: S102 -- made from our own descriptors
        for shape, bulk, quick, thorough in names:
            self._readers[shape.full_name] = _Reader(
                shape,
                bulk,
                wrapper(shape) if bulk else None,
                self._decoder(shape),
                cast("Write", self._quick.namespace[quick]),
                cast("Write", self._thorough.namespace[thorough]),
            )

    def __contains__(self, full_name: str) -> bool:
        return full_name in self._readers

    def source(self, shape: MessageShape) -> str:
        """The generated functions of one message, for debugging."""
        return self._quick.functions[f"read_{shape.identifier}"]

    def clear(self) -> None:
        """Forgets all cached subtrees; for measurements of the cold path."""
        for table in self._tables.values():
            table.clear()

    @property
    def cached_bytes(self) -> int:
        """Bytes held by the caches of subtrees."""
        return sum(table.size_bytes for table in self._tables.values())

    def read(self, full_name: str, body: bytes) -> bytes:
        """Protobuf's wire of a body. Raises WireError; KeyError for a message that was not added."""
        reader = self._readers[full_name]
        if not body.isascii() or b"\\" in body:
            body = byte_text(body)
        bare = None if reader.wrap is None else reader.wrap(body)
        if bare is not None:
            body = bare.body
        try:
            text = reader.text(body)
        except (msgspec.MsgspecError, wire.RefusedError, RecursionError, ValueError):
            # ValueError: bad UTF-8 inside a text, or a lone surrogate.
            text = None
        if text is not None:
            return text.encode("latin-1")
        wrong = diagnose(reader.shape, body, bulk=reader.bulk)
        raise wrong if bare is None else bare.error(wrong)

    def _decoder(self, shape: MessageShape) -> Callable[[bytes], object]:
        return msgspec.json.Decoder(cast("type[object]", self._structs.plain(shape))).decode

    def _table(self, field: FieldShape, read: str) -> SubtreeTable:
        name = f"{read} {field.number} {field.required}"
        table = self._tables.get(name)
        if table is None:
            quick, thorough = self._quick.namespace, self._thorough.namespace

            # The functions themselves exist after `add` only, and are looked up when they are first needed.
            def writers() -> tuple[Write, Write]:
                return cast("Write", quick[read]), cast("Write", thorough[read])

            decode = cast("Callable[[msgspec.Raw], object]", self._decoder(field.submessage))
            table = SubtreeTable(
                field.number,
                decode,
                writers,
                required=field.required,
                most_entries=self._most_entries,
                most_bytes=self._most_bytes,
            )
            self._tables[name] = table
        return table
