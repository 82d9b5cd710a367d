"""Errors of a settings file in words: the path of each wrong key, and what may stand there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, cast, get_args, get_origin

import msgspec
from msgspec import inspect

_PLAIN = ((inspect.BoolType, "true or false"), (inspect.VarTupleType, "a list"), (inspect.StructType, "a section"))


def unknown_keys(value: object, kind: inspect.Type, path: str = "") -> Iterator[str]:
    """A line for each key of `value` that the type does not have, with the nearest one that it has."""
    if isinstance(kind, inspect.StructType) and isinstance(value, Mapping):
        known = {field.encode_name: field.type for field in kind.fields}
        for key, inner in cast("Mapping[str, object]", value).items():
            at = f"{path}.{key}" if path else key
            if key in known:
                yield from unknown_keys(inner, known[key], at)
            else:
                yield f"{at}: {_unknown(key, path, list(known))}"
    elif isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
        for index, inner in enumerate(cast("Sequence[object]", value)):
            yield from unknown_keys(inner, kind.item_type, f"{path}[{index}]")


def _unknown(key: str, path: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"there is no such setting; did you mean {near[0]}?"
    place = f"[{path}]" if path else "the file"
    return f"there is no such setting; {place} may have {', '.join(known)}"


def wrong_values(value: object, kind: object, path: str = "") -> Iterator[str]:
    """A line for each setting that is missing, or whose value its type (a class or an annotation) does not allow.

    No text of the file is repeated: it may be a password. msgspec decides about each value, but tells only of the first one.
    """
    shape = _bare(inspect.type_info(kind))
    if isinstance(shape, inspect.StructType) and isinstance(value, Mapping):
        there = cast("Mapping[str, object]", value)
        for field in msgspec.structs.fields(shape.cls):
            at = f"{path}.{field.encode_name}" if path else field.encode_name
            if field.encode_name in there:
                yield from wrong_values(there[field.encode_name], field.type, at)
            elif field.required:
                yield f"{at}: is missing"
    elif isinstance(shape, inspect.VarTupleType) and isinstance(value, list):
        items = cast("list[object]", value)
        if len(items) < (shape.min_length or 0):
            yield f"{path}: expected {shape.min_length} or more"
        for index, inner in enumerate(items):
            yield from wrong_values(inner, _item(kind), f"{path}[{index}]")
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            yield f"{path}: expected {expected(inspect.type_info(kind))}{_found(value, shape)}"


def expected(kind: inspect.Type) -> str:
    """What a setting of this type may be: "a whole number, 0 to 600,000". A type that says so itself is taken at its word."""
    if isinstance(kind, inspect.Metadata):
        schema = cast("dict[str, object]", kind.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType] - a bare dict in msgspec
        said = schema.get("description")
        return said if isinstance(said, str) else expected(kind.type)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _limits(kind)
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(str(v) for v in kind.values)}"
    return next((words for cls, words in _PLAIN if isinstance(kind, cls)), "a text")


def _limits(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.gt is not None:
        return f", more than {kind.gt:,}" + (f", at most {kind.le:,}" if kind.le is not None else "")
    if kind.ge is None:
        return ""
    return f", {kind.ge:,} or more" if kind.le is None else f", {kind.ge:,} to {kind.le:,}"


def _found(value: object, shape: inspect.Type) -> str:
    """ ", not …": a number as it stands, of everything else only what kind it is; nothing when the kind is right."""
    numbers = isinstance(shape, (inspect.IntType, inspect.FloatType))
    match value:
        case bool():
            return f", not {str(value).lower()}"
        case int() | float():
            return f", not {value:,}"
        case str():
            return "" if isinstance(shape, (inspect.StrType, inspect.LiteralType)) else f", not a text{' in quotes' if numbers else ''}"
        case list():
            return ", not a list"
        case dict():
            return ", not a section"
        case _:
            return ", not a date or a time"


def _bare(kind: inspect.Type) -> inspect.Type:
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _item(kind: object) -> object:
    """The item's annotation of `tuple[Item, ...]`, whatever is said about the tuple."""
    return get_args(get_args(kind)[0] if get_origin(kind) is Annotated else kind)[0]
