"""The one machine for the life of a job: a pure function from what is stored and what a backend sees to what must be stored and done.

A job has a *target* (what was asked: run, or a kind of stop) and a *state* (what Core may know). The reconciler stores the change before it
performs the actions, and steps again; so a crash between any two lines finds, at the next start, a row that says what is unfinished.

| state | target | submitted | backend says | becomes | actions |
|---|---|---|---|---|---|
| IN_QUEUE | RUN | no | not asked | submitted | submit |
| IN_QUEUE | stop | no | not asked | final, by the stop | |
| IN_QUEUE | RUN | yes, never seen | unknown | | submit (the crash came before it) |
| any | RUN | yes, seen before | unknown | FAILURE: lost | |
| IN_QUEUE | RUN | yes | waiting | same, its reason told | |
| IN_QUEUE | RUN | yes | running | RUNNING, billed from now | |
| IN_QUEUE | any | yes | ended, had started | RUNNING and final, billed | |
| IN_QUEUE | any | yes | ended, not started | final, not billed | |
| RUNNING | RUN | yes | running | periods billed; at the time limit: target STOP_EXPIRED | |
| RUNNING | any | yes | ended | final, billed to the end | |
| not final | stop | yes | waiting, running | same | cancel |
| not final | stop | yes | unknown | final, by the stop | cancel (before it is stored) |
| final | any | any | not asked | forgotten | forget (before it is stored) |

A job that a backend was seen to have is never submitted again: it may have run. A job that ended by itself before a stop reached it ends
as it ended. Source of the words for missing credits and lost jobs: the seed's accounting and verify examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from serai_backends.model import End, JobObservation, Phase

from serai_server.jobs import causes
from serai_server.ledger.periods import Running, periods_due
from serai_server.store.model import State, StoredJob, Target

ALL_STOPS = frozenset({Target.STOP, Target.STOP_NO_CREDITS, Target.STOP_EXPIRED, Target.STOP_DISOWNED})


WAITING_TOLD_MS = 60_000
"""Core appends each text to the job's history: so often may a waiting job add one."""


class Action(Enum):
    SUBMIT = "submit"
    CANCEL = "cancel"
    FORGET = "forget"


class Unasked(Enum):
    """The backend was not asked: nothing has been handed to it, or all is settled."""

    UNASKED = "unasked"


Seen = JobObservation | None | Unasked
"""None = the backend was asked and does not know the job."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What depends on settings. What a job costs does not: its row says so since it was created."""

    exit_code_is_failure: bool
    """Generation 2026: a program that exits with a code other than 0 is a FAILURE. 2021: SUCCESS with the code in the text."""
    charge_every_ms: int
    """Longest time between two charges of a running job."""


@dataclass(frozen=True, slots=True)
class Update:
    """What Core is told: None = unchanged."""

    state: State | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """Periods to be billed: `units` of them from `first_period` on."""

    first_period: int
    units: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Changes first, then actions. An empty decision means that there is nothing to do until something changes."""

    state: State | None = None
    submitted: bool = False
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    forgotten: bool = False
    seen: bool = False
    """The backend's view of the replicas is to be stored."""
    updates: tuple[Update, ...] = ()
    note: str | None = None
    """Words for operators where Core is told nothing."""
    due: Due | None = None
    stop: Target | None = None
    """Raise the target, then step again."""
    wake_at_ms: int | None = None
    actions: tuple[Action, ...] = field(default=())

    @property
    def changes(self) -> bool:
        return bool(
            self.state is not None
            or self.submitted
            or self.forgotten
            or self.seen
            or self.updates
            or self.due
            or self.wake_at_ms is not None
        )


NOTHING = Decision()


def step(job: StoredJob, seen: Seen, now_ms: int, rules: Rules) -> Decision:  # noqa: PLR0911 - one line of the table each
    """The next thing that must become true of the job. Pure; the table above is the contract and the tests' parameters."""
    if job.state.final:
        return NOTHING if job.forgotten_at_ms else Decision(forgotten=True, actions=(Action.FORGET,))
    stopping = job.target in ALL_STOPS
    if not job.submitted_at_ms:
        return _stopped(job, now_ms) if stopping else Decision(submitted=True, actions=(Action.SUBMIT,))
    if seen is None:
        return _unknown_to_backend(job, stopping, now_ms)
    if isinstance(seen, Unasked):
        return NOTHING
    if seen.phase is Phase.ENDED:
        return _ended(job, seen, now_ms, rules)
    if stopping:
        return Decision(actions=(Action.CANCEL,))
    if seen.phase is Phase.WAITING:
        return _waiting(job, seen, now_ms)
    return _running(job, seen, now_ms, rules)


def _unknown_to_backend(job: StoredJob, stopping: bool, now_ms: int) -> Decision:
    if stopping:
        # Cancelled all the same: a submission may still be on its way.
        return replace(_stopped(job, now_ms), actions=(Action.CANCEL,))
    if job.state is State.IN_QUEUE and not job.replica_facts:
        return Decision(actions=(Action.SUBMIT,))
    return Decision(state=State.FAILURE, ended_at_ms=now_ms, updates=(Update(State.FAILURE, causes.LOST),), wake_at_ms=0)


