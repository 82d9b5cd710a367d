"""How an allocation that is over has ended, and whose doing it was.

What counts is the order of the main task's events: what ended it before a "Killing" was its own end, what came after was somebody else's
doing, whatever exit code it left. A drain, a stop by hand, the far time limit and a job that obeyed our own stop all look like success in
Nomad's states (facts: nomad-tried §3, §4); the fields that tell them apart are read in `_others_doing`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from serai_backends.model import End, Why
from serai_backends.nomad.names import FIREWALL, MAIN
from serai_backends.nomad.observed import driver, start, times
from serai_backends.nomad.wire import Allocation, TaskEvent, TaskState

_KILL = 9
_LAST_SIGNAL = 64
_STARTED, _TERMINATED, _KILLING, _SIBLING = "Started", "Terminated", "Killing", "Sibling Task Failed"
_RESTARTED = "Restart Signaled"
_BY_TIME = "exceeded max_run_duration"
_NODE_IS_DOWN = "node is down"
"""Desired of an allocation whose node was not heard of for too long; when the node comes back, it ends the program."""
_FAILURES = frozenset(
    ("Driver Failure", "Failed Validation", "Failed Artifact Download", "Setup Failure", "Task hook failed", "Failed Restoring Task")
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is needed of the job for words: its program and image, and whether we had it stopped."""

    program: str
    image: str
    stopped: bool
    marks: AbstractSet[int] | None
    """As in Around."""


@dataclass(frozen=True, slots=True)
class Ending:
    end: End
    exit_code: int | None = None
    signal: int | None = None
    cause: str = ""
    why: Why = Why.NONE


def state_of(alloc: Allocation, task: str) -> TaskState:
    return (alloc.task_states or {}).get(task, _NOTHING)


def events_of(state: TaskState) -> tuple[TaskEvent, ...]:
    return state.events or ()


def first(state: TaskState, kind: str) -> TaskEvent | None:
    return next((event for event in events_of(state) if event.type == kind), None)


def terminated(state: TaskState) -> TaskEvent | None:
    """The event with the exit code; the last one, because only that is the task's end."""
    return next((event for event in reversed(events_of(state)) if event.type == _TERMINATED), None)


def has_started(state: TaskState) -> bool:
    return first(state, _STARTED) is not None or terminated(state) is not None


def ending_of(alloc: Allocation, asked: Asked) -> Ending:
    """Of an allocation that is over."""
    main = state_of(alloc, MAIN)
    ended = terminated(main)
    killed = _was_killed(main)
    if ended is not None and not killed:
        return _own(ended, alloc, asked)
    if ended is None and alloc.client_status == "lost":
        return Ending(End.LOST, why=Why.NODE_LOST, cause=_node(alloc))
    if has_started(main):
        return _others_doing(alloc, asked) or _unseen(main)
    failure = _failure(alloc)
    if asked.stopped and (failure is None or killed):
        return Ending(End.CANCELED)
    if failure is not None:
        why, cause = _why(failure, alloc, asked)
        return Ending(End.START_FAILED, cause=cause, why=why)
    return _others_doing(alloc, asked) or Ending(End.START_FAILED, cause=driver.said(alloc.client_description))


def _was_killed(state: TaskState) -> bool:
    """Somebody else ended it, before it ended by itself. A kill that says "fails the task" is Nomad's own report of a failure."""
    for event in events_of(state):
        if event.type == _TERMINATED:
            return False
        if event.type in {_KILLING, _SIBLING, _RESTARTED} and not event.fails_task:
            return True
    return False


def _own(event: TaskEvent, alloc: Allocation, asked: Asked) -> Ending:
    """It ended by itself. docker says a signal only as 128 + N and puts 0 where the signal stands, so the code alone decides."""
    code = event.exit_code
    if code < 0:
        # Nomad's word for "nobody knows": its agent came back and did not find the task again.
        return Ending(End.LOST, cause=f"Nomad's agent on the machine {_node(alloc)} was restarted and did not find it again")
    signal = event.signal or (code - 128 if 128 < code <= 128 + _LAST_SIGNAL else 0)
    out_of_memory = (event.details or {}).get("oom_killed") == "true"
    if out_of_memory and signal == _KILL:
        return Ending(End.OUT_OF_MEMORY, signal=_KILL, cause="the memory limit of the replica was reached")
    why = Why.CHILD_OUT_OF_MEMORY if out_of_memory else Why.NONE
    if signal:
        return Ending(End.SIGNALED, signal=signal, why=why)
    not_run = start.meaning(code, _ran_ms(alloc), asked.marks)
    if not_run is not None:
        end, kind, detail = not_run
        return Ending(end, cause=detail or asked.program, why=kind)
    return Ending(End.EXITED, exit_code=code, why=why)


