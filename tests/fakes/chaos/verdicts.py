"""Whether a job went as it must, seen from outside: what Core was told, what the replicas wrote down themselves, what was paid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serai_devcore.accounts import Accounts
from serai_devcore.jobs import FINAL, Job

from fakes.chaos.points import Aim, Fate
from fakes.chaos.wishes import Wish
from fakes.stack import UNIT_PRODUCT

FINISHED = "The job has finished processing!"
STOPPED = "The job was stopped."
LOST_WORDS = ("was lost", "could not be started", "ended from outside")


@dataclass(frozen=True)
class Ending:
    """One way in which a job may end."""

    state: str
    words: tuple[str, ...]
    """One of them is in the last update."""
    whole: bool
    """Every replica ran to its end."""
    never_ran: bool = False
    """It may have ended without having been RUNNING."""


@dataclass(frozen=True)
class Case:
    """A wish and all that is known of it from outside."""

    wish: Wish
    job: Job
    work: Path
    accounts: Accounts
    fates: frozenset[Fate]
    """What was done to the job's own processes."""
    period_ms: int
    generation: str

    def problem(self) -> str:
        """What is wrong with how the job went; empty = nothing."""
        told = [a for a in self.job.arrivals if a.state]
        ended = next((i for i, a in enumerate(told) if a.state in FINAL), None)
        ways = self._endings()
        if ended is None or self.job.state != told[ended].state:
            return f"it is {self.job.state}, Core was told {[a.state for a in told]}"
        last = told[ended]
        fits = [way for way in ways if last.state == way.state and any(words in last.status for words in way.words)]
        if not fits:
            return f"it ended as {last.state} with {last.status!r}; it must end as one of {[(way.state, way.words) for way in ways]}"
        states = [a.state for a in told]
        return self._order(states[: ended + 1], states[ended + 1 :], fits) or self._runs(fits) or self._bill(fits)

    # How it may end

    def _endings(self) -> list[Ending]:
        wish, lost = self.wish, Ending("FAILURE", LOST_WORDS, whole=False, never_ran=True)
        ways = self._unhurt()
        if Fate.LOST in self.fates and not wish.stop_asked and wish.limit_s == 0 and Fate.EITHER not in self.fates:
            return [lost]
        rest_lost = Fate.REST in self.fates and self.job.replicas > 1
        return [*ways, lost] if rest_lost or self.fates & {Fate.LOST, Fate.EITHER} else ways

    def _unhurt(self) -> list[Ending]:
        wish = self.wish
        bad_state = "FAILURE" if self.generation == "2026" else "SUCCESS"
        natural = Ending(bad_state, (f"exit code {wish.code}",), whole=True) if wish.code else Ending("SUCCESS", (FINISHED,), whole=True)
        stopped = Ending("SUCCESS", (STOPPED,), whole=False, never_ran=True)
        expired = Ending("EXPIRED", (f"time limit of {wish.limit_s} second",), whole=False)
        match wish.aim:
            case Aim.STOP | Aim.QUEUE:
                return [natural, stopped]
            case Aim.BILL:
                return [expired]
            case Aim.EXTEND:
                # Without more time it ends by itself when nobody is there to end it.
                return [natural] if wish.extended else [natural, expired]
            case _:
                return [natural]

    # What Core was told

    def _order(self, told: Sequence[str], after: Sequence[str], fits: Sequence[Ending]) -> str:
        """An update may come again after a crash, and then the ones after it come again too: what was told stays told, in order. After the
        end anything of that may come once more, also alone: a call that hung in Core is done there long after its sender was killed."""
        final = told[-1]
        lives = [["RUNNING", final]]
        if any(way.never_ran for way in fits):
            lives.append([final])
        if self.wish.pause_asked:
            lives += [["RUNNING", "SUSPENDED", final], ["RUNNING", "SUSPENDED", "RUNNING", final]]
        fine = any(is_replay(told, life) for life in lives) and set(after) <= set(told)
        return "" if fine else f"Core was told {[*told, *after]}"

    # What ran

    def _runs(self, fits: Sequence[Ending]) -> str:
        replicas = self.job.replicas
        ranks = ran_ranks(self.work)
        once = [str(rank) for rank in range(replicas)]
        if ranks == once or (not any(way.whole for way in fits) and set(ranks) < set(once) and len(set(ranks)) == len(ranks)):
            return ""
        return f"these ranks ran: {ranks}, of {replicas}"

    # What was paid

    def _bill(self, fits: Sequence[Ending]) -> str:
        product = self.accounts.products[self.job.provider, self.job.category, self.job.product]
        paid = paid_for(self.accounts, self.job.id)
        units, rest = divmod(paid, product.price_per_unit * self.job.replicas)
        if rest:
            return f"{paid} credits were taken, which is no whole number of periods"
        if not any(a.state == "RUNNING" for a in self.job.arrivals):
            return f"{units} periods were billed, and it never ran" if units else ""
        least, most = (1, 1) if self.job.product == UNIT_PRODUCT.id else self._oracle(fits)
        if any(way.words is LOST_WORDS for way in fits):
            least = 0  # what nobody saw the end of is billed no more
        return "" if least <= units <= most else f"{units} periods were billed, {least} to {most} were used; stamps: {stamps(self.work)}"

    def _oracle(self, fits: Sequence[Ending]) -> tuple[int, int]:
        """From the replicas' own record, a second more or less; where it does not tell the end, from Core's first word of that."""
        if any(way.state == "EXPIRED" for way in fits) and self.job.state == "EXPIRED":
            periods = self.wish.limit_s * 1000 // self.period_ms
            return periods, periods
        began, alive = stamps(self.work)
        final_ms = next(a.at_ms for a in self.job.arrivals if a.state == self.job.state)
        if not began:
            # It was ended before it could write that it began. One that was lost ends when that was found.
            return 1, 1 if not self.fates else math.ceil((final_ms - self.job.created_at_ms) / self.period_ms) + 1
        begin_ms, alive_ms = max(began), max(alive, default=max(began))
        whole = any(way.whole for way in fits) and len(alive) == self.job.replicas
        end_ms = alive_ms if whole else max(final_ms, alive_ms)
        slack = math.ceil(1000 / self.period_ms)
        least = math.ceil((alive_ms - begin_ms) / self.period_ms) - slack
        if self.wish.pause_asked:
            least = 0
        if self.wish.limit_s and not self.wish.extended:
            # It ended by itself after its limit: before its end was decided all of it is billed, after that no more than the limit.
            least = min(least, self.wish.limit_s * 1000 // self.period_ms)
        # A pause before the first stamp or after the last one took nothing of the time in between.
        paused_ms = max(min(self.wish.paused[1], end_ms) - max(self.wish.paused[0], begin_ms), 0)
        most = math.ceil(max(end_ms - begin_ms - paused_ms, 0) / self.period_ms) + slack
        return max(least, 1), max(most, 1)


def is_replay(told: Sequence[str], life: Sequence[str]) -> bool:
    """Whether `told` is `life` in order, where at any time what was told before may have come again, in order, from any place on."""
    places = {-1}
    for state in told:
        places = {j for j, expected in enumerate(life) if expected == state and any(j <= i + 1 for i in places)}
    return len(life) - 1 in places


def ran_ranks(work: Path) -> list[str]:
    file = work / "runs"
    return sorted(file.read_text().split()) if file.exists() else []


def stamps(work: Path) -> tuple[list[int], list[int]]:
    """When each replica began, and when each was last alive; ms."""
    began, alive = ([int(text) for f in work.glob(f"{name}-*") if (text := f.read_text().strip())] for name in ("began", "alive"))
    return began, alive


def paid_for(accounts: Accounts, job_id: str) -> int:
    """Credits that were taken for the job; a charge that came twice was taken once, an absolute one counts as the last one says."""
    own = re.compile(rf"(?<![0-9]){job_id}(?![0-9])")
    return sum(c.charged for c in accounts.charges if c.job_id == job_id or (not c.job_id and own.search(c.charge_id)))
