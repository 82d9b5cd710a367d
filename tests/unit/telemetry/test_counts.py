"""Plain counts, and what Prometheus is shown of them."""

from __future__ import annotations

import asyncio

import pytest
from fakes.scraped import read
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector
from serai_telemetry.counts import CALL_BOUNDS, Outcomes, Spread, Spreads, Tally
from serai_telemetry.exposition import Exposition
from serai_telemetry.families import Metric

MS = 1_000_000
CALLS = Metric("serai_calls_total", "counter", "calls", "Calls", ("method", "code"))
SECONDS = Metric("serai_call_seconds", "histogram", "seconds", "Time", ("method",))
OPEN = Metric("serai_open", "gauge", "calls", "Open calls")


class Fixed(Collector):
    def __init__(self, *families: Family) -> None:
        self._families = families

    def collect(self) -> tuple[Family, ...]:
        return self._families


def text(*families: Family) -> bytes:
    return generate_latest(Fixed(*families))


@given(st.lists(st.integers(0, 10**12)))
def test_a_spread_holds_each_value_once(values: list[int]) -> None:
    """In the first bucket whose bound it does not exceed; all together are as many, and their sum is kept."""
    spread = Spread()
    for value in values:
        spread.add(value)
    assert sum(spread.counts) == len(values)
    assert spread.total == sum(values)
    for place, bound in enumerate(spread.bounds):
        assert sum(spread.counts[: place + 1]) == len([value for value in values if value <= bound])


def test_bounds_grow() -> None:
    """And reach from what nobody notices to what Core no longer waits for."""
    assert list(CALL_BOUNDS) == sorted(set(CALL_BOUNDS))
    assert CALL_BOUNDS[0] < MS
    assert CALL_BOUNDS[-1] > 5_000 * MS


def test_outcomes_tell_how_often_and_how_long() -> None:
    """By all labels how often, by the first ones how long."""
    outcomes = Outcomes()
    outcomes.add(("create", "OK"), 2 * MS)
    outcomes.add(("create", "OK"), 3 * MS)
    outcomes.add(("create", "INTERNAL"), 700 * MS)
    outcomes.add(("list", "OK"), MS)
    found = read(text(CALLS.family(outcomes.counts()), SECONDS.spreads(outcomes.times(1))))
    assert found.value("serai_calls_total", method="create", code="OK") == 2
    assert found.value("serai_calls_total", method="create", code="INTERNAL") == 1
    assert found.value("serai_call_seconds_count", method="create") == 3
    assert found.value("serai_call_seconds_sum", method="create") == pytest.approx(0.705)
    assert found.value("serai_call_seconds_bucket", method="create", le="0.0025") == 1
    assert found.value("serai_call_seconds_bucket", method="create", le="1.0") == 3
    assert found.value("serai_call_seconds_bucket", method="create", le="+Inf") == 3
    assert outcomes.times(1)["create",].counts is not outcomes.by_labels["create", "OK"].counts, "reading changes nothing"


def test_other_units_are_shown_as_they_are_counted() -> None:
    """Sizes are not times."""
    spreads = Spreads((1, 8))
    for size in (1, 5, 9):
        spreads.add((), size)
    found = read(text(Metric("serai_writes", "histogram", "writes", "Writes").spreads(spreads.by_labels, scale=1)))
    assert [found.value("serai_writes_bucket", le=bound) for bound in ("1.0", "8.0", "+Inf")] == [1, 2, 3]
    assert found.value("serai_writes_sum") == 15


def test_words_of_ours_have_one_form() -> None:
    """Names of our protos are shown in lower_snake; what others have named is not touched."""
    metric = Metric("serai_calls_total", "counter", "calls", "Calls", ("code", "reason"))
    shown = read(text(metric.family({("NOT_FOUND", "JOB_UNKNOWN"): 1})))
    assert shown.samples("serai_calls_total") == {("NOT_FOUND", "job_unknown"): 1}


def test_what_is_known_before_is_there_at_0() -> None:
    """So that the first one is a rise."""
    tally = Tally((("a", "OK"), ("b", "OK")))
    tally.add(("b", "OK"))
    assert read(text(CALLS.family(tally.counts))).samples("serai_calls_total") == {("OK", "a"): 0, ("OK", "b"): 1}


def test_odd_labels_stay_one_line() -> None:
    """A quote, a backslash or a line's end in a label's value cannot add a line of their own."""
    tally = Tally()
    tally.add(('a"b\\c\nserai_open 7', "OK"))
    shown = text(CALLS.family(tally.counts), OPEN.one(1))
    assert read(shown).value("serai_open") == 1
    assert len([line for line in shown.splitlines() if not line.startswith(b"#")]) == 2


class Part:
    """A Source that may fail or be slow."""

    def __init__(self, metric: Metric, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.metric, self.error, self.hangs = metric, error, hangs
        self.fetched = False

    async def fetch(self) -> None:
        self.fetched = False
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        self.fetched = True

    def collect(self) -> tuple[Family, ...]:
        return (self.metric.one(1),) if self.fetched else ()


async def test_a_part_that_cannot_be_read_costs_its_own_metrics_only() -> None:
    """Whether it fails or hangs; the next scrape tries anew."""
    broken, slow, well = Part(Metric("a", "gauge", "", "A"), ValueError("x")), Part(Metric("b", "gauge", "", "B"), hangs=True), Part(OPEN)
    exposition = Exposition(CollectorRegistry(), (broken, slow, well), fetch_s=0.05)
    assert read(await exposition.text()).names == {"serai_open"}
    broken.error, slow.hangs = None, False
    assert read(await exposition.text()).names == {"a", "b", "serai_open"}


async def test_nothing_is_kept_between_two_of_them() -> None:
    """Two sets of parts in one process do not see each other: no registry is global."""
    one, other = Exposition(CollectorRegistry(), (Part(OPEN),)), Exposition(CollectorRegistry(), (Part(Metric("a", "gauge", "", "A")),))
    assert read(await one.text()).names == {"serai_open"}
    assert read(await other.text()).names == {"a"}
