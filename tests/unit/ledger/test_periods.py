"""The arithmetic of usage: worked examples, then random lives against an oracle that counts milliseconds one stretch at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.ledger.periods import Running, charge_id, periods_due, periods_used

MINUTE = 60_000
START = 1_633_329_776_235


@pytest.mark.parametrize(
    ("runs", "now", "charged", "due"),
    [
        ([], 0, 0, 0),
        ([(0, None)], 0, 0, 0),
        ([(0, None)], 59_999, 0, 0),
        ([(0, None)], 60_000, 0, 1),
        ([(0, None)], 60_000, 1, 0),
        ([(0, None)], 190_000, 1, 2),
        ([(0, 0)], 9, 0, 1),
        ([(0, 1)], 9, 0, 1),
        ([(0, 1_000)], 10**9, 0, 1),
        ([(0, 60_000)], 10**9, 0, 1),
        ([(0, 60_001)], 10**9, 0, 2),
        ([(0, 60_001)], 10**9, 1, 1),
        ([(0, 60_001)], 10**9, 2, 0),
        ([(0, 20_000), (50_000, 70_000), (90_000, 110_001)], 10**9, 0, 2),
        ([(0, 20_000), (50_000, None)], 89_999, 0, 0),
        ([(0, 20_000), (50_000, None)], 90_000, 0, 1),
    ],
)
def test_worked_examples(runs: list[tuple[int, int | None]], now: int, charged: int, due: int) -> None:
    """Whole periods while it runs, the rest rounded up once it has ended, what is charged taken off."""
    intervals = [Running(START + a, None if b is None else START + b) for a, b in runs]
    assert periods_due(intervals, period_ms=MINUTE, charged=charged, now_ms=START + now) == due


def test_a_clock_set_back_bills_nothing_and_repeats_nothing() -> None:
    """Now before the start, and less time than was charged already: 0, never negative. An end before the start: the one period that every
    life owes."""
    running = [Running(START, None)]
    assert periods_due(running, period_ms=MINUTE, charged=0, now_ms=START - 10**9) == 0
    assert periods_due([Running(START, START - 5)], period_ms=MINUTE, charged=0, now_ms=START) == 1
    assert periods_due(running, period_ms=MINUTE, charged=7, now_ms=START + MINUTE) == 0
    assert periods_due(running, period_ms=MINUTE, charged=7, now_ms=START + 8 * MINUTE) == 1


def test_a_suspended_job_is_not_rounded_up() -> None:
    """No interval is open, yet its life goes on: only whole periods are due until it has ended."""
    runs = [Running(START, START + 90_000)]
    assert periods_due(runs, period_ms=MINUTE, charged=0, now_ms=START + 10**9, ended=False) == 1
    assert periods_due(runs, period_ms=MINUTE, charged=1, now_ms=START + 10**9, ended=True) == 1


def test_a_price_for_each_unit_is_billed_once() -> None:
    """As soon as the job has started; a job that never ran is not billed."""
    assert periods_due([], period_ms=0, charged=0, now_ms=START) == 0
    assert periods_due([Running(START, None)], period_ms=0, charged=0, now_ms=START) == 1
    assert periods_due([Running(START, START + 10**9)], period_ms=0, charged=1, now_ms=START + 10**9) == 0


def test_a_charge_is_named_after_its_first_period() -> None:
    assert charge_id("54112", 7) == "54112-7"


stretches = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 5_000)), min_size=1, max_size=6)
"""Pause before each stretch, and its length, in ms."""


def life_of(parts: list[tuple[int, int]]) -> list[Running]:
    at, life = START, list[Running]()
    for pause, length in parts:
        life.append(Running(at + pause, at + pause + length))
        at += pause + length
    return life


def seen_at(life: list[Running], now: int) -> list[Running]:
    """What was stored of the life at that time."""
    return [
        r if r.ended_at_ms is not None and r.ended_at_ms <= now else Running(r.started_at_ms, None) for r in life if r.started_at_ms <= now
    ]


def oracle(life: list[Running], period: int, now: int, over: bool) -> int:
    """Walks the life with a meter: each full meter is one period; what is left in it counts when the life is over."""
    periods = meter = 0
    for run in life:
        end = min(run.ended_at_ms if run.ended_at_ms is not None else now, now)
        rest = max(end - run.started_at_ms, 0)
        while rest:
            step = min(rest, period - meter)
            meter += step
            rest -= step
            if meter == period:
                periods, meter = periods + 1, 0
    return max(periods + (1 if meter else 0), 1) if over else periods


@given(parts=stretches, period=st.integers(1, 3_000), asks=st.lists(st.integers(-2_000, 70_000), max_size=12))
def test_any_way_of_asking_bills_the_same_life(parts: list[tuple[int, int]], period: int, asks: list[int]) -> None:
    """Asked at any times, also by a clock that goes back, then at the end: each period once, in all the running time rounded up once."""
    life = life_of(parts)
    end = life[-1].ended_at_ms or 0
    charged = 0
    billed: list[int] = []
    for ask in asks:
        now = min(START + ask, end - 1)
        known = seen_at(life, now)
        due = periods_due(known, period_ms=period, charged=charged, now_ms=now, ended=False)
        assert due >= 0
        assert charged + due == max(charged, oracle(known, period, now, over=False))
        billed.extend(range(charged, charged + due))
        charged += due
    due = periods_due(life, period_ms=period, charged=charged, now_ms=end)
    billed.extend(range(charged, charged + due))
    total = sum((r.ended_at_ms or 0) - r.started_at_ms for r in life)
    assert billed == list(range(max(-(-total // period), 1)))
    assert len(billed) == oracle(life, period, end, over=True)
    assert periods_due(life, period_ms=period, charged=len(billed), now_ms=end + 10**9) == 0


@given(parts=stretches, period=st.integers(1, 3_000), times=st.lists(st.integers(0, 70_000), min_size=2, max_size=10))
def test_use_never_shrinks_while_time_goes_on(parts: list[tuple[int, int]], period: int, times: list[int]) -> None:
    """Later is never less."""
    life = life_of(parts)
    used = [periods_used(seen_at(life, START + t), period_ms=period, now_ms=START + t, ended=False) for t in sorted(times)]
    assert all(a <= b for a, b in pairwise(used))
