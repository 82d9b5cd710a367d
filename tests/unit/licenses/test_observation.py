"""What a license server's answer leaves for jobs of ours: never more than there are seats, never less than none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.licenses.servers.lmstat import FeatureUse
from serai_server.licenses.servers.observation import KEEP_MS, Observation, capacity_of, decoded, encoded, limit_of


def seen(held: int = 0, **features: tuple[int, int]) -> Observation:
    return Observation(0, {name: FeatureUse(*numbers) for name, numbers in features.items()}, held)


@pytest.mark.parametrize(
    ("seats", "observation", "limit"),
    [
        ([], None, None),
        ([], seen(solver=(5, 5)), None),
        ([("solver", 5)], None, 5),
        ([("solver", 5)], seen(mesher=(1, 1)), 5),
        ([("solver", 5)], seen(solver=(5, 0)), 5),
        ([("solver", 5)], seen(solver=(5, 3)), 2),
        ([("solver", 5)], seen(3, solver=(5, 3)), 5),
        ([("solver", 5)], seen(2, solver=(5, 3)), 4),
        ([("solver", 5)], seen(4, solver=(5, 3)), 5),
        ([("solver", 5)], seen(solver=(3, 0)), 3),
        ([("solver", 5)], seen(solver=(50, 40)), 0),
        ([("solver", 5)], seen(solver=(0, 0)), 0),
        ([("Solver", 5)], seen(solver=(5, 4)), 1),
        ([("solver", 5), ("mesher", 9)], seen(solver=(5, 1), mesher=(9, 8)), 1),
        ([("solver", 5), ("mesher", 9)], None, 5),
    ],
)
def test_limits(seats: list[tuple[str, int]], observation: Observation | None, limit: int | None) -> None:
    """Configured or there, whichever is less, without what others use; the scarcest feature decides; none = not counted."""
    assert limit_of(seats, observation) == limit


counts = st.integers(0, 100)


@given(configured=st.integers(1, 100), total=counts, ours=counts, others=counts)
def test_no_seat_is_given_out_twice(configured: int, total: int, ours: int, others: int) -> None:
    """With what others use, jobs up to the limit need no more seats than the server has."""
    limit = limit_of([("solver", configured)], seen(ours, solver=(total, ours + others)))
    assert limit is not None
    assert 0 <= limit <= configured
    assert limit == 0 or limit + others <= total


@pytest.mark.parametrize(("later_ms", "counts"), [(0, True), (KEEP_MS - 1, True), (KEEP_MS, False), (-1, False)])
def test_what_is_kept_of_an_answer(later_ms: int, counts: bool) -> None:
    """As it was, for ten minutes; not of a time to come."""
    told = Observation(5_000, {"solver": FeatureUse(5, 2)}, 1)
    assert decoded(encoded(told), 5_000 + later_ms) == (told if counts else None)


@pytest.mark.parametrize("stored", [b"", b"{", b'{"at_ms": "x"}', b"null"])
def test_what_is_not_an_answer(stored: bytes) -> None:
    """As of a server that never gave one, or of another release: as if nothing was told."""
    assert decoded(stored, 5_000) is None


@given(configured=st.integers(1, 100), total=counts, ours=counts, others=counts)
def test_nobody_can_have_more_than_there_is(configured: int, total: int, ours: int, others: int) -> None:
    """The capacity is what the limit is when nobody else uses any."""
    seats, use = [("solver", configured)], seen(ours, solver=(total, ours + others))
    assert capacity_of(seats, use) == limit_of(seats, seen(ours, solver=(total, ours))) == min(configured, total)
    assert capacity_of(seats, None) == configured
    assert capacity_of([], use) is None
