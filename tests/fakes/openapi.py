"""The published documents, read back: schemas of one call that validate by themselves."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

API = Path(__file__).parents[2] / "docs" / "api"


@cache
def document(name: str) -> dict[str, Any]:
    """`ucloud-2021`, `ucloud-2026` or `v1`."""
    return json.loads((API / f"{name}.json").read_text("utf-8"))


def calls(name: str) -> list[tuple[str, str]]:
    """Verb in capitals and path of each."""
    return [(verb.upper(), path) for path, verbs in document(name)["paths"].items() for verb in verbs]


def operation(name: str, verb: str, path: str) -> dict[str, Any]:
    """One call."""
    return document(name)["paths"][path][verb.lower()]


class Check:
    """A schema of a document, with all that it refers to."""

    def __init__(self, name: str, schema: Any) -> None:
        self._validator: Any = Draft202012Validator({**schema, "components": document(name)["components"]})

    def takes(self, value: Any) -> bool:
        """The value fits."""
        return self._validator.is_valid(value)

    def faults(self, value: Any) -> list[str]:
        """In words, none when the value fits."""
        return [f"{error.json_path}: {error.message[:200]}" for error in self._validator.iter_errors(value)]


def request(name: str, verb: str, path: str) -> Check:
    """Of a call's body."""
    return Check(name, operation(name, verb, path)["requestBody"]["content"]["application/json"]["schema"])


def answer(name: str, verb: str, path: str, status: str = "200") -> Check:
    """Of what is answered."""
    found = operation(name, verb, path)["responses"][status]
    if "$ref" in found:
        found = document(name)["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return Check(name, found["content"]["application/json"]["schema"])
