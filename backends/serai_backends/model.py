"""What server and backends tell each other: frozen dataclasses, no behaviour.

Times are integers in ms since epoch, sizes integers in bytes, and the unit is in the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """Where a job or a replica is, as a backend sees it."""

    WAITING = "waiting"
    """Accepted, not started; `reason` says for what it waits."""
    RUNNING = "running"
    """Started. For a job: every replica has started and not every one has ended."""
    ENDED = "ended"
    """Over and never to run again; every process of it is gone."""


class End(Enum):
    """How a replica ended."""

    EXITED = "exited"
    """Its program ended by itself; `exit_code` is set."""
    SIGNALED = "signaled"
    """A signal ended it; `signal` is set."""
    CANCELED = "canceled"
    """`cancel` ended it, or kept it from starting."""
    OUT_OF_MEMORY = "out_of_memory"
    """The machine's memory limit ended it."""
    START_FAILED = "start_failed"
    """The sandbox or the program could not be started; `cause` says why."""
    LOST = "lost"
    """It ended and nobody saw how (the machine or the supervisor went away)."""


class Stream(Enum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one replica gets."""

    cpu: int
    """Virtual cores, 1 or more."""
    memory_bytes: int
    gpu: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """A job as a backend must run it: the same command on every rank."""

    job_id: str
    replicas: int
    argv: tuple[str, ...]
    """Program and arguments; no shell ever reads them."""
    environment: tuple[tuple[str, str], ...]
    resources: Resources
    output_folder: str
    """Path of the job's folder below the backend's root of drives: `{drive}/Jobs/{title}/{job id}`, no leading slash.
    It is `/work` in every replica and is kept when the job is gone."""
    image: str = ""
    """The container image that the tool names; empty = none. A backend without images looks the program up by name."""
    change_working_directory: bool = True
    """True = the program starts in /work."""


@dataclass(frozen=True, slots=True)
class ReplicaObservation:
    rank: int
    phase: Phase
    end: End | None = None
    exit_code: int | None = None
    signal: int | None = None
    node: str = ""
    """Name of the machine it was placed on; empty = not placed."""
    address: str = ""
    cause: str = ""
    """First cause of its end, in words for a person; empty = none."""
    started_at_ms: int | None = None
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class JobObservation:
    """What a backend knows of one job now. A later observation replaces an earlier one whole."""

    job_id: str
    phase: Phase
    replicas: tuple[ReplicaObservation, ...] = ()
    reason: str = ""
    """While WAITING: for what, in words ("waiting for 2 cores, 1 job is ahead"); empty = it is being started.
    When ENDED before a start: why."""
    running_since_ms: int | None = None
    """When the last replica started; None = not every one has."""
    ended_at_ms: int | None = None
    """When the last replica ended; None until ENDED."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of `Backend.watch`: an observation and the cursor from which a later watch goes on."""

    cursor: int
    observation: JobObservation


@dataclass(frozen=True, slots=True)
class LogChunk:
    offset: int
    """Bytes before `data` in the stream."""
    data: bytes
    """1 byte to 64 KiB."""


@dataclass(frozen=True, slots=True)
class Capacity:
    cpu: int
    memory_bytes: int
    used_cpu: int
    used_memory_bytes: int
    running_jobs: int
    waiting_jobs: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a backend can do; decides what `retrieveProducts` declares."""

    logs: bool = False
    terminal: bool = False
    web: bool = False
    vnc: bool = False
    peers: bool = False
    time_extension: bool = False
    utilization: bool = False
    suspension: bool = False


class Severity(Enum):
    NOTE = "note"
    """Works, and an operator should know this."""
    WARNING = "warning"
    """Works less well than it should."""
    ERROR = "error"
    """Jobs cannot run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `Backend.check`."""

    severity: Severity
    subject: str
    text: str
    """What is so, and what to do about it."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    findings: tuple[Finding, ...] = field(default=())

    @property
    def usable(self) -> bool:
        return all(f.severity is not Severity.ERROR for f in self.findings)
