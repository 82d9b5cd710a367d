"""The table in jobs/machine.py, line by line, and what must hold for every life."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fakes.jobs import stored_job
from hypothesis import given
from hypothesis import strategies as st
from serai_backends.model import End, JobObservation, Pause, Phase, ReplicaObservation, Waiting, Why
from serai_server.jobs import causes, facts
from serai_server.jobs.decision import NOTHING, Action, Decision, Due, Rules, Seen, Unasked, Update
from serai_server.jobs.machine import WAITING_TOLD_MS, step
from serai_server.store.model import State, StoredJob, Target

RULES = Rules(exit_code_is_failure=False, charge_every_ms=900_000)
NOW = 2_000_000
SUBMITTED = {"submitted_at_ms": 1_500_000}
RUNS: dict[str, Any] = {
    **SUBMITTED,
    "state": State.RUNNING,
    "started_at_ms": 1_600_000,
    "running_since_ms": 1_600_000,
    "wake_at_ms": NOW + 5,
    "replica_facts": b"[]",
}
PAUSED: dict[str, Any] = {**RUNS, "state": State.SUSPENDED, "running_since_ms": 0, "ran_ms": 100_000, "wake_at_ms": 0}
"""Ran from 1,600,000 to 1,700,000."""
STOP: dict[str, Any] = {"target": Target.STOP, "stop_requested_at_ms": 1_900_000}


def replica(rank: int = 0, end: End | None = End.EXITED, code: int | None = 0, **more: Any) -> ReplicaObservation:
    phase = Phase.RUNNING if end is None else Phase.ENDED
    return ReplicaObservation(rank, phase, end, code if end is End.EXITED else None, **more)


def waiting(reason: str = "waiting for 2 cores") -> JobObservation:
    return JobObservation("54112", Phase.WAITING, reason=reason)


def running(*pauses: Pause) -> JobObservation:
    return JobObservation("54112", Phase.RUNNING, (replica(end=None),), running_since_ms=1_600_000, pauses=pauses)


def suspended(*pauses: Pause) -> JobObservation:
    found = pauses or (Pause(1_700_000, None),)
    return JobObservation("54112", Phase.SUSPENDED, (replica(end=None),), running_since_ms=1_600_000, pauses=found)


def ended(
    *replicas: ReplicaObservation, since: int | None = 1_600_000, at: int = 1_700_000, reason: str = "", pauses: tuple[Pause, ...] = ()
) -> JobObservation:
    return JobObservation("54112", Phase.ENDED, replicas, reason=reason, running_since_ms=since, ended_at_ms=at, pauses=pauses)


def seen_before(observation: JobObservation) -> bytes:
    return facts.encode(observation)


TABLE: list[tuple[str, dict[str, Any], Seen, Decision]] = [
    ("new: decided first, then submitted", {}, Unasked.UNASKED, Decision(submitted=True, actions=(Action.SUBMIT,))),
    (
        "stopped before it was submitted: never submitted",
        STOP,
        Unasked.UNASKED,
        Decision(state=State.SUCCESS, ended_at_ms=NOW, updates=(Update(State.SUCCESS, causes.STOPPED),), wake_at_ms=0),
    ),
    ("crash between decision and submit", SUBMITTED, None, Decision(actions=(Action.SUBMIT,))),
    (
        "seen, then unknown: lost, never submitted again",
        {**SUBMITTED, "replica_facts": seen_before(waiting())},
        None,
        Decision(state=State.FAILURE, ended_at_ms=NOW, updates=(Update(State.FAILURE, causes.LOST),), wake_at_ms=0),
    ),
    (
        "running, then unknown: lost",
        RUNS,
        None,
        Decision(state=State.FAILURE, ended_at_ms=NOW, updates=(Update(State.FAILURE, causes.LOST),), wake_at_ms=0),
    ),
    (
        "waits: the reason is told",
        SUBMITTED,
        waiting(),
        Decision(seen=True, updates=(Update(status="The job is waiting for 2 cores."),), wake_at_ms=NOW + WAITING_TOLD_MS),
    ),
    (
        "waits for something else, too soon to tell",
        {**SUBMITTED, "status": "The job is in the queue.", "replica_facts": b"[]", "wake_at_ms": NOW + 1},
        waiting(),
        NOTHING,
    ),
    (
        "waits without a new reason: only noted, once",
        {**SUBMITTED, "status": causes.QUEUED},
        waiting(""),
        Decision(seen=True),
    ),
    ("waits on", {**SUBMITTED, "status": causes.QUEUED, "replica_facts": b"[]"}, waiting(""), NOTHING),
    (
        "runs",
        SUBMITTED,
        running(),
        Decision(
            state=State.RUNNING,
            started_at_ms=1_600_000,
            resumed_at_ms=1_600_000,
            seen=True,
            updates=(Update(State.RUNNING, "The job is now running!"),),
            due=Due(0, 6),
            wake_at_ms=NOW + 900_000,
        ),
    ),
    (
        "ran and ended between two looks: RUNNING is told first",
        SUBMITTED,
        ended(replica()),
        Decision(
            state=State.SUCCESS,
            started_at_ms=1_600_000,
            resumed_at_ms=1_600_000,
            ended_at_ms=1_700_000,
            ran_ms=100_000,
            seen=True,
            updates=(Update(State.RUNNING, "The job is now running!"), Update(State.SUCCESS, causes.FINISHED)),
            due=Due(0, 2),
            wake_at_ms=0,
        ),
    ),
    (
        "never started: not billed",
        SUBMITTED,
        ended(replica(end=End.START_FAILED, cause="program x was not found."), since=None),
        Decision(
            state=State.FAILURE,
            ended_at_ms=1_700_000,
            seen=True,
            updates=(Update(State.FAILURE, "The program could not be started: program x was not found."),),
            wake_at_ms=0,
        ),
    ),
    ("runs on: nothing", RUNS, running(), NOTHING),
    (
        "runs on: periods are due",
        {**RUNS, "wake_at_ms": NOW, "charged_periods": 2},
        running(),
        Decision(due=Due(2, 4), wake_at_ms=NOW + 900_000),
    ),
    ("reaches its limit", {**RUNS, "time_limit_ms": 400_000}, running(), Decision(stop=Target.STOP_EXPIRED)),
    (
        "ten minutes are left: the user is warned, and woken for the last minute",
        {**RUNS, "wake_at_ms": NOW, "charged_periods": 6, "time_limit_ms": 1_000_000},
        running(),
        Decision(updates=(Update(status=causes.nearly_over(600_000)),), warned_ms=600_000, wake_at_ms=NOW + 540_000),
    ),
    (
        "one minute is left",
        {**RUNS, "wake_at_ms": NOW, "charged_periods": 6, "time_limit_ms": 450_000 + 10_000, "warned_ms": 600_000},
        running(),
        Decision(updates=(Update(status=causes.nearly_over(60_000)),), warned_ms=60_000, wake_at_ms=NOW + 60_000),
    ),
    ("suspend is asked", {**RUNS, "target": Target.SUSPEND}, running(), Decision(actions=(Action.SUSPEND,))),
    (
        "suspended: billed up to then, in whole periods",
        {**RUNS, "target": Target.SUSPEND},
        suspended(),
        Decision(
            state=State.SUSPENDED,
            paused_at_ms=1_700_000,
            ran_ms=100_000,
            seen=True,
            updates=(Update(State.SUSPENDED, causes.SUSPENDED),),
            due=Due(0, 1),
            wake_at_ms=0,
        ),
    ),
    (
        "suspended, and the user has changed his mind: stored first",
        RUNS,
        suspended(),
        Decision(
            state=State.SUSPENDED,
            paused_at_ms=1_700_000,
            ran_ms=100_000,
            seen=True,
            updates=(Update(State.SUSPENDED, causes.SUSPENDED),),
            due=Due(0, 1),
            wake_at_ms=0,
        ),
    ),
    ("suspended on", {**PAUSED, "target": Target.SUSPEND}, suspended(), NOTHING),
    ("resume is asked", PAUSED, suspended(), Decision(actions=(Action.RESUME,))),
    (
        "goes on: the pause is neither billed nor counted, and Core is told what is left",
        {**PAUSED, "charged_periods": 1},
        running(Pause(1_700_000, 1_990_000)),
        Decision(
            state=State.RUNNING,
            resumed_at_ms=1_990_000,
            seen=True,
            updates=(Update(State.RUNNING, causes.RESUMED, 3_500_000),),
            wake_at_ms=NOW + 900_000,
        ),
    ),
    (
        "suspended before it was ever seen to run: RUNNING first",
        {**SUBMITTED, "replica_facts": b"[]"},
        suspended(Pause(1_650_000, None)),
        Decision(
            state=State.RUNNING,
            started_at_ms=1_600_000,
            resumed_at_ms=1_600_000,
            seen=True,
            updates=(Update(State.RUNNING, "The job is now running!"),),
            due=Due(0, 6),
            wake_at_ms=NOW + 900_000,
        ),
    ),
    (
        "ends while it is suspended: billed to the pause",
        {**PAUSED, "charged_periods": 1, "target": Target.SUSPEND},
        ended(replica(end=End.CANCELED), at=1_900_000, pauses=(Pause(1_700_000, None),)),
        Decision(
            state=State.FAILURE,
            ended_at_ms=1_900_000,
            ran_ms=100_000,
            seen=True,
            updates=(Update(State.FAILURE, "The program was ended from outside."),),
            due=Due(1, 1),
            wake_at_ms=0,
        ),
    ),
    (
        "was suspended, resumed and ended between two looks: the pause is left out all the same",
        {**RUNS, "charged_periods": 1},
        ended(replica(), at=1_900_000, pauses=(Pause(1_700_000, 1_890_000),)),
        Decision(
            state=State.SUCCESS,
            ended_at_ms=1_900_000,
            ran_ms=110_000,
            seen=True,
            updates=(Update(State.SUCCESS, causes.FINISHED),),
            due=Due(1, 1),
            wake_at_ms=0,
        ),
    ),
    (
        "lost, and nobody saw when: what is not billed yet is the provider's loss",
        {**RUNS, "charged_periods": 1},
        ended(replica(end=End.LOST, why=Why.NODE_RESTARTED, cause="n7"), at=1_990_000),
        Decision(
            state=State.FAILURE,
            ended_at_ms=1_990_000,
            ran_ms=390_000,
            seen=True,
            updates=(Update(State.FAILURE, "The program was lost: the machine n7 was restarted while it ran."),),
            wake_at_ms=0,
        ),
    ),
    ("stop while suspended", {**PAUSED, **STOP}, suspended(), Decision(actions=(Action.CANCEL,))),
    (
        "waits in a queue with places",
        SUBMITTED,
        JobObservation("54112", Phase.WAITING, waiting=Waiting(ahead=3, cpu=2, free_cpu=1, all_cpu=4, latest_start_ms=NOW + 1_441_000)),
        Decision(
            seen=True,
            updates=(
                Update(status="The job is waiting for 2 cores (1 of 4 are free); 3 jobs are before it; it starts within 25 minutes."),
            ),
            wake_at_ms=NOW + WAITING_TOLD_MS,
        ),
    ),
    (
        "ends",
        {**RUNS, "charged_periods": 1},
        ended(replica()),
        Decision(
            state=State.SUCCESS,
            ended_at_ms=1_700_000,
            ran_ms=100_000,
            seen=True,
            updates=(Update(State.SUCCESS, causes.FINISHED),),
            due=Due(1, 1),
            wake_at_ms=0,
        ),
    ),
    ("stop while running", {**RUNS, **STOP}, running(), Decision(actions=(Action.CANCEL,))),
    ("stop while waiting", {**SUBMITTED, **STOP}, waiting(), Decision(actions=(Action.CANCEL,))),
    (
        "stop of what the backend never got",
        {**SUBMITTED, **STOP},
        None,
        Decision(
            state=State.SUCCESS, ended_at_ms=NOW, updates=(Update(State.SUCCESS, causes.STOPPED),), wake_at_ms=0, actions=(Action.CANCEL,)
        ),
    ),
    (
        "disowned: stopped and Core is not told",
        {**RUNS, "target": Target.STOP_DISOWNED},
        ended(replica(end=End.CANCELED)),
        Decision(state=State.FAILURE, ended_at_ms=1_700_000, ran_ms=100_000, seen=True, note=causes.DISOWNED, wake_at_ms=0),
    ),
    ("final: forgotten", {**RUNS, "state": State.SUCCESS}, Unasked.UNASKED, Decision(forgotten=True, actions=(Action.FORGET,))),
    ("forgotten: nothing", {**RUNS, "state": State.SUCCESS, "forgotten_at_ms": 5}, Unasked.UNASKED, NOTHING),
]


@pytest.mark.parametrize(("job", "seen", "decision"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(job: dict[str, Any], seen: Seen, decision: Decision) -> None:
    """Each line of the table gives exactly its decision."""
    assert step(stored_job(**job), seen, NOW, RULES) == decision


@pytest.mark.parametrize(
    ("target", "state", "words"),
    [
        (Target.STOP, State.SUCCESS, "The job was stopped."),
        (Target.STOP_NO_CREDITS, State.SUCCESS, "The job was terminated (No credits)"),
        (Target.STOP_EXPIRED, State.EXPIRED, "The job has reached its time limit of 1 hour."),
    ],
)
def test_a_stop_ends_as_it_was_asked(target: Target, state: State, words: str) -> None:
    """A stop that ended replicas decides the final state and the words; missing credits use the seed's text."""
    decision = step(stored_job(**RUNS, target=target), ended(replica(end=End.CANCELED)), NOW, RULES)
    assert (decision.state, decision.updates) == (state, (Update(state, words),))