def _ran_ms(alloc: Allocation) -> int:
    main = state_of(alloc, MAIN)
    started_at_ms = times.from_text(main.started_at) or times.of_event(first(main, _STARTED))
    ended_at_ms = times.of_event(terminated(main)) or times.from_text(main.finished_at)
    return ended_at_ms - started_at_ms if started_at_ms and ended_at_ms else 0


def _others_doing(alloc: Allocation, asked: Asked) -> Ending | None:
    """Why the cluster ended it; None = no field says so."""
    move, desired = alloc.desired_transition, alloc.desired_status
    main = state_of(alloc, MAIN)
    by_job = desired == "stop" and "not needed" in alloc.desired_description
    said = (
        (asked.stopped, End.CANCELED, Why.NONE, ""),
        (desired == "evict" or alloc.preempted_by_allocation != "", End.CANCELED, Why.PREEMPTED, _node(alloc)),
        (_BY_TIME in alloc.client_description, End.CANCELED, Why.CLUSTER_LIMIT, ""),
        (move is not None and bool(move.migrate_disable_placement), End.CANCELED, Why.NODE_DRAINED, _node(alloc)),
        (_NODE_IS_DOWN in alloc.desired_description, End.LOST, Why.NODE_LOST, _node(alloc)),
        (first(main, _SIBLING) is not None, End.CANCELED, Why.NONE, _firewall_words(alloc)),
        (desired == "stop", End.CANCELED, Why.STOPPED_BY_OPERATOR, "the job" if by_job else "its allocation"),
        (first(main, _RESTARTED) is not None, End.CANCELED, Why.STOPPED_BY_OPERATOR, "its allocation"),
    )
    return next((Ending(end, why=why, cause=cause) for is_so, end, why, cause in said if is_so), None)


def _firewall_words(alloc: Allocation) -> str:
    ended = terminated(state_of(alloc, FIREWALL))
    return f"its firewall ended with exit code {ended.exit_code}" if ended is not None else "its firewall failed"


def _unseen(main: TaskState) -> Ending:
    """It ran, is over, and no event tells how."""
    failed = next((event for event in events_of(main) if event.type in _FAILURES or event.fails_task), None)
    return Ending(End.LOST, cause=driver.said(_words(failed)) if failed is not None else "nobody saw how it ended")


@dataclass(frozen=True, slots=True)
class _Failure:
    task: str
    event: TaskEvent


def _failure(alloc: Allocation) -> _Failure | None:
    """The first event that says why a task could not be started; the program's own before the firewall's."""
    for task in (MAIN, *sorted((alloc.task_states or {}).keys() - {MAIN})):
        for event in events_of(state_of(alloc, task)):
            # "Not Restarting" only repeats that something failed before
            if event.type in _FAILURES or (event.type == _KILLING and event.fails_task):
                return _Failure(task, event)
    ended = next((terminated(s) for t, s in (alloc.task_states or {}).items() if t != MAIN and s.failed and terminated(s)), None)
    return None if ended is None else _Failure(FIREWALL, ended)


def _why(failure: _Failure, alloc: Allocation, asked: Asked) -> tuple[Why, str]:
    if failure.event.type == _TERMINATED:
        return Why.SANDBOX_FAILED, _firewall_words(alloc)
    words = _words(failure.event)
    if failure.task != MAIN:
        return Why.SANDBOX_FAILED, f"its firewall could not be started: {driver.said(words)}"
    return driver.why_of(words, program=asked.program, image=asked.image, node=_node(alloc))


def _words(event: TaskEvent) -> str:
    """The field that Nomad fills depends on the kind of event."""
    parts = (event.driver_error, event.validation_error, event.download_error, event.setup_error, event.kill_reason, event.message)
    if event.type in {"Setup Failure", "Failed Restoring Task"} and event.display_message:
        return event.display_message
    return next((part for part in parts if part), event.display_message or event.type)


def _node(alloc: Allocation) -> str:
    return alloc.node_name or alloc.node_id or "of the job"


_NOTHING = TaskState()
