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
    SUSPENDED = "suspended"
    """Jobs only: it had been RUNNING and every process of it is stopped; `pauses` says since when."""
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


class Why(Enum):
    """The kind of cause that ended a replica, or kept a job from starting. The server has the words; `cause` has the detail named here."""

    NONE = ""
    """No kind of its own; `cause` holds words, or nothing."""
    COMMAND_NOT_FOUND = "command_not_found"
    """Detail: the program."""
    COMMAND_NOT_EXECUTABLE = "command_not_executable"
    """Detail: the program."""
    IMAGE_NOT_FOUND = "image_not_found"
    """Detail: the image."""
    NO_SPACE = "no_space"
    """Detail: where there is none left, in words ("the job's drive")."""
    INPUT_MISSING = "input_missing"
    """Detail: the input's path as the user wrote it."""
    INPUT_FORBIDDEN = "input_forbidden"
    """It leads out of its drive, or may not be read by the job. Detail: the input's path as the user wrote it."""
    MOUNT_FAILED = "mount_failed"
    """Detail: the input's path as the user wrote it, and what the machine said."""
    PEER_GONE = "peer_gone"
    """Detail: the hostname that was asked for."""
    SANDBOX_FAILED = "sandbox_failed"
    """Detail: what the machine said."""
    TOO_LARGE = "too_large"
    """The job can never fit. Detail: what it needs and what there is, in words."""
    NODE_LOST = "node_lost"
    """Detail: the machine's name."""
    NODE_RESTARTED = "node_restarted"
    """Detail: the machine's name."""
    KILLED_FROM_OUTSIDE = "killed_from_outside"
    """Somebody on the machine ended it, and nobody saw how. Detail: what was ended, in words."""
    NODE_DRAINED = "node_drained"
    """An operator took the machine out of service while it ran. Detail: the machine's name."""
    PREEMPTED = "preempted"
    """The cluster gave its place to a job of higher priority. Detail: the machine's name."""
    STOPPED_BY_OPERATOR = "stopped_by_operator"
    """Somebody stopped it at the cluster, past Serai. Detail: what was stopped, in words ("the job", "its allocation")."""
    FORGOTTEN_BY_CLUSTER = "forgotten_by_cluster"
    """The cluster does not know it any more, and nobody saw how it ended. Detail: how that came, in words ("it was purged")."""
    CLUSTER_LIMIT = "cluster_limit"
    """The cluster's own far limit of time ended it, not the job's. No detail."""
    IMAGE_NOT_FETCHED = "image_not_fetched"
    """The image may exist and could not be had. Detail: the image, and what the machine said."""
    ANOTHER_RANK_FAILED = "another_rank_failed"
    """It was ended because another rank was lost or could not start. No detail."""
    CHILD_OUT_OF_MEMORY = "child_out_of_memory"
    """With any end: a process of the replica was ended by its memory limit. No detail."""


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
class Mount:
    """A file or folder of a drive that every replica sees."""

    source: str
    """`{drive}/{rest}` or `{drive}`: below the drive's root whatever links lie on the way; no leading slash."""
    target: str
    """`/work/{name}`; no two mounts of a job have the same."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Another job whose replicas this one reaches, and is reached by."""

    hostname: str
    """The name under which this job finds rank 0 of the other; rank N is `{hostname}-N`."""
    job_id: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A file that each replica of a job has and nobody else: `/etc/ucloud/secrets/{name}`, mode 0400, owned by the replica's user, in
    memory only. A backend never writes its content to a disk of its own, to a log, into an argument or into an answer."""

    name: str
    """1 to 64 characters of [A-Za-z0-9._-], no dot in front."""
    content: bytes = field(repr=False)


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
    mounts: tuple[Mount, ...] = ()
    peers: tuple[Peer, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """(name, text) of files that lie in the job's folder when the first replica starts; a file that is there already stays."""
    scripts: tuple[str, ...] = ()
    """Text of `/etc/ucloud/script.sh` (mode 0755), for programs that are a script: empty = no such file, one = the same on each rank,
    otherwise one for each rank."""
    run_as_root: bool = False
    """The application wants to be uid 0 in its own view of the machine; never on the machine itself."""
    product: str = ""
    """The machine type, `{category}/{id}`: where a cluster places it and how. Empty = nothing special."""
    ports: tuple[int, ...] = ()
    """TCP ports of each replica that are reached from outside the job's network, by `Endpoints`."""
    secrets: tuple[str, ...] = ()
    """Names of the job's secrets. Their content is asked for when the replicas are started (`TakesSecrets`) and is no part of this, because
    this is kept."""
    time_limit_ms: int = 0
    """Longest time in RUNNING, for estimates of when others can start; 0 = none. The server keeps the limit, not the backend."""


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
    """First cause of its end: the detail that `why` asks for, or words for a person; empty = none."""
    why: Why = Why.NONE
    started_at_ms: int | None = None
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A stretch of time in which a job that had started was suspended."""

    started_at_ms: int
    ended_at_ms: int | None
    """None = it still is, or it was when the job ended."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """For what a job waits in a queue of the backend's own."""

    ahead: int
    """Jobs before it."""
    cpu: int = 0
    """Cores that it needs and that are not free; 0 = they are."""
    free_cpu: int = 0
    all_cpu: int = 0
    memory_bytes: int = 0
    """Bytes of memory that it needs and that are not free; 0 = they are."""
    free_memory_bytes: int = 0
    latest_start_ms: int | None = None
    """When it starts at the latest, if every job before it uses its time limit up; None = not known."""


@dataclass(frozen=True, slots=True)
class JobObservation:
    """What a backend knows of one job now. A later observation replaces an earlier one whole."""

    job_id: str
    phase: Phase
    replicas: tuple[ReplicaObservation, ...] = ()
    reason: str = ""
    """While WAITING: for what, in words ("waiting for 2 cores, 1 job is ahead"); empty = it is being started.
    When ENDED before a start: why."""
    why: Why = Why.NONE
    """With `reason`, when ENDED before a start."""
    waiting: Waiting | None = None
    """Set while it waits in a queue that has places; `reason` is then empty."""
    pauses: tuple[Pause, ...] = ()
    """Every time it was suspended, in order; only the last one may be open. Its running time is what lies between."""
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
class TerminalSize:
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    """An IP address."""
    port: int


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
    inputs: bool = False
    """Mounts of files and folders."""
    secrets: bool = False
    """ReplicaSpec.secrets; the backend is a `TakesSecrets`."""
    docker: bool = True
    """Runs applications of tools that are container images (or stands in for the image)."""
    native: bool = False
    virtual_machine: bool = False


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
