"""Errors of a settings file in words: the path of the key, and what may stand there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec
from msgspec import inspect

_WHERE = re.compile(r"(?P<text>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\.?(?P<key>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")


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
    elif isinstance(kind, (inspect.ListType, inspect.VarTupleType)) and isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(cast("Sequence[object]", value)):
            yield from unknown_keys(inner, kind.item_type, f"{path}[{index}]")


def _unknown(key: str, path: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"there is no such setting; did you mean {near[0]}?"
    place = f"[{path}]" if path else "the file"
    return f"there is no such setting; {place} may have {', '.join(known)}"


def explain(error: msgspec.ValidationError, kind: inspect.Type) -> str:
    """msgspec's error as `path: what is expected`, in the file's own spelling."""
    found = _WHERE.fullmatch(str(error))
    text, path = (found["text"], (found["path"] or "").removeprefix(".")) if found else (str(error), "")
    missing = _MISSING.fullmatch(text)
    if missing:
        return f"{path}.{missing['name']}: is missing".removeprefix(".")
    there = _type_at(kind, path)
    if isinstance(there, inspect.LiteralType):
        text = f"expected one of {', '.join(str(v) for v in there.values)}"
    words = text[:1].lower() + text[1:].replace("`", "")
    return f"{path or 'the file'}: {words}"


def _type_at(kind: inspect.Type, path: str) -> inspect.Type | None:
    here: inspect.Type | None = kind
    for step in _STEP.finditer(path):
        if isinstance(here, inspect.StructType):
            here = next((f.type for f in here.fields if f.encode_name == step["key"]), None)
        elif isinstance(here, (inspect.ListType, inspect.VarTupleType)):
            here = here.item_type
        else:
            return None
    return here