def test_a_job_that_ended_by_itself_before_the_stop_ends_as_it_ended() -> None:
    """A stop that came too late changes nothing of how the job ended."""
    decision = step(stored_job(**RUNS, **STOP), ended(replica(code=3)), NOW, RULES)
    assert decision.updates == (Update(State.SUCCESS, "The program ended with exit code 3."),)


@pytest.mark.parametrize(
    ("replicas", "in_2021", "in_2026", "words"),
    [
        ([replica(code=3)], State.SUCCESS, State.FAILURE, "The program ended with exit code 3."),
        (
            [replica(end=End.SIGNALED, signal=9)],
            State.SUCCESS,
            State.FAILURE,
            "The program was ended by signal 9 (SIGKILL).",
        ),
        (
            [replica(end=End.OUT_OF_MEMORY)],
            State.SUCCESS,
            State.FAILURE,
            "The program used more memory than its machine type has and was ended.",
        ),
        (
            [replica(0), replica(1, code=2), replica(2, End.LOST, cause="the machine went away")],
            State.FAILURE,
            State.FAILURE,
            "Rank 2 was lost: the machine went away.",
        ),
        (
            [replica(r, code=1) for r in range(5)],
            State.SUCCESS,
            State.FAILURE,
            "Rank 0 ended with exit code 1; rank 1 ended with exit code 1; rank 2 ended with exit code 1; 2 more likewise.",
        ),
    ],
)
def test_how_programs_end_is_told_in_words(replicas: list[ReplicaObservation], in_2021: State, in_2026: State, words: str) -> None:
    """Exit codes are SUCCESS in 2021 and FAILURE in 2026; the provider's faults are FAILURE in both; the words say which rank and why."""
    job = stored_job(**RUNS, replicas=len(replicas))
    for rules, state in ((RULES, in_2021), (dataclasses.replace(RULES, exit_code_is_failure=True), in_2026)):
        assert step(job, ended(*replicas), NOW, rules).updates == (Update(state, words),)


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (SUBMITTED, running()),
        (RUNS, suspended(Pause(1_990_000, None))),
        (RUNS, ended(replica(), at=1_990_000)),
        ({**RUNS, **STOP}, ended(replica(end=End.CANCELED), at=1_990_000)),
        ({**RUNS, "target": Target.STOP_EXPIRED}, ended(replica(), at=1_990_000)),
    ],
    ids=["started", "suspended", "ended by itself", "stopped", "ended by itself before the limit's stop reached it"],
)
def test_what_a_job_ran_beyond_its_limit_is_not_billed(row: dict[str, Any], seen: JobObservation) -> None:
    """The server was away while the job passed its limit: whatever it is seen as first, no period beyond the limit is billed."""
    found = step(stored_job(**{**row, "time_limit_ms": 120_000}), seen, NOW, RULES)
    assert found.due == Due(0, 2)


