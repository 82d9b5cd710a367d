"""Usage as arithmetic, so that a restart, a missed timer or a stepped clock can neither lose nor repeat a charge.

A job's usage is the sum of its running intervals. While it may still run, only whole elapsed periods are due; when it has ended, the
rest is rounded up, once in the job's life: a job of one second is one period of whatever length. Periods are numbered from 0 over the
whole life, and a charge is named after the first one that it covers, so an id can only ever mean that period. Core multiplies units by
number of products by price (facts on the 2021 wire §2.2), which is why replicas are the number of products and not part of the units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """A stretch of time in which the job ran, ms since epoch."""

    started_at_ms: int
    ended_at_ms: int | None
    """None = still running."""

    def elapsed_ms(self, now_ms: int) -> int:
        """Never negative, also when the clock was set back in between."""
        end = now_ms if self.ended_at_ms is None else self.ended_at_ms
        return max(end - self.started_at_ms, 0)


def periods_used(intervals: Iterable[Running], *, period_ms: int, now_ms: int, ended: bool | None = None) -> int:
    """Periods that the job has used in its life so far.

    `period_ms` is the length of the product's price unit; 0 = a price for each unit, billed once as soon as the job has started.
    `ended` says whether the job's life is over (True rounds up); None = it is over when no interval is open. A suspended job has no
    open interval and lives on: pass False.
    """
    known = tuple(intervals)
    if not known:
        return 0
    if period_ms <= 0:
        return 1
    over = all(i.ended_at_ms is not None for i in known) if ended is None else ended
    total_ms = sum(i.elapsed_ms(now_ms) for i in known)
    # A life that began and is over owes one period at least, also when the clock was set back in it.
    return max(-(-total_ms // period_ms), 1) if over else total_ms // period_ms


def periods_due(intervals: Iterable[Running], *, period_ms: int, charged: int, now_ms: int, ended: bool | None = None) -> int:
    """Periods to be billed now: those used (see `periods_used`) beyond the `charged` ones. Never negative; 0 = nothing to bill."""
    return max(periods_used(intervals, period_ms=period_ms, now_ms=now_ms, ended=ended) - charged, 0)


def charge_id(job_id: str, first_period: int) -> str:
    """ "{job id}-{first period}": unique for the provider, because job ids are (facts on the 2021 wire §0.2 #8)."""
    return f"{job_id}-{first_period}"
