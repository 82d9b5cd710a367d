"""What an agent said, made comparable, and what the real one was recorded to have said: tests/golden/nomad.

`SERAI_RECORD=1` on a real agent writes it anew.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import cast

import msgspec

from fakes.nomad_calls import events_of
from fakes.nomad_jobs import Json

GOLDEN = Path(__file__).parents[1] / "golden" / "nomad"

_MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"/[^ \"]*/alloc/<id>"), "<alloc>"),
    (re.compile(r"conflicting job modify index: \d+"), "conflicting job modify index: <index>"),
)


def masked(value: object, key: str = "") -> object:
    """Ids, times and indexes replaced: what is left is the same in each run."""
    if isinstance(value, dict):
        return {k: masked(v, k) for k, v in sorted(cast("Json", value).items())}
    if isinstance(value, list):
        return [masked(v) for v in cast("list[object]", value)]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return "<index>" if key.endswith("Index") and value else "<time>" if value > 10**15 else value
    if isinstance(value, str):
        for pattern, word in _MASKS:
            value = pattern.sub(word, value)
    return value


def story(alloc: Json, task: str = "main") -> list[Json]:
    """A task's events without what is empty: what a reader of them sees."""
    kept = [{k: v for k, v in e.items() if v not in ("", 0, False, None, {}) and k != "Time"} for e in events_of(alloc, task)]
    return [e for e in kept if e["Type"] != "Driver"]


def end(alloc: Json, task: str = "main") -> Json:
    """How an allocation ended: the fields that tell the causes apart."""
    names = ("ClientStatus", "ClientDescription", "DesiredStatus", "DesiredDescription")
    state = cast("Json", cast("Json", alloc["TaskStates"])[task])
    return {n: alloc[n] for n in names} | {"State": state["State"], "Failed": state["Failed"], "Events": story(alloc, task)}


class Golden:
    def __init__(self, *, records: bool) -> None:
        self._records = records

    def check(self, name: str, said: object) -> None:
        """As the real agent said it."""
        text = msgspec.json.format(msgspec.json.encode(masked(said)), indent=1).decode() + "\n"
        place = GOLDEN / f"{name}.json"
        if self._records:
            place.write_text(text)
        wanted = place.read_text()
        lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), "recorded", "now")
        assert text == wanted, f"{name} is not as recorded:\n" + "\n".join(lines)

    def check_fields(self, name: str, said: Json, besides: frozenset[str] = frozenset()) -> None:
        """The recorded one's fields, each of its kind; `besides` = those that the fake does not have."""
        place = GOLDEN / f"{name}.json"
        if self._records:
            place.write_text(msgspec.json.format(msgspec.json.encode(_kinds(said)), indent=1).decode() + "\n")
        wanted = msgspec.json.decode(place.read_bytes(), type=dict[str, str])
        now = _kinds(said)
        wrong = {k: (kind, now.get(k)) for k, kind in wanted.items() if now.get(k) != kind and not (k in besides and k not in now)}
        assert not wrong, f"{name}: field → (recorded kind, now): {wrong}"


def _kinds(row: Json) -> dict[str, str]:
    return {k: type(v).__name__ for k, v in sorted(row.items())}