def _waiting(job: StoredJob, seen: JobObservation, now_ms: int) -> Decision:
    """A reason is told at once, a newer one not before WAITING_TOLD_MS later: places in a queue change with every job that ends."""
    status = causes.waiting(seen.reason) if seen.reason else job.status
    first = not job.replica_facts
    if status == job.status or job.wake_at_ms > now_ms:
        return Decision(seen=True) if first else NOTHING
    return Decision(seen=True, updates=(Update(status=status),), wake_at_ms=now_ms + WAITING_TOLD_MS)


def _running(job: StoredJob, seen: JobObservation, now_ms: int, rules: Rules) -> Decision:
    if job.state is not State.RUNNING:
        started = seen.running_since_ms or now_ms
        return Decision(
            state=State.RUNNING,
            started_at_ms=started,
            seen=True,
            updates=(Update(State.RUNNING, causes.running(job.replicas)),),
            due=_due(job, started, None, now_ms),
            wake_at_ms=_wake_at(job, started, now_ms, rules),
        )
    if job.time_limit_ms and now_ms >= job.started_at_ms + job.time_limit_ms:
        return Decision(stop=Target.STOP_EXPIRED)
    if job.wake_at_ms > now_ms:
        return NOTHING
    return Decision(
        due=_due(job, job.started_at_ms, None, now_ms),
        wake_at_ms=_wake_at(job, job.started_at_ms, now_ms, rules),
    )


def _ended(job: StoredJob, seen: JobObservation, now_ms: int, rules: Rules) -> Decision:
    ended = seen.ended_at_ms or now_ms
    state, status = _verdict(job, seen, rules)
    before: tuple[Update, ...] = ()
    started = job.started_at_ms
    if not started and seen.running_since_ms is not None:
        started = seen.running_since_ms
        before = (Update(State.RUNNING, causes.running(job.replicas)),)
    ended = max(ended, started)
    told = job.target is not Target.STOP_DISOWNED
    return Decision(
        state=state,
        started_at_ms=started if started and not job.started_at_ms else None,
        ended_at_ms=ended,
        seen=True,
        updates=(*before, Update(state, status)) if told else (),
        note=None if told else status,
        due=_due(job, started, ended, now_ms) if started and told else None,
        wake_at_ms=0,
    )


def _verdict(job: StoredJob, seen: JobObservation, rules: Rules) -> tuple[State, str]:
    """Final state and words. A stop counts only when it really ended something."""
    stopped = not seen.replicas or any(r.end is End.CANCELED for r in seen.replicas)
    if job.target in ALL_STOPS and stopped:
        return _stop_verdict(job)
    if seen.reason and not seen.replicas:
        return State.FAILURE, seen.reason
    broken = [r for r in seen.replicas if r.end in (End.START_FAILED, End.LOST, End.CANCELED, None)]
    if broken:
        return State.FAILURE, causes.broken(broken, job.replicas)
    failed = [r for r in seen.replicas if r.end is not End.EXITED or r.exit_code]
    if failed:
        return State.FAILURE if rules.exit_code_is_failure else State.SUCCESS, causes.failed(failed, job.replicas)
    return State.SUCCESS, causes.FINISHED


def _stop_verdict(job: StoredJob) -> tuple[State, str]:
    match job.target:
        case Target.STOP_NO_CREDITS:
            return State.SUCCESS, causes.NO_CREDITS
        case Target.STOP_EXPIRED:
            return State.EXPIRED, causes.expired(job.time_limit_ms)
        case Target.STOP_DISOWNED:
            return State.FAILURE, causes.DISOWNED
        case _:
            return State.SUCCESS, causes.STOPPED


def _stopped(job: StoredJob, now_ms: int) -> Decision:
    """Final by its stop, without anything left to wait for at the backend."""
    state, status = _stop_verdict(job)
    told = job.target is not Target.STOP_DISOWNED
    return Decision(
        state=state,
        ended_at_ms=max(now_ms, job.started_at_ms),
        updates=(Update(state, status),) if told else (),
        note=None if told else status,
        wake_at_ms=0,
    )


def _due(job: StoredJob, started_ms: int, ended_ms: int | None, now_ms: int) -> Due | None:
    running = Running(started_at_ms=started_ms, ended_at_ms=ended_ms)
    units = periods_due([running], period_ms=job.period_ms, charged=job.charged_periods, now_ms=now_ms)
    return Due(job.charged_periods, units) if units > 0 else None


def _wake_at(job: StoredJob, started_ms: int, now_ms: int, rules: Rules) -> int:
    """The nearer of the time limit and the next charge; 0 = neither."""
    times = [started_ms + job.time_limit_ms] if job.time_limit_ms else []
    if job.period_ms:
        times.append(now_ms + max(rules.charge_every_ms, 1))
    return min(times, default=0)
