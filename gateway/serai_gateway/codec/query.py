"""The query of a GET to protobuf's wire.

UCloud spells a request without a body as `key=value` pairs: keys are those of the JSON, the keys of a flat message stand among the others,
what is null is left out, and `+` is a blank (facts 2021 §7.1). A key that we do not know is passed over, as Core does. A key that we know
and that comes twice is refused: one reader would take the first of them, another one the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from serai_gateway.codec import wire
from serai_gateway.codec.diagnosis import expected_value
from serai_gateway.codec.errors import WireError
from serai_gateway.codec.shape import FieldShape, Kind, MessageShape

LONGEST_BYTES = 32 * 1024
"""A thousand ids fit, and no proxy passes on much more."""

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class _Key:
    field: FieldShape
    flat: str
    """The flat message's field that holds it; '' = the request itself."""


class QueryReader:
    """Reads queries of one request."""

    def __init__(self, shape: MessageShape, descriptor: Descriptor) -> None:
        """TypeError for a request that a query cannot say: lists, maps, messages that are not flat, a key of two fields."""
        self._class = GetMessageClass(descriptor)
        self._keys: dict[str, _Key] = {}
        for key in _keys_of(shape, ""):
            if key.field.key in self._keys:
                raise TypeError(f"{shape.full_name}: two fields are called {key.field.key} in a query")
            self._keys[key.field.key] = key

    def read(self, query: bytes) -> bytes:
        """The wire. WireError with the key as its path, and nothing else for any bytes."""
        if len(query) > LONGEST_BYTES:
            raise WireError("", f"expected a query of at most {LONGEST_BYTES} bytes, found {len(query)}")
        message = self._class()
        given = self._given(query)
        for name, key in self._keys.items():
            # An empty value says nothing: forms send one for what was left out.
            text = given.get(name, "")
            if text:
                value = _value(key.field, text)
                if value is not None:
                    place: object = getattr(message, key.flat) if key.flat else message
                    setattr(place, key.field.name, value)
            elif key.field.required:
                raise WireError(name, f"expected {expected_value(key.field)}, found {'an empty one' if name in given else 'no such key'}")
        return message.SerializeToString()

    def _given(self, query: bytes) -> dict[str, str]:
        """Texts of the keys that are known."""
        found: dict[str, str] = {}
        for pair in query.split(b"&"):
            raw_name, _, raw = pair.partition(b"=")
            name = _decoded(raw_name)
            if name is None or name not in self._keys:
                continue
            if name in found:
                raise WireError(name, "expected one value, found the key twice")
            text = _decoded(raw)
            if text is None:
                raise WireError(name, "expected UTF-8 with whole %XX escapes, found something else")
            found[name] = text
        return found


def _keys_of(shape: MessageShape, flat: str) -> Iterator[_Key]:
    for field in shape.fields:
        if field.flat and field.kind is Kind.MESSAGE and not flat:
            yield from _keys_of(field.submessage, field.name)
        elif field.repeated or field.is_map or field.kind in {Kind.MESSAGE, Kind.RAW_JSON}:
            raise TypeError(f"{shape.full_name}.{field.name}: a query has no form for it")
        else:
            yield _Key(field, flat)


def _decoded(raw: bytes) -> str | None:
    """None for what is no text."""
    if _BROKEN_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        return None


def _value(field: FieldShape, text: str) -> object:
    try:
        match field.kind:
            case Kind.INTEGER:
                return wire.lenient_integer(field.low, field.high)(text)
            case Kind.DOUBLE:
                return wire.lenient_double(text)
            case Kind.BOOLEAN:
                return wire.lenient_boolean(text)
            case Kind.ENUM:
                return _number(field, text)
            case Kind.TEXT | Kind.RAW_JSON | Kind.MESSAGE:
                return text
    except wire.RefusedError:
        raise WireError(field.key, f"expected {expected_value(field)}, found another text") from None


def _number(field: FieldShape, text: str) -> int | None:
    """Of an enum's word, whose case does not count in a query (facts 2021 §7); None = an unknown word of a lenient enum."""
    for word, number in field.words.numbers.items():
        if word.lower() == text.lower():
            return number
    if field.words.strict:
        raise wire.RefusedError
    return None
