"""What the store keeps and gives back. Bodies are protobuf bytes that the store never opens; times are ms since epoch.

Vocabulary: a job's *target* is what was asked (RUN or a kind of stop), its *state* is what Core may know; see jobs/machine.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgspec

from serai_server.store.license_model import LicenseNote, NewClaim
from serai_server.store.session_model import StoredSession
from serai_server.store.token_model import StoredToken


class State(IntEnum):
    """Numbers are those of serai.jobs.v1.JobState."""

    IN_QUEUE = 1
    RUNNING = 2
    CANCELING = 3
    SUCCESS = 4
    FAILURE = 5
    EXPIRED = 6
    SUSPENDED = 7

    @property
    def final(self) -> bool:
        return State.SUCCESS <= self <= State.EXPIRED


class Target(IntEnum):
    """What the job was asked to do. RUN and SUSPEND may follow each other; a stop is not taken back, and the first reason to stop stays."""

    RUN = 1
    STOP = 2
    """A user or an operator asked."""
    STOP_NO_CREDITS = 3
    STOP_EXPIRED = 4
    STOP_DISOWNED = 5
    """Core does not know the job."""
    SUSPEND = 6

    @property
    def stop(self) -> bool:
        return Target.STOP <= self <= Target.STOP_DISOWNED


class EventKind(IntEnum):
    """Which message an event's body is."""

    JOB_UPDATE = 1
    """serai.jobs.v1.JobUpdate"""
    CHARGE = 2
    """serai.events.v1.Charge"""
    LICENSE = 3
    """serai.events.v1.Event, with all that a license's event has but its place and time"""


CORE = "core"
"""The consumer of events that delivers to UCloud/Core."""


class Outcome(IntEnum):
    """Numbers are those of serai.events.v1.SettlementOutcome."""

    DELIVERED = 1
    JOB_UNKNOWN = 2
    INSUFFICIENT_FUNDS = 3
    REFUSED = 4


class JobRecord(msgspec.Struct, gc=False, frozen=True):
    """What the server keeps in memory of an active job (8 fields, no garbage collection: facts on speed §7)."""

    id: str
    state: int
    target: int
    version: int
    """Grows by one with each change of the row."""
    replicas: int
    created_at_ms: int
    started_at_ms: int
    """0 = not yet."""
    wake_at_ms: int
    """When the reconciler must look again without being asked (time limit, next charge); 0 = not needed."""


class NewEvent(msgspec.Struct, frozen=True):
    job_id: str
    """Empty = of a license."""
    kind: EventKind
    body: bytes
    at_ms: int
    license_id: str = ""


class NewJob(msgspec.Struct, frozen=True):
    """A job to be created, with what lists and filters need beside the body."""

    id: str
    body: bytes
    """serai.jobs.v1.Job as it came."""
    digest: bytes
    """SHA-256 of what makes two creates the same (jobs/requests.py says what)."""
    owner: str
    project: str
    """Empty = personal workspace."""
    application: str
    """"{name} {version}"."""
    product: str
    """"{provider}/{category}/{id}"."""
    name: str
    replicas: int
    time_limit_ms: int
    """0 = none."""
    period_ms: int
    """Length of the product's price unit when the job was created; 0 = billed once. Later settings do not change a job's bill."""
    output_folder: str
    """"/{drive}/Jobs/…"."""
    created_at_ms: int
    status: str = ""
    """Words that Core is told with the first event."""
    events: tuple[NewEvent, ...] = ()
    state: State = State.IN_QUEUE
    """A final state makes a tombstone: a job of which nothing was known when Core asked, over and forgotten from the start."""
    notes: bytes = b""
    """serai.jobs.v1.JobNotes"""
    claims: tuple[NewClaim, ...] = ()
    """Licenses that it uses; each license once."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One row, whole."""

    id: str
    state: State
    target: Target
    version: int
    digest: bytes
    owner: str
    project: str
    application: str
    product: str
    name: str
    replicas: int
    time_limit_ms: int
    period_ms: int
    output_folder: str
    created_at_ms: int
    submitted_at_ms: int
    """When it was decided to hand it to the backend; 0 = not yet. From then on the backend must be asked before anything is concluded."""
    started_at_ms: int
    """First RUNNING; 0 = not yet."""
    ended_at_ms: int
    """0 = not final."""
    forgotten_at_ms: int
    """When the backend was told to forget; 0 = not yet. A final job is active until then."""
    stop_requested_at_ms: int
    """0 = no stop asked for."""
    status: str
    """Last words told to Core; empty = none."""
    replica_facts: bytes
    """The last observation of each replica, encoded by jobs/facts.py; empty = none."""
    charged_periods: int
    """Whole periods of the product's unit billed so far."""
    wake_at_ms: int
    body: bytes
    ran_ms: int = 0
    """ms of RUNNING in all but for the stretch that goes on; what bills and limits are made of."""
    running_since_ms: int = 0
    """Since when it has been RUNNING without a break; 0 = it is not."""
    warned_ms: int = 0
    """How much of its time limit was left, in round numbers, when its user was warned last; 0 = not warned yet."""
    notes: bytes = b""
    """serai.jobs.v1.JobNotes: what Core told of it after its creation."""
    claims: int = 0
    """Licenses that it uses; their claims are there until it is final."""

    def ran_until_ms(self, now_ms: int) -> int:
        """ms of RUNNING in all; never less than what it was, also when the clock was set back."""
        return self.ran_ms + (max(now_ms - self.running_since_ms, 0) if self.running_since_ms else 0)

    @property
    def record(self) -> JobRecord:
        return JobRecord(
            self.id, int(self.state), int(self.target), self.version, self.replicas, self.created_at_ms, self.started_at_ms, self.wake_at_ms
        )


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One charge as it was written: `units` periods from `first_period` on, of `number_of_products` replicas."""

    job_id: str
    first_period: int
    units: int
    number_of_products: int
    charge_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time in which a job ran and is billed for."""

    job_id: str
    started_at_ms: int
    ended_at_ms: int
    """0 = still running."""


