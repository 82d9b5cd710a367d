"""The one machine for the life of a job: a pure function from what is stored and what a backend sees to what must be stored and done.

A job has a *target* (what was asked: run, suspend, or a kind of stop) and a *state* (what Core may know). The reconciler stores the change
before it performs the actions, and steps again; so a crash between any two lines finds, at the next start, a row that says what is
unfinished.

| state | target | submitted | backend says | becomes | actions |
|---|---|---|---|---|---|
| IN_QUEUE | not a stop | no | not asked | submitted | submit |
| IN_QUEUE, uses licenses | not a stop | no | not asked | submitted, if all its seats are free | take seats, submit |
| IN_QUEUE | stop | no | not asked | final, by the stop | |
| IN_QUEUE | not a stop | yes, never seen | unknown | | submit (the crash came before it) |
| any | not a stop | yes, seen before | unknown | FAILURE: lost | |
| IN_QUEUE | not a stop | yes | waiting | same, its reason told | |
| not RUNNING | not a stop | yes | running | RUNNING, billed from now | |
| IN_QUEUE | any | yes | ended, had started | RUNNING and final, billed | |
| IN_QUEUE | any | yes | ended, not started | final, not billed | |
| RUNNING | RUN, SUSPEND | yes | running | periods billed, warned; at the time limit: target STOP_EXPIRED | |
| RUNNING | SUSPEND | yes | running | same | suspend |
| IN_QUEUE | not a stop | yes | suspended | RUNNING first | |
| RUNNING | not a stop | yes | suspended | SUSPENDED, billed up to then | |
| SUSPENDED | RUN | yes | suspended | same | resume |
| RUNNING, SUSPENDED | any | yes | ended | final, billed to the end, or to its time limit; lost: no more than is billed | |
| not final | stop | yes | waiting, running, suspended | same | cancel |
| not final | stop | yes | unknown | final, by the stop | cancel (before it is stored) |
| final | any | any | not asked | forgotten | forget (before it is stored) |

A job that a backend was seen to have is never submitted again: it may have run. A job that ended by itself before a stop reached it ends
as it ended. Suspend is asked only of what is stored as RUNNING and resume only of what is stored as SUSPENDED, so that between two stored
states there is never more than one pause that nobody has written down. What bills and limits are made of: `jobs/running.py`.
"""

from __future__ import annotations

from dataclasses import replace

from serai_backends.model import End, JobObservation, Phase

from serai_server.jobs import causes, running
from serai_server.jobs.decision import NOTHING, Action, Decision, Rules, Seen, Unasked, Update
from serai_server.jobs.running import due, limit_reached, wake_at, warning
from serai_server.store.license_model import LicenseAway, LicenseNotSold, SeatsFull, SeatsTooFew
from serai_server.store.model import State, StoredJob, Target

NoSeats = SeatsFull | SeatsTooFew | LicenseAway | LicenseNotSold
"""Why a job could not have its seats."""

WAITING_TOLD_MS = 60_000
"""Core appends each text to the job's history: so often may a waiting job add one."""


def step(job: StoredJob, seen: Seen, now_ms: int, rules: Rules) -> Decision:  # noqa: PLR0911 - one line of the table each
    """The next thing that must become true of the job. Pure; the table above is the contract and the tests' parameters."""
    if job.state.final:
        return NOTHING if job.forgotten_at_ms else Decision(forgotten=True, actions=(Action.FORGET,))
    if not job.submitted_at_ms:
        if job.target.stop:
            return _stopped(job, now_ms)
        return Decision(submitted=True, actions=(Action.TAKE_SEATS,) if job.claims else (Action.SUBMIT,))
    if seen is None:
        return _unknown_to_backend(job, now_ms)
    if isinstance(seen, Unasked):
        return NOTHING
    if seen.phase is Phase.ENDED:
        return _ended(job, seen, now_ms, rules)
    if job.target.stop:
        return Decision(actions=(Action.CANCEL,))
    if seen.phase is Phase.WAITING:
        return _waiting(job, seen, now_ms)
    if seen.phase is Phase.SUSPENDED and job.state is not State.IN_QUEUE:
        return _suspended(job, seen)
    return _running(job, seen, now_ms, rules)


def without_seats(job: StoredJob, answer: NoSeats, now_ms: int) -> Decision:
    """The job could not have the seats of its licenses: it waits, and its user is told for what; without the license it never runs."""
    never = isinstance(answer, LicenseNotSold)
    if never or (isinstance(answer, LicenseAway) and answer.deleted):
        why = causes.LICENSE_NOT_SOLD if never else causes.LICENSE_GONE
        return Decision(state=State.FAILURE, ended_at_ms=now_ms, updates=(Update(State.FAILURE, why),), wake_at_ms=0)
    return _waits(job, _why_no_seats(answer), now_ms)


def without_key(job: StoredJob, reason: str, now_ms: int) -> Decision:
    """The job has its seats, and not yet what it needs to be submitted; its user is told of it."""
    return _waits(job, causes.waiting(reason), now_ms)


def _waits(job: StoredJob, status: str, now_ms: int) -> Decision:
    # Numbers change with every job that ends; that it waits for another thing is news.
    if status == job.status or (job.wake_at_ms > now_ms and causes.alike(status, job.status)):
        return NOTHING
    return Decision(updates=(Update(status=status),), wake_at_ms=now_ms + WAITING_TOLD_MS)


def _why_no_seats(answer: SeatsFull | SeatsTooFew | LicenseAway) -> str:
    if isinstance(answer, SeatsFull):
        return causes.waits_for_seats(answer.used, answer.limit, answer.ahead)
    if isinstance(answer, SeatsTooFew):
        return causes.waits_for_more_seats(answer.needed, answer.capacity)
    return causes.waits_for_license(causes.LICENSE_PAYING if answer.paying else answer.status)


