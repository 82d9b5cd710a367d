"""What the machine is told and what it answers: plain data between `machine.step` and the reconciler that carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from serai_backends.model import JobObservation

from serai_server.store.model import State, Target


class Action(Enum):
    TAKE_SEATS = "take seats"
    """Submit with the seats of its licenses, or else wait for them."""
    SUBMIT = "submit"
    SUSPEND = "suspend"
    RESUME = "resume"
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
    """Shortest time between two charges of a running job."""


@dataclass(frozen=True, slots=True)
class Update:
    """What Core is told: None = unchanged."""

    state: State | None = None
    status: str | None = None
    new_time_allocation_ms: int | None = None
    """What is left to the job from this change to RUNNING on; generation 2026 only."""


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
    """First RUNNING."""
    resumed_at_ms: int | None = None
    """A stretch of RUNNING began then, the first one included."""
    paused_at_ms: int | None = None
    """The stretch that went on ended then, and the job lives on."""
    ran_ms: int | None = None
    """ms of RUNNING in all up to the end of the stretch that ended."""
    ended_at_ms: int | None = None
    forgotten: bool = False
    seen: bool = False
    """The backend's view of the replicas is to be stored."""
    updates: tuple[Update, ...] = ()
    note: str | None = None
    """Words for operators where Core is told nothing."""
    due: Due | None = None
    warned_ms: int | None = None
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
