"""From rows to the model and back, in one place: columns stand in the order of the dataclasses' fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serai_server.store.model import (
    Backlog,
    EventKind,
    EventSettlement,
    Interval,
    JobChange,
    JobRecord,
    LedgerRow,
    NewJob,
    Outcome,
    State,
    StoredEvent,
    StoredJob,
    Target,
    Unpaid,
)

Value = int | str | bytes
"""What a column can hold; no column is nullable."""

Row = Sequence[Any]
"""As a driver gives it. Only the functions below look inside."""


def as_job(row: Row) -> StoredJob:
    return StoredJob(row[0], State(row[1]), Target(row[2]), *row[3:])


def as_record(row: Row) -> JobRecord:
    return JobRecord(*row)


def as_event(row: Row) -> StoredEvent:
    return StoredEvent(row[0], row[1], EventKind(row[2]), row[3], row[4], license_id=row[5])


def as_settlement(row: Row) -> EventSettlement:
    """Without Core's id of a license, which is kept with the license."""
    return EventSettlement(row[0], Outcome(row[1]), row[2], row[3])


def as_interval(row: Row) -> Interval:
    return Interval(*row)


def as_charge(row: Row) -> LedgerRow:
    return LedgerRow(*row)


def as_unpaid(row: Row) -> Unpaid:
    return Unpaid(*row)


def as_backlog(row: Row) -> Backlog:
    return Backlog(*row)


def as_int(row: Row) -> int:
    return int(row[0])


def as_text(row: Row) -> str:
    return str(row[0])


def as_pair(row: Row) -> tuple[str, str]:
    return str(row[0]), str(row[1])


def job_row(job: StoredJob) -> tuple[Value, ...]:
    return (
        job.id,
        int(job.state),
        int(job.target),
        job.version,
        job.digest,
        job.owner,
        job.project,
        job.application,
        job.product,
        job.name,
        job.replicas,
        job.time_limit_ms,
        job.period_ms,
        job.output_folder,
        job.created_at_ms,
        job.submitted_at_ms,
        job.started_at_ms,
        job.ended_at_ms,
        job.forgotten_at_ms,
        job.stop_requested_at_ms,
        job.status,
        job.replica_facts,
        job.charged_periods,
        job.wake_at_ms,
        job.body,
        job.ran_ms,
        job.running_since_ms,
        job.warned_ms,
        job.notes,
        job.claims,
    )


CHANGING = (
    "state",
    "target",
    "version",
    "submitted_at_ms",
    "started_at_ms",
    "ended_at_ms",
    "forgotten_at_ms",
    "stop_requested_at_ms",
    "status",
    "replica_facts",
    "charged_periods",
    "wake_at_ms",
    "time_limit_ms",
    "ran_ms",
    "running_since_ms",
    "warned_ms",
    "notes",
)
"""Columns of a job that change after its creation."""


def changing_row(job: StoredJob) -> tuple[Value, ...]:
    """The columns of CHANGING, then the id."""
    return (
        int(job.state),
        int(job.target),
        job.version,
        job.submitted_at_ms,
        job.started_at_ms,
        job.ended_at_ms,
        job.forgotten_at_ms,
        job.stop_requested_at_ms,
        job.status,
        job.replica_facts,
        job.charged_periods,
        job.wake_at_ms,
        job.time_limit_ms,
        job.ran_ms,
        job.running_since_ms,
        job.warned_ms,
        job.notes,
        job.id,
    )


def charge_row(row: LedgerRow) -> tuple[Value, ...]:
    return (row.job_id, row.first_period, row.units, row.number_of_products, row.charge_id, row.at_ms)


def is_active(job: StoredJob) -> bool:
    """Not both final and forgotten; only a final job can be forgotten."""
    return not job.forgotten_at_ms


def first_row(job: NewJob) -> tuple[Value, ...]:
    """A new job's row, at version 1: waiting, to be run, nothing known of it yet; or a tombstone, over and forgotten."""
    over_at_ms = job.created_at_ms if job.state.final else 0
    return (
        job.id,
        job.state.value,
        Target.RUN.value,
        1,
        job.digest,
        job.owner,
        job.project,
        job.application,
        job.product,
        job.name,
        job.replicas,
        job.time_limit_ms,
        job.period_ms,
        job.output_folder,
        job.created_at_ms,
        0,
        0,
        over_at_ms,
        over_at_ms,
        0,
        job.status,
        b"",
        0,
        0,
        job.body,
        0,
        0,
        0,
        job.notes,
        len(job.claims),
    )


def changed_row(job: StoredJob, change: JobChange) -> StoredJob:
    """The row after the change, one version on. Raises ValueError for a change that makes no sense (see Store.change_job)."""

    def new(value: int | None, old: int) -> int:
        return old if value is None else value

    since, ran = _stretch(job, change)
    after = replace(
        job,
        version=job.version + 1,
        state=job.state if change.state is None else change.state,
        target=job.target if change.target is None else change.target,
        stop_requested_at_ms=new(change.stop_requested_at_ms, job.stop_requested_at_ms),
        time_limit_ms=new(change.time_limit_ms, job.time_limit_ms),
        ran_ms=new(change.ran_ms, ran),
        running_since_ms=since,
        warned_ms=new(change.warned_ms, job.warned_ms),
        notes=job.notes if change.notes is None else change.notes,
        submitted_at_ms=new(change.submitted_at_ms, job.submitted_at_ms),
        started_at_ms=new(change.started_at_ms, job.started_at_ms),
        ended_at_ms=new(change.ended_at_ms, job.ended_at_ms),
        forgotten_at_ms=new(change.forgotten_at_ms, job.forgotten_at_ms),
        status=job.status if change.status is None else change.status,
        replica_facts=job.replica_facts if change.replica_facts is None else change.replica_facts,
        charged_periods=new(change.charged_periods, job.charged_periods),
        wake_at_ms=new(change.wake_at_ms, job.wake_at_ms),
    )
    if after.forgotten_at_ms and not after.state.final:
        raise ValueError(f"job {job.id} is {after.state.name} and cannot be forgotten")
    billed = job.charged_periods
    for charge in change.charges:
        if charge.first_period < billed:
            raise ValueError(f"period {charge.first_period} of job {job.id} is billed already")
        billed = charge.first_period + charge.units
    return after


def _stretch(job: StoredJob, change: JobChange) -> tuple[int, int]:
    """Since when the job has been RUNNING after the change, and for how long before that."""
    since, ran = job.running_since_ms, job.ran_ms
    if change.interval_started_at_ms is not None and not since:
        since = change.interval_started_at_ms
    if change.interval_ended_at_ms is not None and since:
        ran += max(change.interval_ended_at_ms - since, 0)
        since = 0
    return since, ran
