"""Examples of the documents: the golden messages that the wire's tests hold the codec to (tests/golden)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"

OLDER = "derived-licenses-provider-retrieveProducts.response.json"
"""An answer as it was before there was maintenance: Serai always writes that key, as the seed of 2023 has it, so it is no example."""

Generation = str
"""`2021` or `2026`."""

Examples = Mapping[str, Mapping[str, object]]
"""As OpenAPI has them: by name, each with `summary` and `value`."""


@dataclass(frozen=True, slots=True)
class Example:
    """One message. `path` has `{provider}` where the provider's id stands."""

    verb: str
    path: str
    is_answer: bool
    name: str
    summary: str
    value: object


def load(generation: Generation) -> tuple[Example, ...]:
    """Messages of calls that come in. Answers are those of 2021 in both: Serai's own do not differ."""
    documented = _of_2021()
    if generation == "2021":
        return documented
    return (*_of_2026(), *(one for one in documented if one.is_answer or one.path.startswith("/api/")))


def of(examples: tuple[Example, ...], verb: str, path: str, *, is_answer: bool) -> Examples:
    """Those of one call, in their order."""
    found = [one for one in examples if (one.verb, one.path, one.is_answer) == (verb, path, is_answer)]
    return {one.name: {"summary": one.summary, "value": one.value} for one in found}


def compact(value: object) -> bytes:
    """A message as bytes."""
    return json.dumps(value, separators=(",", ":")).encode()


def error() -> object:
    """The body of an error."""
    return cast("object", json.loads((GOLDEN / "ucloud-2021" / "derived-error-feature-not-supported.response.json").read_text("utf-8")))


def _of_2021() -> tuple[Example, ...]:
    folder = GOLDEN / "ucloud-2021"
    index = cast("list[Mapping[str, str]]", json.loads((folder / "index.json").read_text("utf-8")))
    return tuple(
        Example(
            verb=entry["verb"],
            path=entry["path"],
            is_answer=entry["kind"] == "response",
            name=_name(entry["file"]),
            summary="From UCloud's documents" if entry["documented"] else "As UCloud's code of that time has it",
            value=cast("object", json.loads((folder / entry["file"]).read_text("utf-8"))),
        )
        for entry in sorted(index, key=lambda entry: (not entry["documented"], entry["file"]))
        if entry["direction"] == "ingoing" and entry["kind"] in {"request", "response"} and entry["file"] != OLDER
    )


def _name(file: str) -> str:
    return file.removesuffix(".json").removesuffix(".request").removesuffix(".response").removeprefix("derived-")


def _of_2026() -> tuple[Example, ...]:
    found: list[Example] = []
    for file in sorted((GOLDEN / "ucloud-2026").glob("*.json")):
        recorded = cast("Mapping[str, object]", json.loads(file.read_text("utf-8")))
        if recorded["request"] is not None:
            path = cast("str", recorded["path"]).replace("/ucloud/PROVIDER/", "/ucloud/{provider}/")
            verb = cast("str", recorded["method"])
            found.append(Example(verb, path, False, "recorded", "As today's Core sent it", recorded["request"]))
    return tuple(found)
