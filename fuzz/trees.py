"""Mutations of JSON that know what JSON is: most bytes that are changed at random are no JSON any more, and try the parser alone.

All chance comes from the Random that is given, so a seed is a whole run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import cast

TEXTS = [
    "", "a", "é", "😀", "\x00", "\ud800", "\udfff\ud800", "\u2028", '"\\/', "../..", "null", "true", "7", "-1", "1e9", "NaN",
    "x" * 64, "x" * 250, "é" * 300, "x" * 20_000, "{{ 7 * 7 }}", "{% for i in range(10**9) %}", "$(id)", "a\r\nb: c", "_UCloud",
    "RUNNING", "SUCCESS", "text", "integer", "input_file", "SHELL", "WEB", "VNC", "example", "2000-01-01T00:00:00Z",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 7, 59, 60, 64, 65, 127, 128, 255, 1_000, 1_001, 2**14, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63,
    -(2**63), -(2**63) - 1, 2**64, 10**30, 10**400, 10**5_000, 1.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
DEPTHS = [3, 50, 500, 1_100, 20_000]
SPLICES = [
    b"\xff", b"\xc3", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x00", b"\\u", b"\\ud800", b'\\u00e9"',
    b"\\", b'"', b"null", b"1e9", b"1e999", b"{", b"}", b"[", b"]", b"-", b",", b",,", b":", b"NaN", b"-Infinity", b"//", b"/*", b"0x1",
    b"01", b"1.", b".5", b"+1", b"'", b"\t", b"\x1f", b"\x7f", b"truee", b"9" * 400, b'"\\u0000"', b'{"a":1,"a":2}',
]  # fmt: skip
Json = object
_HOLLOW: list[Json] = [[], {}, [[]], [None], {"": None}, {"type": None}]


class Trees:
    """Makes new bodies of old ones."""

    def __init__(self, chance: random.Random, seeds: Sequence[bytes], *, most_bytes: int = 256 * 1024) -> None:
        """`seeds`: JSON texts, of which values and keys are taken too. `most_bytes`: longer bodies are cut."""
        self._chance = chance
        self._most_bytes = most_bytes
        self._values = [cast("Json", json.loads(seed)) for seed in seeds]
        self._keys = sorted({key for value in self._values for key in _keys(value)}) or ["type"]
        self._ways: list[tuple[Callable[[Json], Json], int]] = [(self._other, 8), (self._without, 3), (self._more, 4), (self._bent, 2)]

    def body(self, seed: bytes) -> bytes:
        """One mutation, or a few, of a text that is JSON or not."""
        chance = self._chance
        body = seed
        if chance.random() < 0.8:
            try:
                body = self.written(self.tree(cast("Json", json.loads(body))))
            except (ValueError, RecursionError):
                body = self.written(self.tree(chance.choice(self._values)))
            if chance.random() < 0.85:
                return body[: self._most_bytes]
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            body = self.bytes(body)
        return body[: self._most_bytes]

    def tree(self, tree: Json) -> Json:
        """The tree with one to three changes; what is not changed is shared with the old one."""
        for _ in range(self._chance.choice([1, 1, 1, 2, 3])):
            tree = self._changed(tree, 0)
        return tree

    def written(self, tree: Json) -> bytes:
        """As JSON, with what Python's writer lets pass besides: NaN, halves of surrogates."""
        chance = self._chance
        try:
            text = json.dumps(tree, ensure_ascii=chance.random() < 0.5, separators=chance.choice([(",", ":"), (", ", ": ")]))
        except (RecursionError, ValueError):  # ValueError: an integer that Python does not spell
            text = "[" * 2_000
        body = text.encode("utf-8", "surrogatepass")
        if chance.random() < 0.1 and b"{" in body:
            # The same key twice: in front, so that readers who take the first and readers who take the last differ.
            at = self._one_of(body, b"{") + 1
            twice = json.dumps({chance.choice(self._keys): self.leaf()}, skipkeys=True).encode("utf-8", "surrogatepass")[1:-1]
            body = body[:at] + twice + b"," + body[at:]
        return body

    def bytes(self, body: bytes) -> bytes:
        """Changed without regard to what it means."""
        chance = self._chance
        start = chance.randint(0, len(body))
        end = min(len(body), start + chance.choice([0, 1, 1, 2, 4, 16]))
        match chance.randrange(7):
            case 0:
                return body[:start]
            case 1:
                return body[:start] + body[end:]
            case 2 | 3:
                return body[:start] + chance.choice(SPLICES) + body[end:]
            case 4:
                return body[:start] + chance.randbytes(end - start) + body[end:]
            case 5:
                deep = chance.choice(DEPTHS)
                opened = chance.choice([b"[", b'{"a":'])
                return body[:start] + opened * deep + chance.choice([b"", b"]" * deep, b"1" + b"}" * deep]) + body[end:]
            case _:
                piece = body[start : start + chance.randint(0, 200)]
                return body[:start] + piece * chance.choice([2, 3, 50]) + body[end:]

    def leaf(self) -> Json:
        """Some value that somebody might not have thought of."""
        chance = self._chance
        match chance.randrange(8):
            case 0 | 1:
                return chance.choice(TEXTS)
            case 2 | 3:
                number = chance.choice(NUMBERS)
                return number if not isinstance(number, int) or number < 10**4_000 else float("inf")
            case 4:
                return chance.choice([None, True, False])
            case 5:
                return chance.choice(_HOLLOW)
            case 6:
                return self._part(chance.choice(self._values))
            case _:
                return chance.choice([chance.randint(-(2**70), 2**70), chance.uniform(-1e6, 1e6), chance.randbytes(4).decode("latin-1")])

    def _changed(self, value: Json, depth: int) -> Json:
        chance = self._chance
        entries, elements = _entries(value), _elements(value)
        if entries and (depth == 0 or chance.random() < 0.8):
            key = chance.choice(list(entries))
            return {**entries, key: self._changed(entries[key], depth + 1)}
        if elements and chance.random() < 0.8:
            at = chance.randrange(len(elements))
            return [*elements[:at], self._changed(elements[at], depth + 1), *elements[at + 1 :]]
        ways, weights = zip(*self._ways, strict=True)
        return chance.choices(ways, weights)[0](value)

    def _other(self, value: Json) -> Json:
        del value
        return self.leaf()

    def _without(self, value: Json) -> Json:
        """A key or an element less."""
        entries, elements = _entries(value), _elements(value)
        if entries:
            gone = self._chance.choice(list(entries))
            return {key: inner for key, inner in entries.items() if key != gone}
        return elements[:-1] if elements else None

    def _more(self, value: Json) -> Json:
        """A key or elements more."""
        chance = self._chance
        entries, elements = _entries(value), _elements(value)
        if entries is not None:
            return {**entries, chance.choice([*self._keys, *TEXTS[:9]]): self.leaf()}
        if elements is not None:
            return [*elements, self.leaf()] * chance.choice([1, 1, 2, 3, 40])
        return [value, value]

    def _bent(self, value: Json) -> Json:
        """The same in another form."""
        chance = self._chance
        deep = value
        for _ in range(chance.choice(DEPTHS[:3])):
            deep = [deep] if chance.random() < 0.5 else {"a": deep}
        return chance.choice(["x", [value], {"value": value}, deep])

    def _part(self, value: Json) -> Json:
        """Some part of a tree."""
        while self._chance.random() < 0.8:
            entries, elements = _entries(value), _elements(value)
            inner = list(entries.values()) if entries else elements or []
            if not inner:
                break
            value = self._chance.choice(inner)
        return value

    def _one_of(self, body: bytes, what: bytes) -> int:
        """Where one of them is."""
        at = body.find(what, self._chance.randrange(len(body)))
        return at if at >= 0 else body.find(what)


def _entries(value: Json) -> dict[str, Json] | None:
    return cast("dict[str, Json]", value) if isinstance(value, dict) else None


def _elements(value: Json) -> list[Json] | None:
    return cast("list[Json]", value) if isinstance(value, list) else None


def _keys(value: Json) -> set[str]:
    entries = _entries(value) or {}
    inner = [*entries.values(), *(_elements(value) or [])]
    return set(entries).union(*(_keys(one) for one in inner))
