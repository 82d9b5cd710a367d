"""What the store keeps of sessions, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes.store_groups import outcomes
from fakes.store_rows import new_job
from serai_server.store.api import StoreUnavailable, VersionConflict, WriteRefused
from serai_server.store.model import Committed, JobChange, State
from serai_server.store.open import open_store
from serai_server.store.session_model import SessionKind, StoredSession
from serai_server.store.sql_store import SqlStore


@pytest.fixture
def told() -> list[Committed]:
    return []


@pytest.fixture
async def store(url: str, told: list[Committed]) -> AsyncIterator[SqlStore]:
    async with open_store(url, told.extend) as opened:
        await opened.create_jobs([new_job("1"), new_job("2")])
        told.clear()
        yield opened


def session(session_id: str, job_id: str = "1", kind: SessionKind = SessionKind.WEB) -> StoredSession:
    return StoredSession(session_id, bytes(range(32)), b"", kind, job_id, 3, "ünïcode \U0001f600", 8888, 1_000, 0, 2**40)


async def ids(store: SqlStore) -> list[str]:
    return sorted(row.id for row in await store.sessions.all())


async def test_a_session_is_read_back_as_it_was_given(store: SqlStore, told: list[Committed]) -> None:
    """Every field, and the listener hears of it; also of the operators' own, which belong to no job."""
    rows = [session("a"), session("b", "2", SessionKind.SHELL), session("c", "", SessionKind.CONSOLE)]
    await store.sessions.open(rows, {"1": 1, "2": 1})
    assert sorted(await store.sessions.all(), key=lambda row: row.id) == rows
    assert told == [Committed(sessions=tuple(rows))]


async def test_sessions_of_a_job_that_changed_since_are_refused_whole(store: SqlStore, told: list[Committed]) -> None:
    """Whoever looked at another version of one of the jobs, or at a job that is not there, opens nothing and drops nothing."""
    await store.sessions.open([session("a")], {"1": 1})
    await store.change_job(JobChange("2", 1, state=State.RUNNING))
    told.clear()
    for versions in ({"1": 1, "2": 1}, {"1": 1, "9": 1}):
        with pytest.raises(VersionConflict):
            await store.sessions.open([session("b"), session("c", "2")], versions, ["a"])
    assert (await ids(store), told) == (["a"], [])


async def test_new_ones_take_the_place_of_old_ones_in_one_step(store: SqlStore, told: list[Committed]) -> None:
    """Opened and dropped together."""
    await store.sessions.open([session("a"), session("b")], {"1": 1})
    await store.sessions.open([session("c")], {"1": 1}, ["a", "unknown"])
    assert await ids(store) == ["b", "c"]
    assert told[-1] == Committed(sessions=(session("c"),), sessions_gone=("a", "unknown"))


async def test_a_first_use_there_is_once(store: SqlStore, told: list[Committed]) -> None:
    """Five at once: one is the first. Of a session that is gone there is none."""
    await store.sessions.open([session("a")], {"1": 1})
    told.clear()
    got = await outcomes(store, *((lambda n=n: store.sessions.redeem("a", b"cookie %d" % n, 5, 2**41)) for n in range(5)))
    assert got == [True, False, False, False, False]
    expected = replace(session("a"), cookie=b"cookie 0", redeemed_at_ms=5, expires_at_ms=2**41)
    assert await store.sessions.all() == [expected]
    assert told == [Committed(sessions=(expected,))]
    assert not await store.sessions.redeem("unknown", b"", 5, 6)


async def test_times_are_renewed_without_a_word(store: SqlStore, told: list[Committed]) -> None:
    """Many in one step; unknown ones are passed over."""
    await store.sessions.open([session("a"), session("b")], {"1": 1})
    told.clear()
    await store.sessions.renew({"a": 7, "unknown": 8})
    assert {row.id: row.expires_at_ms for row in await store.sessions.all()} == {"a": 7, "b": 2**40}
    assert told == []


async def test_ended_is_ended(store: SqlStore, told: list[Committed]) -> None:
    """Unknown ones count as ended."""
    await store.sessions.open([session("a"), session("b")], {"1": 1})
    told.clear()
    await store.sessions.end(["a", "unknown"])
    assert await ids(store) == ["b"]
    assert told == [Committed(sessions_gone=("a", "unknown"))]


@pytest.mark.parametrize("way", ["change", "decide", "same group"])
async def test_sessions_go_with_the_final_state_of_their_job(store: SqlStore, way: str) -> None:
    """In the same transaction, whichever way the job came to its end; those of other jobs and of operators stay."""
    over = JobChange("1", 1, state=State.FAILURE, ended_at_ms=9)
    rows = [session("a"), session("b", "2"), session("c", "", SessionKind.CONSOLE)]
    if way == "same group":
        got = await outcomes(
            store,
            lambda: store.sessions.open(rows, {"1": 1, "2": 1}),
            lambda: store.change_job(over),
            lambda: store.sessions.open([session("d")], {"1": 1}),
        )
        assert isinstance(got[2], VersionConflict)
    else:
        await store.sessions.open(rows, {"1": 1, "2": 1})
        if way == "change":
            await store.change_job(over)
        else:
            await store.decide(["1"], lambda _place, _job: over)
    assert await ids(store) == ["b", "c"]


async def test_a_step_that_ends_nothing_leaves_sessions_alone(store: SqlStore) -> None:
    """Only a final state does."""
    await store.sessions.open([session("a")], {"1": 1})
    await store.change_job(JobChange("1", 1, state=State.CANCELING))
    assert await ids(store) == ["a"]


async def test_an_end_that_is_not_stored_ends_no_session(store: SqlStore) -> None:
    """The job's step is refused by the database: its sessions stay, and so does the job."""
    await store.sessions.open([session("a")], {"1": 1})
    with pytest.raises((WriteRefused, StoreUnavailable)):
        await store.change_job(JobChange("1", 1, state=State.FAILURE, ended_at_ms=2**70))
    assert await ids(store) == ["a"]
    job = await store.job("1")
    assert job is not None
    assert job.state is State.IN_QUEUE


async def test_all_is_there_after_opening_again(url: str) -> None:
    """What was answered is on disk."""
    async with open_store(url, lambda _: None) as store:
        await store.create_jobs([new_job("1")])
        await store.sessions.open([session("a"), session("b")], {"1": 1})
        assert await store.sessions.redeem("a", b"cookie", 5, 6)
    async with open_store(url, lambda _: None) as store:
        expected = [replace(session("a"), cookie=b"cookie", redeemed_at_ms=5, expires_at_ms=6), session("b")]
        assert sorted(await store.sessions.all(), key=lambda row: row.id) == expected
