"""JSON as the stand-in handles it: a type for any value, readers that answer 400 with the place at fault, and Core's error.

The stand-in reads loosely on purpose (plain dictionaries, no schema shared with Serai): it is the other side of the wire, and a
mistake in Serai's descriptors must not hide in a second use of them.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TypeAlias, cast

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

MAX_ITEMS = 1000
"""Most items of one bulk request (facts 2021 §7, BulkRequest)."""


class Generation(Enum):
    """Which Core is stood in for: that of the seed documents, or today's."""

    G2021 = "2021"
    G2026 = "2026"


class CoreError(Exception):
    """A call that Core refuses: HTTP status and the text of its error body."""

    def __init__(self, status: int, why: str, error_code: str | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.error_code = error_code

    def body(self, generation: Generation) -> JsonObject:
        """The error body by generation (facts 2021 §7, today §3)."""
        if generation is Generation.G2021:
            return {"why": self.why, "errorCode": self.error_code}
        return {"statusCode": self.status, "why": self.why, "errorCode": self.error_code or "", "detailedCode": 0}


def bad_request(path: str, text: str) -> CoreError:
    return CoreError(400, f"{path}: {text}" if path else text)


def parse(body: bytes) -> JsonObject:
    """The body as a JSON object; 400 otherwise."""
    try:
        value = cast("Json", json.loads(body))
    except (ValueError, RecursionError):
        raise bad_request("", "the body is not JSON") from None
    return as_object(value, "")


def read_items(body: JsonObject, *, at_least: int = 1) -> list[JsonObject]:
    """The items of a bulk request; 400 when there are too few or more than 1,000."""
    items = as_list(body.get("items"), "items")
    if not at_least <= len(items) <= MAX_ITEMS:
        raise bad_request("items", f"{at_least} to {MAX_ITEMS} items, not {len(items)}")
    return [as_object(item, f"items[{index}]") for index, item in enumerate(items)]


def as_object(value: Json, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise bad_request(path, f"an object was expected, not {_kind(value)}")
    return value


def as_list(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list):
        raise bad_request(path, f"a list was expected, not {_kind(value)}")
    return value


def text(owner: JsonObject, key: str, path: str) -> str:
    value = owner.get(key)
    if not isinstance(value, str):
        raise bad_request(_join(path, key), f"a text was expected, not {_kind(value)}")
    return value


def text_or_none(owner: JsonObject, key: str, path: str) -> str | None:
    return None if owner.get(key) is None else text(owner, key, path)


def integer(owner: JsonObject, key: str, path: str) -> int:
    value = owner.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(_join(path, key), f"an integer was expected, not {_kind(value)}")
    return value


def integer_or(owner: JsonObject, key: str, path: str, default: int) -> int:
    return default if owner.get(key) is None else integer(owner, key, path)


def boolean_or(owner: JsonObject, key: str, path: str, default: bool) -> bool:
    value = owner.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad_request(_join(path, key), f"true or false was expected, not {_kind(value)}")
    return value


def dig(value: Json, *keys: str) -> Json:
    """The value below `keys`; None when any of them is missing."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def dig_text(value: Json, *keys: str) -> str:
    """As `dig`, for a text; empty when there is none."""
    found = dig(value, *keys)
    return found if isinstance(found, str) else ""


def dump(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
