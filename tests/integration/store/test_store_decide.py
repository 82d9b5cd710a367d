"""Steps that depend on the rows they change: all or none, in order, each seeing the ones before; and the times that a row keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec
import pytest
from fakes.store_rows import link_to, new_job, update
from serai_server.store.api import Decide
from serai_server.store.link import Link
from serai_server.store.migrate import migrate, migrations
from serai_server.store.model import (
    Committed,
    EventKind,
    EventSettlement,
    Interval,
    JobChange,
    NewEvent,
    NewJob,
    Outcome,
    State,
    StopRequest,
    StoredJob,
    Target,
    Unpaid,
)
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture
def told() -> list[Committed]:
    return []


@pytest.fixture
async def store(url: str, told: list[Committed]) -> AsyncGenerator[SqlStore]:
    async with open_store(url, told.extend) as opened:
        yield opened


def more_time(job_ids: list[str], added_ms: int) -> Decide:
    def decide(place: int, job: StoredJob | None) -> JobChange:
        if job is None:
            raise LookupError(job_ids[place])
        return JobChange(job.id, job.version, time_limit_ms=job.time_limit_ms + added_ms, events=(update(job.id, "more"),))

    return decide


async def test_each_step_sees_the_ones_before_it(store: SqlStore, told: list[Committed]) -> None:
    """The same job twice in one call is changed twice; the listener is told of it once, as it is in the end."""
    await store.create_jobs([new_job("1"), new_job("2")])
    told.clear()
    ids = ["1", "2", "1"]
    rows = await store.decide(ids, more_time(ids, 1_000))
    assert [(r.id, r.version, r.time_limit_ms) for r in rows if r is not None] == [
        ("1", 3, 3_602_000),
        ("2", 2, 3_601_000),
        ("1", 3, 3_602_000),
    ]
    assert [(r.id, r.version) for change in told for r in change.records] == [("1", 3), ("2", 2)]
    assert [e.body for e in await store.events("core", 2, 10)] == [b"more"] * 3


async def test_what_a_step_raises_comes_back_and_nothing_is_stored(store: SqlStore, told: list[Committed]) -> None:
    """Also of the steps before it; and its neighbours in the same group are stored all the same."""
    await store.create_jobs([new_job("1"), new_job("2")])
    told.clear()
    ids = ["1", "nobody"]
    with pytest.raises(LookupError, match="nobody"):
        await store.decide(ids, more_time(ids, 1_000))
    row = await store.job("1")
    assert row is not None
    assert (row.version, row.time_limit_ms) == (1, 3_600_000)
    assert told == []
    assert len(await store.events("core", 0, 10)) == 2


@pytest.mark.parametrize("step", [JobChange("1", 7), JobChange("2", 1), new_job("1")], ids=["other version", "other job", "there already"])
async def test_a_step_that_does_not_fit_its_row_is_refused(store: SqlStore, step: JobChange | NewJob) -> None:
    """ValueError: the caller is wrong, and nothing is stored."""
    await store.create_jobs([new_job("1"), new_job("2")])
    with pytest.raises(ValueError, match="job 1"):
        await store.decide(["1"], lambda _place, _job: step)
    assert len(await store.events("core", 0, 10)) == 2


async def test_a_tombstone_is_over_and_forgotten_and_its_id_is_used(store: SqlStore, told: list[Committed]) -> None:
    """It is not active, its event is delivered like any other, and a job of the same id with other content is a conflict."""
    grave = msgspec.structs.replace(new_job("9"), state=State.FAILURE, digest=b"", status="gone")

    def decide(_place: int, job: StoredJob | None) -> NewJob | None:
        return grave if job is None else None

    (row,) = await store.decide(["9"], decide)
    assert row is not None
    assert (row.state, row.status, row.forgotten_at_ms > 0) == (State.FAILURE, "gone", True)
    assert await store.active_records() == []
    assert [r for change in told for r in change.records] == []
    assert await store.undelivered_count("9", "core") == 1
    (again,) = await store.decide(["9"], decide)
    assert again == row
    with pytest.raises(Exception, match="other content"):
        await store.create_jobs([new_job("9")])


async def test_run_and_suspend_follow_each_other_and_a_stop_stays(store: SqlStore) -> None:
    """A stop may come over a suspension, and nothing over a stop."""
    await store.create_jobs([new_job("1")])
    await store.change_job(JobChange("1", 1, target=Target.SUSPEND))
    await store.change_job(JobChange("1", 2, target=Target.RUN))
    await store.change_job(JobChange("1", 3, target=Target.SUSPEND))
    await store.request_stops(
        [StopRequest("1", Target.SUSPEND, 5), StopRequest("1", Target.STOP, 6), StopRequest("1", Target.STOP_EXPIRED, 7)]
    )
    row = await store.job("1")
    assert row is not None
    assert (row.target, row.stop_requested_at_ms) == (Target.STOP, 6)


async def test_a_rows_running_time_is_that_of_its_intervals(store: SqlStore) -> None:
    """Each stretch is added when it ends; one that goes on is kept by its beginning; what is known better replaces the sum."""
    await store.create_jobs([new_job("1")])
    await store.change_job(JobChange("1", 1, interval_started_at_ms=10))
    await store.change_job(JobChange("1", 2, interval_started_at_ms=15))
    paused = await store.change_job(JobChange("1", 3, interval_ended_at_ms=40))
    assert (paused.running_since_ms, paused.ran_ms) == (0, 30)
    resumed = await store.change_job(JobChange("1", 4, interval_ended_at_ms=45, interval_started_at_ms=None))
    assert (resumed.running_since_ms, resumed.ran_ms) == (0, 30)
    again = await store.change_job(JobChange("1", 5, interval_started_at_ms=100))
    assert (again.running_since_ms, again.ran_ms, again.ran_until_ms(160), again.ran_until_ms(90)) == (100, 30, 90, 30)
    over = await store.change_job(JobChange("1", 6, interval_ended_at_ms=150, ran_ms=75))
    assert (over.running_since_ms, over.ran_ms) == (0, 75)
    assert await store.intervals("1") == [Interval("1", 10, 40), Interval("1", 100, 150)]


async def test_charges_that_could_not_be_paid_are_found_again(store: SqlStore) -> None:
    """With whose they were, and only those settled after the given time."""
    await store.create_jobs([new_job("1", events=0), new_job("2", events=0, owner="bob", project="p")])
    for job_id in ("1", "2"):
        await store.change_job(JobChange(job_id, 1, events=(NewEvent(job_id, EventKind.CHARGE, b"c", 3),)))
    await store.settle("core", [EventSettlement(1, Outcome.DELIVERED, "", 50), EventSettlement(2, Outcome.INSUFFICIENT_FUNDS, "", 60)], ())
    assert await store.unpaid(59) == [Unpaid("bob", "p", "example/example-compute/example-compute-1", 60)]
    assert await store.unpaid(60) == []


def test_an_upgrade_takes_running_times_from_the_intervals(new_url: Callable[[], str], dialect: str) -> None:
    """Jobs of the release before, running, ended and never started, have their times in the row afterwards."""
    known = migrations(dialect)
    link = link_to(new_url())
    migrate(link, known[:1])
    for job_id, stretches in (("runs", [(10, 30), (100, 0)]), ("over", [(10, 30), (50, 75)]), ("waits", [])):
        _old_job(link, job_id)
        for version, (started, ended) in enumerate(stretches, 1):
            link.execute(
                "INSERT INTO intervals (job_id, version, started_at_ms, ended_at_ms) VALUES (?, ?, ?, ?)", job_id, version, started, ended
            )
    migrate(link, known)
    rows = link.query("SELECT id, ran_ms, running_since_ms, warned_ms FROM jobs ORDER BY id")
    assert [tuple(row) for row in rows] == [("over", 45, 0, 0), ("runs", 20, 100, 0), ("waits", 0, 0, 0)]
    link.close()


def _old_job(link: Link, job_id: str) -> None:
    link.begin()
    names = (
        "state, target, version, replicas, time_limit_ms, period_ms, created_at_ms, submitted_at_ms, started_at_ms, ended_at_ms, "
        "forgotten_at_ms, stop_requested_at_ms, charged_periods, wake_at_ms, "
        "owner, project, application, product, name, output_folder, status"
    )
    values = ", ".join(["1"] * 14 + ["'x'"] * 7)
    empty = "x''" if "Sqlite" in type(link).__name__ else "''::bytea"
    link.execute(
        f"INSERT INTO jobs (id, digest, replica_facts, body, {names}) VALUES (?, {empty}, {empty}, {empty}, {values})",
        job_id,
    )
    link.commit()
