"""JSON as the kit handles it: loosely typed on purpose, for it looks at what others wrote, and shares no schema with any provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, cast

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


class NotJson(Exception):
    """What came is no JSON."""


def parse(raw: bytes | str) -> Json:
    """Raises NotJson."""
    try:
        return cast("Json", msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from error


def dump(value: Json) -> bytes:
    return msgspec.json.encode(value)


def dig(value: Json, *keys: str | int) -> Json:
    """What stands below `keys`; None when any of them is missing."""
    for key in keys:
        if isinstance(key, int):
            if not isinstance(value, list) or key >= len(value):
                return None
            value = value[key]
        else:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
    return value


def text_at(value: Json, *keys: str | int) -> str:
    """As `dig`; "" when no text stands there."""
    found = dig(value, *keys)
    return found if isinstance(found, str) else ""


def objects_at(value: Json, *keys: str | int) -> list[JsonObject]:
    """The objects of the list that stands below `keys`; what is no object is left out."""
    found = dig(value, *keys)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def is_whole(value: Json) -> bool:
    """A number without a fraction; `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: Json) -> str:
    """In words, for reasons."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names[type(value)]


def shown(raw: bytes, most: int = 120) -> str:
    """The beginning of an answer, for reasons."""
    text = raw[: most * 4].decode("utf-8", "replace").replace("\n", " ").strip()
    return text if len(text) <= most else f"{text[:most]}…"


def merged(*parts: Mapping[str, Json]) -> JsonObject:
    """One object with the keys of all; of a key that several have, the last one's value."""
    found: JsonObject = {}
    for part in parts:
        found.update(part)
    return found


def with_item(document: JsonObject, path: str, value: Json) -> JsonObject:
    """A copy of `document` in which `value` stands at `path` ("specification.replicas")."""
    key, _, rest = path.partition(".")
    inner = document.get(key)
    return merged(document, {key: with_item(inner if isinstance(inner, dict) else {}, rest, value) if rest else value})


def without(document: JsonObject, path: str) -> JsonObject:
    """A copy of `document` without what stands at `path`."""
    key, _, rest = path.partition(".")
    if not rest:
        return {name: value for name, value in document.items() if name != key}
    inner = document.get(key)
    return merged(document, {key: without(inner, rest)}) if isinstance(inner, dict) else document