def _unknown_to_backend(job: StoredJob, now_ms: int) -> Decision:
    if job.target.stop:
        # Cancelled all the same: a submission may still be on its way.
        return replace(_stopped(job, now_ms), actions=(Action.CANCEL,))
    if job.state is State.IN_QUEUE and not job.replica_facts:
        return Decision(actions=(Action.SUBMIT,))
    return Decision(state=State.FAILURE, ended_at_ms=now_ms, updates=(Update(State.FAILURE, causes.LOST),), wake_at_ms=0)


def _waiting(job: StoredJob, seen: JobObservation, now_ms: int) -> Decision:
    """A reason is told at once, a newer one not before WAITING_TOLD_MS later: places in a queue change with every job that ends."""
    status = _why_it_waits(seen, now_ms) or job.status
    first = not job.replica_facts
    if status == job.status or job.wake_at_ms > now_ms:
        return Decision(seen=True) if first else NOTHING
    return Decision(seen=True, updates=(Update(status=status),), wake_at_ms=now_ms + WAITING_TOLD_MS)


def _why_it_waits(seen: JobObservation, now_ms: int) -> str:
    if seen.waiting is not None:
        return causes.queue_place(seen.waiting, now_ms)
    return causes.waiting(seen.reason) if seen.reason else ""


def _suspended(job: StoredJob, seen: JobObservation) -> Decision:
    if job.state is State.RUNNING:
        at_ms = max(running.paused_at_ms(seen), job.running_since_ms)
        ran_ms = running.ran_ms(job, seen, at_ms)
        return Decision(
            state=State.SUSPENDED,
            paused_at_ms=at_ms,
            ran_ms=ran_ms,
            seen=True,
            updates=(Update(State.SUSPENDED, causes.SUSPENDED),),
            due=due(job, ran_ms, over=False),
            wake_at_ms=0,
        )
    return NOTHING if job.target is Target.SUSPEND else Decision(actions=(Action.RESUME,))


def _running(job: StoredJob, seen: JobObservation, now_ms: int, rules: Rules) -> Decision:
    if job.state is not State.RUNNING:
        return _started(job, seen, now_ms, rules)
    ran_ms = job.ran_until_ms(now_ms)
    if limit_reached(job, ran_ms):
        return Decision(stop=Target.STOP_EXPIRED)
    if job.wake_at_ms > now_ms:
        return Decision(actions=(Action.SUSPEND,)) if job.target is Target.SUSPEND else NOTHING
    charge = due(job, ran_ms, over=False)
    words, warned_ms = warning(job, ran_ms)
    again_ms = wake_at(job, now_ms, rules, charge, since_ms=job.running_since_ms, warned_ms=warned_ms)
    if again_ms == job.wake_at_ms and charge is None and words is None:
        return Decision(actions=(Action.SUSPEND,)) if job.target is Target.SUSPEND else NOTHING
    return Decision(
        due=charge,
        updates=(Update(status=words),) if words else (),
        warned_ms=warned_ms if words else None,
        wake_at_ms=again_ms,
    )


def _started(job: StoredJob, seen: JobObservation, now_ms: int, rules: Rules) -> Decision:
    """RUNNING for the first time, or again."""
    first = not job.started_at_ms
    since_ms = (seen.running_since_ms or now_ms) if first else running.resumed_at_ms(seen, now_ms)
    ran_ms = job.ran_ms + max(now_ms - since_ms, 0)
    charge = due(job, ran_ms, over=False)
    return Decision(
        state=State.RUNNING,
        started_at_ms=since_ms if first else None,
        resumed_at_ms=since_ms,
        seen=True,
        updates=(
            Update(
                State.RUNNING,
                causes.running(job.replicas) if first else causes.RESUMED,
                # Core counts the time from its own last change to RUNNING.
                None if first or not job.time_limit_ms else max(job.time_limit_ms - job.ran_ms, 0),
            ),
        ),
        due=charge,
        wake_at_ms=wake_at(job, now_ms, rules, charge, since_ms=since_ms, warned_ms=job.warned_ms),
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
    ran_ms = running.ran_ms(job, seen, ended) if started else 0
    return Decision(
        state=state,
        started_at_ms=started if started and not job.started_at_ms else None,
        resumed_at_ms=started if started and not job.started_at_ms else None,
        ended_at_ms=ended,
        ran_ms=ran_ms if started else None,
        seen=True,
        updates=(*before, Update(state, status)) if told else (),
        note=None if told else status,
        # When a lost job really ended nobody saw: what is not billed by then is the provider's loss.
        due=due(job, ran_ms, over=True) if started and told and not _is_lost(seen) else None,
        wake_at_ms=0,
    )


def _is_lost(seen: JobObservation) -> bool:
    return any(r.end is End.LOST for r in seen.replicas)


def _verdict(job: StoredJob, seen: JobObservation, rules: Rules) -> tuple[State, str]:
    """Final state and words. A stop counts only when it really ended something."""
    stopped = not seen.replicas or any(r.end is End.CANCELED for r in seen.replicas)
    if job.target.stop and stopped:
        return _stop_verdict(job)
    if not seen.replicas:
        return State.FAILURE, causes.refused(seen.why, seen.reason) or causes.LOST
    faults = [r for r in seen.replicas if causes.cause_of(r).blame is not causes.Blame.PROGRAM]
    # Those that were ended because of another one say nothing new.
    first = [r for r in faults if r.end is not End.CANCELED] or faults
    if first:
        return State.FAILURE, causes.failed(first, job.replicas)
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
