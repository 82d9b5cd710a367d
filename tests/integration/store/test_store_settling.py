"""Consumers and what they have settled, on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable

import pytest
from fakes.store_rows import new_job
from serai_server.store.model import Backlog, EventSettlement, JobChange, Outcome, State, StopRequest, Target
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore
from sqlalchemy import event


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    """With events 1 to 20: odd ones of job a, even ones of job b."""
    async with open_store(url, lambda _: None) as opened:
        for n in range(10):
            await opened.create_jobs([new_job(f"a{n}"), new_job(f"b{n}")])
        yield opened


def delivered(sequences: Iterable[int], at_ms: int = 100) -> list[EventSettlement]:
    return [EventSettlement(s, Outcome.DELIVERED, "", at_ms) for s in sequences]


async def left(store: SqlStore, consumer: str = "core", after: int = 0, limit: int = 100) -> list[int]:
    return [e.sequence for e in await store.events(consumer, after, limit)]


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([[1, 2, 3]], list(range(4, 21))),
        ([[2]], [1, *range(3, 21)]),
        ([[20], [1]], list(range(2, 20))),
        ([[5, 3, 4]], [1, 2, *range(6, 21)]),
        ([[5], [1, 2, 3, 4, 5, 6]], list(range(7, 21))),
        ([[10, 20], [1, 11], [2, 12]], [*range(3, 10), *range(13, 20)]),
        ([range(1, 21)], []),
        ([[999, 3, -1, 0]], [1, 2, *range(4, 21)]),
        ([[999]], list(range(1, 21))),
    ],
)
async def test_events_are_those_not_settled_in_order(store: SqlStore, rounds: list[list[int]], expected: list[int]) -> None:
    """In whatever order and however often they are settled; sequences of no event are passed over and spoil nothing."""
    for sequences in rounds:
        await store.settle("core", delivered(sequences))
    assert await left(store) == expected
    await store.create_jobs([new_job("new")])
    assert await left(store) == [*expected, 21]


async def test_after_and_limit(store: SqlStore) -> None:
    """The first ones above `after`, those that were jumped over and those above the mark alike."""
    await store.settle("core", delivered([5, 10]))
    assert await left(store, after=3, limit=4) == [4, 6, 7, 8]
    assert await left(store, after=8, limit=3) == [9, 11, 12]
    assert await left(store, after=19) == [20]
    assert await left(store, after=20) == []


async def test_consumers_know_nothing_of_each_other(store: SqlStore) -> None:
    """One that is not known sees all; one that registers from now sees only what comes; registering again changes nothing."""
    await store.settle("core", delivered(range(1, 20)))
    await store.register_consumer("watcher", from_now=True)
    await store.register_consumer("watcher", from_now=False)
    await store.register_consumer("core", from_now=True)
    assert await left(store) == [20]
    assert await left(store, "watcher") == []
    assert await left(store, "stranger") == list(range(1, 21))
    await store.create_jobs([new_job("new")])
    assert await left(store, "watcher") == [21]


async def test_from_now_begins_after_events_of_the_same_commit(store: SqlStore) -> None:
    """A consumer registered behind a create in one group has its events behind it too."""
    creating = store.create_jobs([new_job("x")])
    registering = store.register_consumer("late", from_now=True)
    await creating
    await registering
    assert await left(store, "late") == []


async def test_the_first_outcome_stays(store: SqlStore) -> None:
    """A second settlement of an event, in one call or in two, changes neither its outcome nor when it may be dropped."""
    await store.settle("core", [EventSettlement(1, Outcome.REFUSED, "first", 100), EventSettlement(1, Outcome.DELIVERED, "", 9_000)])
    await store.settle("core", delivered([1], at_ms=9_000))
    assert await store.prune(101) == 1


async def test_targets_are_raised_with_the_outcome(store: SqlStore) -> None:
    """In the same transaction; a final job is left alone."""
    await store.change_job(JobChange("a1", 1, state=State.SUCCESS))
    stops = [StopRequest("a0", Target.STOP_DISOWNED, 7), StopRequest("a1", Target.STOP_DISOWNED, 7)]
    await store.settle("core", [EventSettlement(1, Outcome.JOB_UNKNOWN, "no such job", 100)], stops)
    first, second = await store.job("a0"), await store.job("a1")
    assert first is not None
    assert second is not None
    assert (first.target, first.stop_requested_at_ms) == (Target.STOP_DISOWNED, 7)
    assert second.target is Target.RUN


async def test_undelivered_count(store: SqlStore) -> None:
    """Events of one job that one consumer has not settled, above the mark and below it."""
    await store.change_job(JobChange("a0", 1, events=new_job("a0", events=3).events))
    assert await store.undelivered_count("a0", "core") == 4
    await store.settle("core", delivered([1, 22]))
    assert await store.undelivered_count("a0", "core") == 2
    assert await store.undelivered_count("a0", "other") == 4
    assert await store.undelivered_count("nobody", "core") == 0


async def test_events_at(store: SqlStore) -> None:
    """Those that exist, in order, each once."""
    assert [e.sequence for e in await store.events_at([7, 3, 999, 3])] == [3, 7]
    assert await store.events_at([]) == []


async def test_pruning_drops_what_everyone_settled_long_ago(store: SqlStore) -> None:
    """Nothing while no consumer is known; never what someone has left, what was settled lately, or the newest event."""
    assert await store.prune(10_000) == 0
    await store.settle("core", delivered([1, 2, 3, 5], at_ms=100))
    await store.settle("core", delivered([6], at_ms=200))
    await store.register_consumer("slow", from_now=False)
    assert await store.prune(150) == 0
    await store.settle("slow", delivered([1, 2, 4, 5, 6], at_ms=100))
    assert await store.prune(150) == 3
    assert [e.sequence for e in await store.events_at(range(1, 21))] == [3, 4, *range(6, 21)]
    assert await left(store, "core") == [4, *range(7, 21)]
    assert await left(store, "slow") == [3, *range(7, 21)]
    await store.settle("core", delivered(range(1, 21), at_ms=100))
    await store.settle("slow", delivered(range(1, 21), at_ms=100))
    assert await store.prune(10_000) == 16
    assert [e.sequence for e in await store.events_at(range(1, 21))] == [20]


async def test_sequences_are_not_given_out_again_after_pruning(url: str) -> None:
    """Also when the server starts again with an empty log behind it."""
    async with open_store(url, lambda _: None) as store:
        await store.create_jobs([new_job(str(n)) for n in range(5)])
        await store.settle("core", delivered(range(1, 6)))
        await store.prune(10_000)
    async with open_store(url, lambda _: None) as store:
        await store.create_jobs([new_job("new")])
        assert await left(store) == [6]


async def test_reading_what_is_left_does_not_look_at_what_is_settled(store: SqlStore, dialect: str, url: str) -> None:
    """The database answers from the indexes of what is left (SQLite says how; PostgreSQL's plan depends on its statistics)."""
    if dialect != "sqlite":
        pytest.skip("SQLite's plan is fixed, PostgreSQL's is not")
    seen: list[str] = []

    def spy(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    event.listen(store._reader._engine, "before_cursor_execute", spy)
    await left(store)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {seen[0]}", tuple(0 for _ in range(seen[0].count("?"))))]
    connection.close()
    assert not [step for step in plan if "SCAN events" in step or "SCAN settlements" in step or "SCAN unsettled" in step], plan


async def test_backlogs_count_what_is_left_and_say_since_when(store: SqlStore) -> None:
    """Of every consumer that is known: what was jumped over and what is above the mark; nothing left is no age."""
    assert await store.backlogs() == []
    await store.register_consumer("late", from_now=True)
    await store.settle("core", delivered([1, 2, 5, 10]))
    await store.settle("done", delivered(range(1, 21)))
    at = {event.sequence: event.at_ms for event in await store.events("nobody", 0, 100)}
    assert await store.backlogs() == [
        Backlog("core", 16, at[3], settled_to=10, seen_at_ms=100),
        Backlog("done", 0, 0, settled_to=20, seen_at_ms=100),
        Backlog("late", 0, 0, settled_to=20),
    ]
    await store.settle("core", delivered([3, 4, 6, 7, 8, 9]))
    assert (await store.backlogs())[0] == Backlog("core", 10, at[11], settled_to=10, seen_at_ms=100)
