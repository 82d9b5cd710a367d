"""The rules of what may be sent to Core now."""

from __future__ import annotations

import pytest
from fakes.gateway_events import Event, charge, update
from hypothesis import given
from hypothesis import strategies as st
from serai_gateway.control.backoff import Backoff
from serai_gateway.control.generations import lane_of
from serai_gateway.control.queues import Lane, Queues


def queues_2021() -> Queues:
    return Queues(lambda event: lane_of(event, "2021"))


def sequences(batch: list[Event]) -> list[int]:
    return [event.sequence for event in batch]


def test_an_event_that_comes_twice_is_held_once() -> None:
    """The server may send again what is not settled yet; after its settlement it would be a new event."""
    queues = queues_2021()
    assert queues.push(update(1, "a")) is Lane.UPDATES
    assert queues.push(update(1, "a")) is None
    batch = queues.take(Lane.UPDATES, 10)
    assert queues.push(update(1, "a")) is None
    assert sequences(batch) == [1]
    assert len(queues) == 1
    assert queues.settle(batch[0]) is None
    assert len(queues) == 0


def test_nothing_of_a_job_is_taken_while_its_first_is_on_its_way() -> None:
    """Neither in the same lane nor in the other one."""
    queues = queues_2021()
    queues.push(update(1, "a"))
    batch = queues.take(Lane.UPDATES, 10)
    queues.push(charge(2, "a"))
    queues.push(update(3, "a"))
    assert queues.take(Lane.CHARGES, 10) == queues.take(Lane.UPDATES, 10) == []
    assert queues.settle(batch[0]) is Lane.CHARGES
    assert queues.take(Lane.UPDATES, 10) == []
    assert sequences(queues.take(Lane.CHARGES, 10)) == [2]


def test_what_is_put_back_goes_first_and_in_its_order() -> None:
    """A failure changes no order."""
    queues = queues_2021()
    for n in range(1, 6):
        queues.push(update(n, f"job{n}"))
    batch = queues.take(Lane.UPDATES, 3)
    queues.put_back(batch)
    assert sequences(queues.take(Lane.UPDATES, 5)) == [1, 2, 3, 4, 5]


def test_a_job_that_is_set_aside_waits_and_then_travels_alone() -> None:
    """Until an event of it is settled; the count tells how often it failed in a row."""
    queues = queues_2021()
    for n, job in enumerate("aba", 1):
        queues.push(update(n, job))
    batch = queues.take(Lane.UPDATES, 1)
    assert queues.set_aside(batch[0]) == 1
    assert sequences(queues.take(Lane.UPDATES, 5)) == [2]
    assert queues.release("job a") is Lane.UPDATES
    assert queues.set_aside(queues.take(Lane.UPDATES, 5)[0]) == 2
    queues.release("job a")
    queues.push(update(4, "c"))
    batch = queues.take(Lane.UPDATES, 5)
    assert sequences(batch) == [1]
    queues.settle(batch[0])
    assert sequences(queues.take(Lane.UPDATES, 5)) == [4, 3]


def test_an_event_without_a_lane_is_refused() -> None:
    """Whoever fills the queues settles those himself."""
    with pytest.raises(ValueError, match="lane"):
        queues_2021().push(Event(sequence=1, job_id="a"))


@given(st.integers(1, 1000), st.integers(1, 60_000), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=60))
def test_pauses_stay_between_half_and_all_of_what_is_due(base_ms: int, cap_ms: int, random: list[float]) -> None:
    """Doubled each time, never over the cap, never 0."""
    values = iter(random)
    backoff = Backoff(base_ms=base_ms, cap_ms=cap_ms, random=lambda: next(values))
    for failures in range(len(random)):
        due_ms = min(cap_ms, base_ms * 2**failures)
        assert max(1, due_ms // 2) <= backoff.failed() <= max(1, due_ms)
    backoff.succeeded()
    assert backoff.failures == 0
