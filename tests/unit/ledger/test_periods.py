"""The arithmetic of usage: worked examples, then random lives against an oracle that counts milliseconds one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.ledger.periods import charge_id, periods_due, periods_used, until_next_ms

MINUTE = 60_000


@pytest.mark.parametrize(
    ("ran", "over", "charged", "due"),
    [
        (0, False, 0, 0),
        (59_999, False, 0, 0),
        (60_000, False, 0, 1),
        (60_000, False, 1, 0),
        (190_000, False, 1, 2),
        (0, True, 0, 1),
        (1, True, 0, 1),
        (1_000, True, 0, 1),
        (60_000, True, 0, 1),
        (60_001, True, 0, 2),
        (60_001, True, 1, 1),
        (60_001, True, 2, 0),
        (90_000, False, 0, 1),
        (90_000, True, 1, 1),
        (-5, False, 0, 0),
        (-5, True, 0, 1),
        (60_000, False, 7, 0),
    ],
)
def test_worked_examples(ran: int, over: bool, charged: int, due: int) -> None:
    """Whole periods while it lives (suspended or not), the rest rounded up once it is over, what is charged taken off; never negative."""
    assert periods_due(ran, period_ms=MINUTE, charged=charged, over=over) == due


def test_a_price_for_each_unit_is_billed_once() -> None:
    """However long it runs, from its start on."""
    assert periods_due(0, period_ms=0, charged=0, over=False) == 1
    assert periods_due(10**9, period_ms=0, charged=1, over=True) == 0
    assert until_next_ms(5, period_ms=0, charged=1) is None


def test_when_the_next_period_is_complete() -> None:
    """Counted in time that the job runs; not negative for one that is due already."""
    assert until_next_ms(0, period_ms=MINUTE, charged=0) == MINUTE
    assert until_next_ms(90_000, period_ms=MINUTE, charged=1) == 30_000
    assert until_next_ms(190_000, period_ms=MINUTE, charged=1) == 0


def test_an_id_means_one_period_of_one_job() -> None:
    """The provider's ids are unique because job ids are."""
    ids = {charge_id(job, first) for job in ("1", "2", "12") for first in range(30)}
    assert len(ids) == 90


@given(
    st.lists(st.integers(0, 500_000), min_size=1, max_size=12),
    st.sampled_from([1_000, 60_000, 3_600_000]),
)
def test_however_often_it_is_asked_no_period_is_billed_twice_and_none_is_left_out(looks: list[int], period: int) -> None:
    """Bills made at any moments of a life add up to the whole life rounded up, each period once and in order."""
    times, billed = sorted(looks), list[int]()
    for ran in times:
        due = periods_due(ran, period_ms=period, charged=len(billed), over=False)
        billed += range(len(billed), len(billed) + due)
        assert len(billed) * period <= ran
    due = periods_due(times[-1], period_ms=period, charged=len(billed), over=True)
    billed += range(len(billed), len(billed) + due)
    assert billed == list(range(len(billed)))
    assert (len(billed) - 1) * period < max(times[-1], 1) <= len(billed) * period


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=20), st.sampled_from([1_000, 60_000]))
def test_usage_never_shrinks_while_the_job_runs(looks: list[int], period: int) -> None:
    """So what was charged once is never owed back."""
    used = [periods_used(ran, period_ms=period, over=False) for ran in sorted(looks)]
    assert all(a <= b for a, b in pairwise(used))