def test_a_submission_that_the_backend_refuses_is_a_failure_in_its_words() -> None:
    """Without replicas and with a reason, the reason is what Core is told."""
    decision = step(stored_job(**SUBMITTED), ended(since=None, reason="No machine is that large."), NOW, RULES)
    assert (decision.state, decision.due) == (State.FAILURE, None)
    assert decision.updates == (Update(State.FAILURE, "No machine is that large."),)


def ended_so(end: End, code: int) -> JobObservation:
    return ended(replica(end=end, code=code))


observations: st.SearchStrategy[Seen] = st.one_of(
    st.none(),
    st.builds(waiting, st.sampled_from(["", "waiting for 2 cores"])),
    st.builds(running),
    st.builds(suspended),
    st.just(running(Pause(1_700_000, 1_800_000))),
    st.builds(ended_so, st.sampled_from(End), st.integers(0, 255)),
)


def apply(job: StoredJob, decision: Decision, seen: Seen, now: int) -> StoredJob:
    """What the store would hold after the decision."""
    changes: dict[str, Any] = {"version": job.version + 1}
    if decision.stop is not None:
        return dataclasses.replace(job, target=decision.stop)
    if decision.submitted:
        changes["submitted_at_ms"] = now
    if decision.forgotten:
        changes["forgotten_at_ms"] = now
    if decision.seen and isinstance(seen, JobObservation):
        changes["replica_facts"] = facts.encode(seen)
    if decision.due:
        changes["charged_periods"] = decision.due.first_period + decision.due.units
    if decision.resumed_at_ms is not None and not job.running_since_ms:
        changes["running_since_ms"] = decision.resumed_at_ms
    over = decision.paused_at_ms if decision.paused_at_ms is not None else decision.ended_at_ms
    if over is not None and (since := changes.get("running_since_ms", job.running_since_ms)):
        changes |= {"running_since_ms": 0, "ran_ms": job.ran_ms + max(over - since, 0)}
    for name in ("state", "started_at_ms", "ended_at_ms", "wake_at_ms", "ran_ms", "warned_ms"):
        if getattr(decision, name) is not None:
            changes[name] = getattr(decision, name)
    return dataclasses.replace(job, **changes)


@given(st.lists(st.tuples(observations, st.integers(0, 10_000_000), st.sampled_from(Target)), max_size=12))
def test_any_life_is_sound(life: list[tuple[Seen, int, Target]]) -> None:
    """Whatever a backend says and whenever a stop comes: at most one final state, nothing after it, never submitted after it was seen,
    periods never billed twice."""
    job, now, billed, finals = stored_job(), NOW, 0, 0
    for seen, passed, target in life:
        now += passed
        if not job.target.stop:
            job = dataclasses.replace(job, target=target)
        asked: Seen = seen if job.submitted_at_ms and not job.state.final else Unasked.UNASKED
        decision = step(job, asked, now, RULES)
        assert not (job.replica_facts and Action.SUBMIT in decision.actions)
        assert not (job.state.final and (decision.updates or decision.due or decision.state))
        finals += sum(1 for u in decision.updates if u.state is not None and u.state.final)
        if decision.due:
            assert decision.due.first_period == billed
            billed += decision.due.units
        job = apply(job, decision, asked, now)
    assert finals <= 1
