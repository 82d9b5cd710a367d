"""The golden messages: UCloud's documented examples (2021) and requests recorded from today's Core (2026), and how to get at them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Golden:
    """One message of 2021. `documented` = taken from UCloud's documents; otherwise derived from the types of that time."""

    file: str
    kind: str
    verb: str
    path: str
    direction: str
    documented: bool
    source: str

    @property
    def body(self) -> bytes:
        """The file as it is."""
        return (HERE / "ucloud-2021" / self.file).read_bytes()

    @property
    def json(self) -> Any:
        """The file's value."""
        return json.loads(self.body)


INDEX: tuple[Golden, ...] = tuple(Golden(**entry) for entry in json.loads((HERE / "ucloud-2021" / "index.json").read_text()))
RECORDED: tuple[Path, ...] = tuple(sorted((HERE / "ucloud-2026").glob("*.json")))


def golden(file: str) -> Any:
    """The value of one message of 2021, by its file's name."""
    return json.loads((HERE / "ucloud-2021" / file).read_text())


def seed_request() -> bytes:
    """The seed's batch job as compact JSON, as Core sends it."""
    return json.dumps(golden("jobs-provider-03-jobs.request.json"), separators=(",", ":")).encode()


def as_object(value: object) -> dict[str, Any] | None:
    """The value if it is a JSON object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """The value if it is a JSON list."""
    return cast("list[Any]", value) if isinstance(value, list) else None
