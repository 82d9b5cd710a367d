"""What a real Nomad said (tests/golden/nomad), read as the backend reads it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from serai_backends.nomad.wire import Allocation, Evaluation

_HERE = Path(__file__).parents[1] / "golden" / "nomad"
ALLOCATIONS, EVALUATIONS = _HERE / "allocations", _HERE / "evaluations"


class Recorded(msgspec.Struct, frozen=True):
    """One recorded end; see tests/golden/nomad/record.py."""

    alone: Allocation
    listed: Allocation
    events: tuple[Allocation, ...]


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.json")}


def allocation(name: str) -> Recorded:
    return msgspec.json.decode((ALLOCATIONS / f"{name}.json").read_bytes(), type=Recorded)


def evaluations(name: str) -> tuple[Evaluation, ...]:
    return msgspec.json.decode((EVALUATIONS / f"{name}.json").read_bytes(), type=tuple[Evaluation, ...])
