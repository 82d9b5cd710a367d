"""Usage as arithmetic, so that a restart, a missed timer or a stepped clock can neither lose nor repeat a charge.

A job's usage is the time that it was RUNNING, suspended time left out. While it may still run, only whole elapsed periods are due; when it
has ended, the rest is rounded up, once in the job's life: a job of one second is one period of whatever length. Periods are numbered from 0
over the whole life, and a charge is named after the first one that it covers, so an id can only ever mean that period. Core multiplies
units by number of products by price (facts on the 2021 wire §2.2), which is why replicas are the number of products and not part of the
units.
"""

from __future__ import annotations


def periods_used(ran_ms: int, *, period_ms: int, over: bool) -> int:
    """Periods that a job which has started has used in its life so far.

    `ran_ms` is its whole time in RUNNING. `period_ms` is the length of the product's price unit; 0 = a price for each unit, billed once as
    soon as the job has started. `over` says whether the job's life has ended, which rounds up.
    """
    if period_ms <= 0:
        return 1
    ran_ms = max(ran_ms, 0)
    # A life that began and is over owes one period at least, however short it was.
    return max(-(-ran_ms // period_ms), 1) if over else ran_ms // period_ms


def periods_due(ran_ms: int, *, period_ms: int, charged: int, over: bool) -> int:
    """Periods to be billed now: those used (see `periods_used`) beyond the `charged` ones. Never negative; 0 = nothing to bill."""
    return max(periods_used(ran_ms, period_ms=period_ms, over=over) - charged, 0)


def until_next_ms(ran_ms: int, *, period_ms: int, charged: int) -> int | None:
    """ms of RUNNING until another whole period is used; None = none ever will be."""
    return None if period_ms <= 0 else max((charged + 1) * period_ms - ran_ms, 0)


def charge_id(job_id: str, first_period: int) -> str:
    """ "{job id}-{first period}": unique for the provider, because job ids are (facts on the 2021 wire §0.2 #8)."""
    return f"{job_id}-{first_period}"
