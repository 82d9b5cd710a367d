"""Says where and why a body is not what the wire allows.

Runs only after the quick reader has refused a body, so it may be slow and plain: it walks the parsed JSON along the shapes and raises at
the first value that does not fit, in the order of the shapes. The tests hold both readers to the same verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import msgspec

from serai_gateway.codec import wire
from serai_gateway.codec.errors import WireError
from serai_gateway.codec.shape import FieldShape, Kind, MessageShape
from serai_gateway.codec.text import plain

MOST_ITEMS = 1000
"""Of one bulk request (facts 2021 §7)."""

_TOO_DEEP = "expected JSON of a sensible depth, found lists or objects nested too deep"
# A key in a path is for finding the place, not for repeating content.
_LONGEST_KEY = 64


def diagnose(shape: MessageShape, body: bytes, *, bulk: bool) -> WireError:
    """Why the quick reader refused `body` (respelled by `codec.text`)."""
    try:
        value = cast("object", msgspec.json.decode(body))
        _message(shape, value, "")
        if bulk:
            _items(cast("Mapping[str, object]", value))
        return _twice(body) or WireError("", "the body cannot be read")
    except WireError as found:
        return found
    except RecursionError:
        return WireError("", _TOO_DEEP)
    except (msgspec.MsgspecError, ValueError) as wrong:
        return WireError("", f"expected JSON: {_parse_words(body, wrong)}")


class _Twice(dict[str, object]):
    """An object in which a key stands more than once."""

    key = ""


def _twice(body: bytes) -> WireError | None:
    """A key's last value is the one that the walk has seen; the quick reader checks those before it as well."""

    def entries(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = _Twice(pairs)
        if len(found) == len(pairs):
            return dict(pairs)
        seen: set[str] = set()
        found.key = next(key for key, _ in pairs if key in seen or seen.add(key))
        return found

    # Numbers stay texts: they are not looked at, and Python refuses to read very long ones.
    return _find_twice(cast("object", json.loads(body, object_pairs_hook=entries, parse_int=str, parse_float=str)), "")


def _find_twice(value: object, path: str) -> WireError | None:
    if isinstance(value, _Twice):
        return WireError(path, f"expected each key once, found {_quoted(value.key)} more than once")
    inner: Iterable[tuple[str, object]] = ()
    if isinstance(value, dict):
        inner = ((_join(path, key), one) for key, one in cast("Mapping[str, object]", value).items())
    elif isinstance(value, list):
        inner = ((f"{path}[{index}]", one) for index, one in enumerate(cast("list[object]", value)))
    return next((found for where, one in inner if (found := _find_twice(one, where)) is not None), None)


def _parse_words(body: bytes, wrong: Exception) -> str:
    """The parser's words without the body's content. Its own place is left out: it counts in unnamed steps, which helps nobody."""
    return "found an empty body" if not body.strip() else str(wrong).partition(" - at ")[0]


def _items(value: Mapping[str, object]) -> None:
    items = value.get("items")
    if not isinstance(items, list):
        raise WireError("items", f"expected a list of 1 to {MOST_ITEMS} items, found {_absent('items', value)}")
    check_count(len(cast("list[object]", items)))


def check_count(count: int) -> None:
    """WireError for a bulk of too few or too many items."""
    if not 1 <= count <= MOST_ITEMS:
        raise WireError("items", f"expected 1 to {MOST_ITEMS} items, found {count}")


def _message(shape: MessageShape, value: object, path: str) -> None:
    if shape.only:
        only = shape.fields[0]
        if value is None and (only.repeated or only.is_map):
            raise WireError(path, f"expected {_expected(only)}, found null")
        _field(only, value, path, "null")
        return
    if not isinstance(value, dict):
        raise WireError(path, f"expected an object, found {_found(value)}")
    entries = cast("Mapping[str, object]", value)
    if shape.empty:
        return
    if shape.union_key:
        _fields(_member(shape, entries, path), entries, path)
    else:
        _fields(shape, entries, path)


def _member(shape: MessageShape, entries: Mapping[str, object], path: str) -> MessageShape:
    where = _join(path, shape.union_key)
    tag = entries.get(shape.union_key)
    members = {field.tag: field.submessage for field in shape.fields}
    if not isinstance(tag, str):
        raise WireError(where, f"expected one of {', '.join(members)}; found {_absent(shape.union_key, entries)}")
    if tag not in members:
        raise WireError(where, f"expected one of {', '.join(members)}; found another word")
    return members[tag]


def _fields(shape: MessageShape, entries: Mapping[str, object], path: str) -> None:
    for field in shape.fields:
        _field(field, entries.get(field.key), _join(path, field.key), _absent(field.key, entries))


def _field(field: FieldShape, value: object, where: str, absent: str) -> None:
    """`absent` says what there is when the value is None."""
    if value is None:
        if field.required:
            raise WireError(where, f"expected {_expected(field)}, found {absent}")
    elif field.repeated:
        if not isinstance(value, list):
            raise WireError(where, f"expected a list, found {_found(value)}")
        for index, element in enumerate(cast("list[object]", value)):
            _value(field, element, f"{where}[{index}]")
    elif field.is_map:
        if not isinstance(value, dict):
            raise WireError(where, f"expected an object, found {_found(value)}")
        for key, element in cast("Mapping[str, object]", value).items():
            _value(field, element, f"{where}[{_quoted(key)}]")
    else:
        _value(field, value, where)


def _value(field: FieldShape, value: object, path: str) -> None:
    if field.kind is Kind.MESSAGE:
        _message(field.submessage, value, path)
    elif not _fits(field, value):
        raise WireError(path, f"expected {expected_value(field)}, found {_found_for(field, value)}")


def _found_for(field: FieldShape, value: object) -> str:
    """As `_found`; a value of the right kind is wrong for another reason."""
    if field.kind is Kind.INTEGER and isinstance(value, int) and not isinstance(value, bool):
        return "one outside"
    if isinstance(value, str) and (field.kind is Kind.ENUM or field.lenient):
        return "another text"
    return _found(value)


def _fits(field: FieldShape, value: object) -> bool:
    found = not isinstance(value, bool)
    match field.kind:
        case Kind.RAW_JSON | Kind.MESSAGE:
            fits = True
        case Kind.TEXT:
            fits = isinstance(value, str)
        case Kind.ENUM:
            fits = isinstance(value, str) and (not field.words.strict or value in field.words.numbers)
        case Kind.BOOLEAN:
            fits = isinstance(value, bool) or _spelled(field, wire.lenient_boolean, value)
        case Kind.INTEGER:
            in_range = isinstance(value, int) and found and field.low <= value <= field.high
            fits = in_range or _spelled(field, wire.lenient_integer(field.low, field.high), value)
        case Kind.DOUBLE:
            fits = (isinstance(value, int | float) and found) or _spelled(field, wire.lenient_double, value)
    return fits


def _spelled(field: FieldShape, read: Callable[[str], object], value: object) -> bool:
    """A text that stands for a number or a boolean, where that is allowed."""
    if not field.lenient or not isinstance(value, str):
        return False
    try:
        read(value)
    except wire.RefusedError:
        return False
    return True


_EXPECTED = {
    Kind.TEXT: "a text",
    Kind.RAW_JSON: "a JSON value",
    Kind.BOOLEAN: "true or false",
    Kind.DOUBLE: "a number",
    Kind.ENUM: "a word",
    Kind.MESSAGE: "an object",
}


def expected_value(field: FieldShape) -> str:
    """What one value of a field has to be, in words."""
    if field.kind is Kind.INTEGER:
        return f"a whole number from {field.low} to {field.high}"
    if field.kind is Kind.ENUM and field.words.strict:
        return f"one of {', '.join(field.words.numbers)}"
    return _EXPECTED[field.kind]


def _expected(field: FieldShape) -> str:
    if field.repeated or field.is_map:
        return "a list" if field.repeated else "an object"
    return expected_value(field)


# bool before int: Python's True is an int.
_FOUND = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number with a fraction or an exponent"),
    (str, "a text"),
    (list, "a list"),
)


def _found(value: object) -> str:
    if value is None:
        return "null"
    return next((words for kind, words in _FOUND if isinstance(value, kind)), "an object")


def _absent(key: str, entries: Mapping[str, object]) -> str:
    return _found(entries[key]) if key in entries else "no such key"


def _quoted(key: str) -> str:
    text = plain(key)
    return json.dumps(text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}…", ensure_ascii=False)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
