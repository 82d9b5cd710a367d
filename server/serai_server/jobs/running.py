"""How long a job has been RUNNING, and what follows from that: periods to bill, its time limit, warnings, and when to look again.

The backend's own times count where it tells them, because it sees what happens while the server is away; the row's stretch otherwise.
"""

from __future__ import annotations

from serai_backends.model import JobObservation

from serai_server.jobs import causes
from serai_server.jobs.decision import Due, Rules
from serai_server.ledger.periods import periods_due, until_next_ms
from serai_server.store.model import StoredJob

WARNINGS_MS = (60_000, 600_000)
"""A user is told when so much of the time limit is left, shortest first."""


def ran_ms(job: StoredJob, seen: JobObservation, until_ms: int) -> int:
    """ms of RUNNING in all from the first start to `until_ms`, every pause left out; one that is still open reaches to `until_ms`."""
    if seen.running_since_ms is None:
        return job.ran_until_ms(until_ms)
    paused = sum(max((until_ms if p.ended_at_ms is None else p.ended_at_ms) - p.started_at_ms, 0) for p in seen.pauses)
    return max(until_ms - seen.running_since_ms - paused, 0)


def paused_at_ms(seen: JobObservation) -> int:
    """When the pause that is open began."""
    return seen.pauses[-1].started_at_ms if seen.pauses else 0


def resumed_at_ms(seen: JobObservation, now_ms: int) -> int:
    """When the last pause ended."""
    ended = seen.pauses[-1].ended_at_ms if seen.pauses else None
    return now_ms if ended is None else ended


def due(job: StoredJob, ran: int, *, over: bool) -> Due | None:
    """Periods to be billed, never beyond the job's limit: that it ran on because nobody was there to end it, or because its end took time,
    is our affair, however it ended then."""
    if job.time_limit_ms:
        ran = min(ran, job.time_limit_ms)
    units = periods_due(ran, period_ms=job.period_ms, charged=job.charged_periods, over=over)
    return Due(job.charged_periods, units) if units > 0 else None


def limit_reached(job: StoredJob, ran: int) -> bool:
    return bool(job.time_limit_ms) and ran >= job.time_limit_ms


def warning(job: StoredJob, ran: int) -> tuple[str | None, int]:
    """Words for the user when another mark was passed, and the mark; (None, what the row says) when none was.

    A limit that is shorter than a mark has no warning at it: nobody was promised more.
    """
    left = job.time_limit_ms - ran
    for mark in WARNINGS_MS:
        if left <= mark < job.time_limit_ms:
            if job.warned_ms and job.warned_ms <= mark:
                break
            return causes.nearly_over(left), mark
    return None, job.warned_ms


def wake_at(job: StoredJob, now_ms: int, rules: Rules, charge: Due | None, *, since_ms: int, warned_ms: int) -> int:
    """The nearest of time limit, next warning and next charge, for a job that has been RUNNING since `since_ms`; 0 = none of them."""
    start = since_ms - job.ran_ms
    times: list[int] = []
    if job.time_limit_ms:
        times.append(start + job.time_limit_ms)
        times += [
            start + job.time_limit_ms - mark for mark in WARNINGS_MS if mark < job.time_limit_ms and (not warned_ms or mark < warned_ms)
        ]
    charged = charge.first_period + charge.units if charge is not None else job.charged_periods
    until_next = until_next_ms(now_ms - start, period_ms=job.period_ms, charged=charged)
    if until_next is not None:
        times.append(now_ms + max(until_next, rules.charge_every_ms, 1))
    return min(times, default=0)
