"""Every call of the store, on both databases."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from fakes.store_rows import new_job, update
from serai_server.store.api import JobConflict, StoreUnavailable, VersionConflict, WriteRefused
from serai_server.store.model import (
    Committed,
    EventKind,
    Interval,
    JobChange,
    JobFilter,
    LedgerRow,
    NewEvent,
    State,
    StopRequest,
    Target,
)
from serai_server.store.open import open_store
from serai_server.store.reads import PAGE_BYTES
from serai_server.store.sql_store import SqlStore

ODD = "ünïcode \U0001f600 'quoted' %s ?"


async def test_a_created_job_is_read_back_as_it_was_given(store: SqlStore) -> None:
    """All that was given stands in the row, the rest says that nothing has happened yet."""
    given = msgspec.structs.replace(
        new_job("54112", project="p1"), status="is queued", body=bytes(range(256)), name="ünïcode \U0001f600 'quoted' %s ?"
    )
    await store.create_jobs([given])
    row = await store.job("54112")
    assert row is not None
    for name in (
        "id",
        "body",
        "digest",
        "owner",
        "project",
        "application",
        "product",
        "name",
        "replicas",
        "time_limit_ms",
        "period_ms",
        "output_folder",
    ):
        assert getattr(row, name) == getattr(given, name)
    assert (row.state, row.target, row.version, row.created_at_ms) == (State.IN_QUEUE, Target.RUN, 1, 1_000)
    assert not any((row.submitted_at_ms, row.started_at_ms, row.ended_at_ms, row.forgotten_at_ms, row.stop_requested_at_ms))
    assert (row.replica_facts, row.charged_periods, row.wake_at_ms) == (b"", 0, 0)


async def test_an_unknown_job_is_none(store: SqlStore) -> None:
    """Whatever the id looks like, also one that the database could not hold."""
    assert await store.job("nobody") is None
    assert await store.job("nul\0nul") is None
    assert await store.request_stops([StopRequest("nul\0nul", Target.STOP, 1)]) == frozenset()


@pytest.mark.parametrize("count", [1, 3, 9, 10, 1_000])
async def test_a_bulk_is_stored_whole(store: SqlStore, told: list[Committed], count: int) -> None:
    """However many, in one commit, with events in the jobs' order (10 rows and more go another way into PostgreSQL)."""
    await store.create_jobs([new_job(str(n), events=2) for n in range(count)])
    assert len(told) == 1
    assert [r.id for r in told[0].records] == [str(n) for n in range(count)]
    assert told[0].last_event == 2 * count
    events = await store.events("core", 0, 5_000)
    assert [(e.sequence, e.job_id) for e in events] == [(n + 1, str(n // 2)) for n in range(2 * count)]


async def test_a_create_repeated_changes_nothing(store: SqlStore, told: list[Committed]) -> None:
    """The same id and content again: no second event, and the listener is told of the job as it is."""
    await store.create_jobs([new_job("1")])
    changed = await store.change_job(JobChange("1", 1, state=State.RUNNING))
    told.clear()
    await store.create_jobs([new_job("1"), new_job("2")])
    assert await store.job("1") == changed
    assert [e.job_id for e in await store.events("core", 0, 10)] == ["1", "2"]
    assert [r.id for r in told[0].records] == ["1", "2"]
    assert told[0].records[0].state == State.RUNNING


async def test_other_content_is_a_conflict_and_nothing_of_its_bulk_is_stored(store: SqlStore, told: list[Committed]) -> None:
    """The error names the job and its place; jobs before and after it in the bulk are not stored."""
    await store.create_jobs([new_job("1")])
    told.clear()
    with pytest.raises(JobConflict) as caught:
        await store.create_jobs([new_job("0"), new_job("1", text="other"), new_job("2")])
    assert (caught.value.job_id, caught.value.index) == ("1", 1)
    assert await store.job("0") is None
    assert await store.job("2") is None
    assert told == []
    with pytest.raises(JobConflict) as caught:
        await store.create_jobs([new_job("3"), new_job("3", text="other")])
    assert caught.value.index == 1


async def test_a_change_moves_what_it_names_and_nothing_else(store: SqlStore, told: list[Committed]) -> None:
    """One step: row, events, interval and charges together, one version on; the answer is the row."""
    await store.create_jobs([new_job("1"), new_job("2")])
    charge = LedgerRow("1", 0, 3, 2, "1-0", 9)
    told.clear()
    after = await store.change_job(
        JobChange(
            "1",
            1,
            state=State.RUNNING,
            submitted_at_ms=5,
            started_at_ms=6,
            status="runs",
            replica_facts=b"\x00\xff",
            charged_periods=3,
            wake_at_ms=99,
            interval_started_at_ms=6,
            charges=(charge,),
            events=(update("1", "a"), NewEvent("1", EventKind.CHARGE, b"c", 7)),
        )
    )
    before = await store.job("2")
    assert before is not None
    assert after == replace(
        before,
        id="1",
        digest=new_job("1").digest,
        body=new_job("1").body,
        output_folder=new_job("1").output_folder,
        state=State.RUNNING,
        version=2,
        submitted_at_ms=5,
        started_at_ms=6,
        status="runs",
        replica_facts=b"\x00\xff",
        charged_periods=3,
        wake_at_ms=99,
        running_since_ms=6,
    )
    assert await store.job("1") == after
    assert await store.ledger("1") == [charge]
    assert await store.intervals("1") == [Interval("1", 6, 0)]
    assert [(e.sequence, e.kind, e.body) for e in await store.events("core", 2, 10)] == [
        (3, EventKind.JOB_UPDATE, b"a"),
        (4, EventKind.CHARGE, b"c"),
    ]
    assert told == [Committed((after.record,), (), 4)]
    touched = await store.change_job(JobChange("1", 2, status=""))
    assert touched == replace(after, version=3, status="")


async def test_a_change_of_another_version_is_refused(store: SqlStore, told: list[Committed]) -> None:
    """Nothing of it is stored, whether the row moved on or never was."""
    await store.create_jobs([new_job("1")])
    told.clear()
    for change in (JobChange("1", 2, events=(update("1"),)), JobChange("1", 0, interval_started_at_ms=1), JobChange("nobody", 1)):
        with pytest.raises(VersionConflict):
            await store.change_job(change)
    assert told == []
    assert len(await store.events("core", 0, 10)) == 1
    assert await store.intervals("1") == []


async def test_intervals_open_and_close(store: SqlStore) -> None:
    """At most one is open; one that opens and closes in a step is whole; a clock set back never makes one end before it began."""
    await store.create_jobs([new_job("1"), new_job("2")])
    await store.change_job(JobChange("1", 1, interval_started_at_ms=100))
    await store.change_job(JobChange("1", 2, interval_started_at_ms=150))
    await store.change_job(JobChange("1", 3, interval_ended_at_ms=200))
    await store.change_job(JobChange("1", 4, interval_ended_at_ms=300))
    await store.change_job(JobChange("1", 5, interval_started_at_ms=90))
    await store.change_job(JobChange("1", 6, interval_ended_at_ms=80))
    await store.change_job(JobChange("2", 1, interval_started_at_ms=7, interval_ended_at_ms=9))
    assert await store.intervals("1") == [Interval("1", 100, 200), Interval("1", 90, 90)]
    assert await store.intervals("2") == [Interval("2", 7, 9)]


async def test_no_period_is_billed_twice(store: SqlStore) -> None:
    """A charge of a period that is billed already is nonsense, and stores nothing of its step."""
    await store.create_jobs([new_job("1")])
    await store.change_job(JobChange("1", 1, charged_periods=2, charges=(LedgerRow("1", 0, 2, 1, "1-0", 1),)))
    with pytest.raises(ValueError, match="billed already"):
        await store.change_job(JobChange("1", 2, charged_periods=3, charges=(LedgerRow("1", 1, 2, 1, "1-1", 1),)))
    row = await store.change_job(JobChange("1", 2, charged_periods=3, charges=(LedgerRow("1", 2, 1, 1, "1-2", 2),)))
    assert row.charged_periods == 3
    assert [r.charge_id for r in await store.ledger("1")] == ["1-0", "1-2"]


async def test_a_stop_raises_the_target_once(store: SqlStore, told: list[Committed]) -> None:
    """The first reason stays; final jobs and unknown ones are left alone, and only the unknown are not named in the answer."""
    await store.create_jobs([new_job("1"), new_job("2"), new_job("3")])
    await store.change_job(JobChange("2", 1, state=State.SUCCESS))
    told.clear()
    stops = [StopRequest(i, Target.STOP, 50) for i in ("1", "2", "nobody")]
    assert await store.request_stops(stops) == {"1", "2"}
    assert await store.request_stops([StopRequest("1", Target.STOP_EXPIRED, 60)]) == {"1"}
    first = await store.job("1")
    assert first is not None
    assert (first.target, first.stop_requested_at_ms, first.version) == (Target.STOP, 50, 2)
    second = await store.job("2")
    assert second is not None
    assert second.target is Target.RUN
    assert told == [Committed((first.record,), (), 0)]


async def test_a_job_is_active_until_it_is_final_and_forgotten(store: SqlStore, told: list[Committed]) -> None:
    """Then the listener hears that it is gone. A job that is not final cannot be forgotten."""
    await store.create_jobs([new_job("1"), new_job("2")])
    with pytest.raises(ValueError, match="cannot be forgotten"):
        await store.change_job(JobChange("1", 1, forgotten_at_ms=9))
    done = await store.change_job(JobChange("1", 1, state=State.SUCCESS, ended_at_ms=8))
    assert {r.id for r in await store.active_records()} == {"1", "2"}
    told.clear()
    await store.change_job(JobChange("1", done.version, forgotten_at_ms=9))
    assert [r.id for r in await store.active_records()] == ["2"]
    assert told == [Committed((), ("1",), 0)]
    told.clear()
    await store.create_jobs([new_job("1")])
    assert told == []
    job = await store.job("2")
    assert job is not None
    assert await store.active_records() == [job.record]


async def test_lists_are_newest_first_in_pages(store: SqlStore) -> None:
    """Every job once, also where many were created in the same millisecond; the last page has no token."""
    await store.create_jobs([new_job(f"{n:03}", created_at_ms=n // 4) for n in range(25)])
    seen: list[str] = []
    token = ""
    while True:
        page = await store.jobs(JobFilter(), 4, token)
        seen += [j.id for j in page.jobs]
        token = page.next_token
        if not token:
            break
    assert seen == [f"{n:03}" for n in reversed(range(25))]
    assert (await store.jobs(JobFilter(), 25, "")).next_token == ""


@pytest.mark.parametrize("token", ["x", "=", "bm9wZQ==", "Og==", "LTE6YQ==", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OmE=", "MTphAA=="])
async def test_a_foreign_token_is_refused(store: SqlStore, token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        await store.jobs(JobFilter(), 4, token)


async def test_filters(store: SqlStore) -> None:
    """By state, owner, project ("" = personal workspaces) and whether it is active, alone and together."""
    await store.create_jobs([new_job("1", owner="a"), new_job("2", owner="b", project="p"), new_job("3", owner="a", project="p")])
    await store.change_job(JobChange("3", 1, state=State.SUCCESS, ended_at_ms=1, forgotten_at_ms=2))

    async def ids(condition: JobFilter) -> set[str]:
        return {j.id for j in (await store.jobs(condition, 10, "")).jobs}

    assert await ids(JobFilter()) == {"1", "2", "3"}
    assert await ids(JobFilter(states=(State.SUCCESS,))) == {"3"}
    assert await ids(JobFilter(states=(State.SUCCESS, State.IN_QUEUE), owner="a")) == {"1", "3"}
    assert await ids(JobFilter(project="p")) == {"2", "3"}
    assert await ids(JobFilter(project="")) == {"1"}
    assert await ids(JobFilter(active_only=True)) == {"1", "2"}
    assert await ids(JobFilter(active_only=True, owner="a")) == {"1"}


async def test_what_the_database_cannot_hold_is_refused_alone(store: SqlStore, told: list[Committed]) -> None:
    """A number of more than 64 bits, and a charge of a job that does not exist: refused in words that quote no value."""
    await store.create_jobs([new_job("1")])
    told.clear()
    with pytest.raises(WriteRefused) as caught:
        await store.create_jobs([msgspec.structs.replace(new_job("2", text="secret"), time_limit_ms=2**70)])
    assert str(2**70) not in str(caught.value)
    with pytest.raises(WriteRefused):
        await store.change_job(JobChange("1", 1, charges=(LedgerRow("nobody", 0, 1, 1, "nobody-0", 1),)))
    assert told == []
    assert await store.job("2") is None
    await store.create_jobs([new_job("3")])
    assert [e.job_id for e in await store.events("core", 0, 10)] == ["1", "3"]


async def test_ping_answers_and_a_closed_store_says_so(url: str) -> None:
    """After closing, writes and reads are refused in words; closing twice is fine."""
    async with open_store(url, lambda _: None) as store:
        await store.ping()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.create_jobs([new_job("1")])
    with pytest.raises(StoreUnavailable):
        await store.job("1")


async def test_all_is_there_after_opening_again(url: str) -> None:
    """Rows, the order of events, and that sequences go on where they were."""
    async with open_store(url, lambda _: None) as store:
        await store.create_jobs([new_job("1")])
        row = await store.change_job(JobChange("1", 1, state=State.RUNNING, events=(update("1"),)))
    async with open_store(url, lambda _: None) as store:
        assert await store.job("1") == row
        await store.create_jobs([new_job("2")])
        assert [(e.sequence, e.job_id) for e in await store.events("core", 0, 10)] == [(1, "1"), (2, "1"), (3, "2")]


async def test_a_page_is_bounded_by_bytes_too(store: SqlStore) -> None:
    """Whatever texts are stored, a page fits into one message, and the next one goes on behind it; the largest job comes by itself."""
    long, longest = "n" * (PAGE_BYTES // 3), "n" * (2 * PAGE_BYTES)
    names = [long] * 5 + [longest, "short", "short"]
    await store.create_jobs([msgspec.structs.replace(new_job(f"{n}", created_at_ms=n), name=name) for n, name in enumerate(names)])
    seen: list[list[str]] = []
    token = ""
    while not seen or token:
        page = await store.jobs(JobFilter(), 1_000, token)
        token = page.next_token
        seen.append([job.id for job in page.jobs])
    assert seen == [["7", "6"], ["5"], ["4", "3"], ["2", "1"], ["0"]]


async def test_a_page_is_read_without_bodies(store: SqlStore) -> None:
    """They are the largest part of a job, and what is told in a list is not in them."""
    await store.create_jobs([new_job("1")])
    (job,) = (await store.jobs(JobFilter(), 10, "")).jobs
    assert job.body == b""
    whole = await store.job("1")
    assert whole is not None
    assert whole.body
