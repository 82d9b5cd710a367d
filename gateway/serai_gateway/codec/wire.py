"""What the generated readers are built on: protobuf's wire as Latin-1 text, one character for each byte.

Texts and not bytes, because f-strings join them in one step of the interpreter; `codec.text` sees to it that the length of a text is the
length of its UTF-8. Tables map a value straight to its piece of the wire, tag included, so that the generated code has no branches for
absent and default values: those map to ''. Source: protobuf's encoding document (varints, tags, packed lists).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping

import msgspec

VARINT, FIXED64, LENGTH = 0, 1, 2

_TWO_TO_64 = 1 << 64
_PACK_DOUBLE = struct.Struct("<d").pack
_DIGITS = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class RefusedError(Exception):
    """A value that msgspec let through and the wire does not allow; the diagnosis finds its path and its words."""


def varint(number: int) -> str:
    """A varint; negative numbers in ten bytes, as protobuf wants for int32 and int64."""
    if number < 0:
        number += _TWO_TO_64
    pieces: list[str] = []
    while number > 127:
        pieces.append(chr(number & 127 | 128))
        number >>= 7
    pieces.append(chr(number))
    return "".join(pieces)


def tag(number: int, wire_type: int) -> str:
    """A field's tag."""
    return varint(number << 3 | wire_type)


# Lengths that one or two bytes can say. Longer ones raise IndexError in the quick code, and the body is read again with `Lengths`.
SHORT_LENGTHS: tuple[str, ...] = tuple(varint(length) for length in range(1 << 14))


class Lengths:
    """Any length; slower than the tuple by one call."""

    def __getitem__(self, length: int) -> str:
        return varint(length)


class IntegerPieces(dict[int | None, str]):
    """Number to tag and varint; None, and 0 without presence, to ''. Holds the small ones, computes the rest."""

    def __init__(self, number: int, *, presence: bool) -> None:
        self._tag = tag(number, VARINT)
        super().__init__({value: self._tag + varint(value) for value in range(128)})
        self[None] = ""
        if not presence:
            self[0] = ""

    def __missing__(self, value: int | None) -> str:
        if value is None or value < 0:
            return self._tag + varint(value or 0)
        # Two and four bytes with the mark that more follows, then a short end: most numbers are sizes, prices or times.
        if value < 1 << 14:
            return f"{self._tag}{SHORT_LENGTHS[value]}"
        if value < 1 << 28:
            return f"{self._tag}{_MARKED[value & 127]}{_MARKED[value >> 7 & 127]}{SHORT_LENGTHS[value >> 14]}"
        if value < 1 << 42:  # milliseconds since epoch until the year 2109
            low = f"{_MARKED[value & 127]}{_MARKED[value >> 7 & 127]}{_MARKED[value >> 14 & 127]}{_MARKED[value >> 21 & 127]}"
            return f"{self._tag}{low}{SHORT_LENGTHS[value >> 28]}"
        return self._tag + varint(value)


_MARKED = tuple(chr(bits | 128) for bits in range(128))


class WordPieces(dict[str | None, str]):
    """Short name of an enum's value to tag and number; None and unknown words to ''."""

    def __init__(self, number: int, words: Mapping[str, int]) -> None:
        start = tag(number, VARINT)
        super().__init__({word: start + varint(value) for word, value in words.items()})

    def __missing__(self, word: str | None) -> str:
        return ""


def boolean_pieces(number: int, *, presence: bool) -> dict[bool | None, str]:
    """Boolean to tag and byte; None, and false without presence, to ''."""
    start = tag(number, VARINT)
    return {None: "", False: f"{start}\x00" if presence else "", True: f"{start}\x01"}


def double_piece(number: int, *, presence: bool) -> Callable[[float | None], str]:
    """A function from number to tag and eight bytes; None, and 0 without presence, to ''."""
    start = tag(number, FIXED64)

    def piece(value: float | None) -> str:
        if value is None or (not presence and value == 0 and str(value) != "-0.0"):
            return ""
        return start + double_bytes(value)

    return piece


def double_bytes(value: float) -> str:
    """Eight bytes, little-endian."""
    return _PACK_DOUBLE(value).decode("latin-1")


def packed(number: int, one: Callable[[object], str]) -> Callable[[Iterable[object] | None], str]:
    """A function from a list of scalars to protobuf's packed form; None and [] to ''."""
    start = tag(number, LENGTH)

    def piece(values: Iterable[object] | None) -> str:
        body = "".join(map(one, values or ()))
        return f"{start}{varint(len(body))}{body}" if body else ""

    return piece


def raw_text(raw: msgspec.Raw) -> str | None:
    """The JSON text of a value as it came; null is None."""
    found = bytes(raw)
    return None if found == b"null" else found.decode()


def lenient_integer(low: int, high: int) -> Callable[[int | str | None], int | None]:
    """A function from a number, or its decimal digits as text, to the number. Raises RefusedError."""

    def read(value: int | str | None) -> int | None:
        if not isinstance(value, str):
            return value
        if _DIGITS.fullmatch(value) is None or not low <= int(value) <= high:
            raise RefusedError
        return int(value)

    return read


def lenient_double(value: float | str | None) -> float | None:
    """A number, or its decimal form as text. Raises RefusedError, for what is no finite number too."""
    if not isinstance(value, str):
        return value
    if _DECIMAL.fullmatch(value) is None:
        raise RefusedError
    number = float(value)
    if number in (float("inf"), float("-inf")):
        raise RefusedError
    return number


def lenient_boolean(value: bool | str | None) -> bool | None:
    """A boolean, or its word as text. Raises RefusedError."""
    if not isinstance(value, str):
        return value
    if value not in {"true", "false"}:
        raise RefusedError
    return value == "true"