@dataclass(frozen=True, slots=True)
class JobChange:
    """One step of the reconciler: what becomes true of a job, all in one transaction. None = unchanged."""

    job_id: str
    expected_version: int
    """The change is refused (VersionConflict) unless the row has this version."""
    state: State | None = None
    submitted_at_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    forgotten_at_ms: int | None = None
    status: str | None = None
    replica_facts: bytes | None = None
    charged_periods: int | None = None
    wake_at_ms: int | None = None
    interval_started_at_ms: int | None = None
    """A stretch of RUNNING begins, unless one goes on."""
    interval_ended_at_ms: int | None = None
    """The stretch that goes on ends; no effect when there is none."""
    ran_ms: int | None = None
    """What is known better than by the stretch that ends."""
    target: Target | None = None
    stop_requested_at_ms: int | None = None
    """With a target that is a stop."""
    time_limit_ms: int | None = None
    warned_ms: int | None = None
    notes: bytes | None = None
    license_notes: tuple[LicenseNote, ...] = ()
    """What this step means to licenses: bound, or free again."""
    charges: tuple[LedgerRow, ...] = ()
    events: tuple[NewEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Raise a job's target to a stop. No effect on a final job or one that has a stop target already."""

    job_id: str
    target: Target
    at_ms: int
    sequence: int = 0
    """The event whose settlement asks for it: no effect when that was settled before; 0 = none does."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    sequence: int
    job_id: str
    kind: EventKind
    body: bytes
    at_ms: int
    maybe_delivered: bool = False
    """Set by the event log: it was there before the subscription that now reads it, so an earlier one may have delivered it."""
    license_id: str = ""
    """Empty = of a job."""


@dataclass(frozen=True, slots=True)
class EventSettlement:
    sequence: int
    outcome: Outcome
    detail: str
    at_ms: int
    license_core_id: str = ""
    """Core's id of a license that was registered."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a consumer has not settled."""

    consumer: str
    events: int
    oldest_at_ms: int
    """When the oldest of them happened; 0 = there is none."""
    settled_to: int = 0
    """Up to this event it has settled everything, but for what it jumped over."""
    owner: str = ""
    """Who made it or was given it (Holder.who); empty = somebody at the server's own socket."""
    seen_at_ms: int = 0
    """When it last subscribed or settled, to the minute; 0 = not since this is noted."""


@dataclass(frozen=True, slots=True)
class Unpaid:
    """A charge that a wallet could not pay."""

    owner: str
    project: str
    product: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class JobFilter:
    """None and empty = no condition."""

    states: tuple[State, ...] = ()
    owner: str = ""
    project: str | None = None
    active_only: bool = False


@dataclass(frozen=True, slots=True)
class JobPage:
    jobs: tuple[StoredJob, ...]
    next_token: str
    """Empty = the last page."""


class Committed(msgspec.Struct, frozen=True):
    """Told to the store's listener, on the event loop, after each commit, also when the caller that asked was cancelled."""

    records: tuple[JobRecord, ...] = ()
    """Jobs as they are now."""
    gone: tuple[str, ...] = ()
    """Ids of jobs that are no longer active (final and forgotten)."""
    last_event: int = 0
    """Highest sequence written; 0 = none."""
    sessions: tuple[StoredSession, ...] = ()
    """Sessions that were opened or used for the first time, as they are now. Those of jobs that became final are gone without a word."""
    sessions_gone: tuple[str, ...] = ()
    """Ids of sessions that were ended."""
    tokens: tuple[StoredToken, ...] = ()
    """Tokens that were added or revoked, as they are now."""
