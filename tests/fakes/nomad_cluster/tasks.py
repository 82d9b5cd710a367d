"""What Nomad tells of the task of an allocation on its way, in the structs that the backend reads.

The forms are those of tests/golden/nomad/allocations.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from serai_backends.model import End, Why
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.wire import TaskEvent, TaskState

Verdict = tuple[End, int | None, int | None, Why]
"""End, exit code, signal, kind of cause: what has to be told of a rank."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What the program will do, if it is let."""

    kind: Literal["exit", "signal", "docker-signal", "memory", "child-memory", "no-start", "script"]
    """`script`: the start script ends with a code of its own, and leaves its mark in the job's folder."""
    number: int = 0

    @property
    def verdict(self) -> Verdict:
        match self.kind:
            case "script":
                return (End.LOST if self.number == codes.RAN_BEFORE else End.START_FAILED), None, None, codes.MEANING[self.number][0]
            case "exit":
                return End.EXITED, self.number, None, Why.NONE
            case "signal" | "docker-signal":
                return End.SIGNALED, None, self.number, Why.NONE
            case "memory":
                return End.OUT_OF_MEMORY, None, 9, Why.NONE
            case "child-memory":
                return End.EXITED, self.number, None, Why.CHILD_OUT_OF_MEMORY
            case "no-start":
                return End.START_FAILED, None, None, Why.SANDBOX_FAILED

    @property
    def failed(self) -> bool:
        """What Nomad calls it."""
        return self.kind != "exit" or self.number != 0

    def event(self, at_ms: int) -> TaskEvent:
        at = at_ms * 1_000_000
        match self.kind:
            case "exit" | "script" | "child-memory":
                killed = "true" if self.kind == "child-memory" else "false"
                return TaskEvent(type="Terminated", time=at, exit_code=self.number, details={"oom_killed": killed})
            case "signal":
                return TaskEvent(type="Terminated", time=at, exit_code=128 + self.number, signal=self.number)
            case "docker-signal":
                return TaskEvent(type="Terminated", time=at, exit_code=128 + self.number, details={"oom_killed": "false"})
            case "memory":
                return TaskEvent(type="Terminated", time=at, exit_code=137, message="OOM Killed", details={"oom_killed": "true"})
            case "no-start":
                return TaskEvent(type="Driver Failure", time=at, driver_error="the driver is not in the mood", fails_task=True)


REFUSED = Fate("script", codes.RAN_BEFORE)
"""The start script's guard: this rank has run before."""


def text(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def waiting(at_ms: int) -> TaskState:
    at = at_ms * 1_000_000
    return TaskState(state="pending", events=(TaskEvent(type="Received", time=at), TaskEvent(type="Task Setup", time=at)))


def started(before: TaskState, at_ms: int) -> TaskState:
    begun = TaskEvent(type="Started", time=at_ms * 1_000_000)
    return TaskState(state="running", started_at=text(at_ms), events=(*(before.events or ()), begun))


def ended(before: TaskState, fate: Fate, at_ms: int, *, killed: bool) -> TaskState:
    """By itself, or after a kill that it may have obeyed."""
    at = at_ms * 1_000_000
    first = (TaskEvent(type="Killing", time=at, message="Sent interrupt"),) if killed else ()
    last = TaskEvent(type="Killed", time=at) if killed else TaskEvent(type="Not Restarting", time=at, fails_task=True)
    ran = before.started_at is not None
    middle = (fate.event(at_ms),) if ran or not killed else ()
    closing = (last,) if killed or fate.failed else ()
    return TaskState(
        state="dead",
        failed=fate.failed and not killed,
        started_at=before.started_at,
        finished_at=text(at_ms),
        events=(*(before.events or ()), *first, *middle, *closing),
    )
