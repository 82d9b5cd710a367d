"""What a license server's answer leaves for jobs of ours: never more than there are seats, never less than none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.licenses.lmstat import FeatureUse
from serai_server.licenses.observation import Observation, limit_of


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
