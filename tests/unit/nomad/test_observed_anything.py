"""Whatever Nomad sends, an observation comes of it: fields dropped, null, of other values."""

from __future__ import annotations

import json
from typing import TypeAlias, TypeVar

import msgspec
from fakes.nomad_recorded import ALLOCATIONS, EVALUATIONS, names
from hypothesis import given, settings
from hypothesis import strategies as st
from serai_backends.model import End, Phase, Why
from serai_backends.nomad.observed import Around, address_of, endpoints_of, is_over, observe, why_unplaced
from serai_backends.nomad.wire import Allocation, Evaluation

T = TypeVar("T")
JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
_ALLOCATIONS: list[JSON] = [
    state
    for name in sorted(names(ALLOCATIONS))
    for recorded in [json.loads((ALLOCATIONS / f"{name}.json").read_bytes())]
    for state in (recorded["alone"], recorded["listed"], *recorded["events"])
]
_EVALUATIONS: list[JSON] = [json.loads((EVALUATIONS / f"{name}.json").read_bytes()) for name in sorted(names(EVALUATIONS))]
_WORDS = ("", "dead", "running", "pending", "lost", "complete", "failed", "unknown", "Killing", "Terminated", "Started", "evict", "stop")
_OTHER = st.one_of(
    st.sampled_from([*_WORDS, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+23:59", "2026-02-30T00:00:00Z", "{program}", "}{"]),
    st.text(max_size=8),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.booleans(),
)


def _changed(draw: st.DrawFn, value: JSON, chance: int) -> JSON:
    """The same with some of its fields dropped, null, or of another value of their kind; only maps and lists are null in Go."""
    if isinstance(value, dict | list) and draw(st.integers(0, 2 * chance)) == 0:
        return None
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if draw(st.integers(0, chance)) > 0}
        return {name: _changed(draw, item, chance) for name, item in kept.items()}
    if isinstance(value, list):
        items = [_changed(draw, item, chance) for item in value]
        return items[::-1] if draw(st.integers(0, chance)) == 0 else items
    if draw(st.integers(0, chance)) > 0:
        return value
    other = draw(_OTHER)
    return other if type(other) is type(value) else value


@st.composite
def _altered(draw: st.DrawFn, goldens: list[JSON]) -> JSON:
    return _changed(draw, draw(st.sampled_from(goldens)), draw(st.sampled_from([3, 20])))


def _readable(value: JSON, kind: type[T]) -> T | None:
    """As the client reads it; None = the client would have refused it."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


@settings(max_examples=300, deadline=None)
@given(_altered(_ALLOCATIONS), st.booleans(), st.sampled_from(["", "/no/such", "{x}"]))
def test_any_allocation_can_be_observed(value: JSON, stopped: bool, program: str) -> None:
    """No allocation makes an observation fail, and what is observed keeps the rules of the model."""
    alloc = _readable(value, Allocation)
    if alloc is None:
        return
    seen = observe(3, alloc, Around(stopped=stopped, ours=lambda ms: ms + 5, program=program, image=""))
    assert seen.rank == 3
    assert (seen.phase is Phase.ENDED) == is_over(alloc) == (seen.end is not None)
    assert (seen.exit_code is not None) == (seen.end is End.EXITED)
    assert (seen.signal is not None) == (seen.end in {End.SIGNALED, End.OUT_OF_MEMORY})
    assert seen.end is not End.START_FAILED or seen.started_at_ms is None
    assert seen.ended_at_ms is None or seen.started_at_ms is None or seen.started_at_ms <= seen.ended_at_ms
    assert (seen.phase is Phase.RUNNING) <= (seen.started_at_ms is not None)
    assert seen.end is not End.CANCELED or stopped or seen.why is not Why.NONE or seen.cause
    assert address_of(alloc) != ""
    assert endpoints_of(alloc) == ()


@settings(max_examples=200, deadline=None)
@given(_altered(_EVALUATIONS))
def test_any_evaluations_have_words(value: JSON) -> None:
    """No evaluation makes the words fail, and there are either none or a whole part of a sentence."""
    found = _readable(value, tuple[Evaluation, ...])
    if found is not None:
        words = why_unplaced(found)
        assert words == "" or words.startswith("waiting for ")
