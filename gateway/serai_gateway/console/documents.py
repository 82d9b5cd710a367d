"""What the pages get of jobs, sessions and the site, as JSON. Names are those of `serai jobs show --json`; null = not yet, or none."""

from __future__ import annotations

import msgspec
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1.job_pb2 import JobState
from serai.jobs.v1.jobs_service_pb2 import JobLicense, JobReport, ListResponse, ReplicaPhase, ReplicaReport, RetrieveUtilizationResponse
from serai.sessions.v1 import sessions_service_pb2 as sessions_pb2

_STATE = "JOB_STATE_"
_KIND = "SESSION_KIND_"
KINDS = {
    "SHELL": sessions_pb2.SESSION_KIND_SHELL,
    "WEB": sessions_pb2.SESSION_KIND_WEB,
    "VNC": sessions_pb2.SESSION_KIND_VNC,
}
"""Kinds of sessions at jobs, as the pages spell them."""


class Replica(msgspec.Struct, frozen=True):
    rank: int
    phase: str
    """As people say it: "running", "out of memory", …; empty = not told, or one that a later release knows."""
    exit_code: int | None
    signal: int | None
    node: str | None
    cause: str | None
    started_at_ms: int | None
    ended_at_ms: int | None


class License(msgspec.Struct, frozen=True):
    id: str
    product: str
    seats: int
    held_at_ms: int | None
    """null = the job waits for it."""


class Job(msgspec.Struct, frozen=True):
    id: str
    state: str
    status: str
    stopping: bool
    final: bool
    owner: str
    project: str | None
    application: str
    """Name and version."""
    product: str
    """provider/category/id."""
    name: str | None
    replicas: int
    now_ms: int
    """The server's clock when it said all this; the browser's may be another."""
    created_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None
    ran_ms: int
    running_since_ms: int | None
    time_limit_ms: int | None
    charged_periods: int
    output_folder: str | None
    undelivered_events: int
    labels: dict[str, str]
    licenses: list[License]
    ranks: list[Replica]


class Jobs(msgspec.Struct, frozen=True):
    jobs: list[Job]
    next: str | None
    """For `page` of the next call; null = these were the last."""


class Utilization(msgspec.Struct, frozen=True):
    cpu: float
    used_cpu: float
    memory_bytes: int
    used_memory_bytes: int
    running: int
    """Jobs."""
    waiting: int
    """Jobs."""


class Session(msgspec.Struct, frozen=True):
    id: str
    kind: str
    job: str
    rank: int
    user: str
    opened_at_ms: int
    expires_at_ms: int
    attached: bool


class Opened(msgspec.Struct, frozen=True):
    """The one answer with a secret in it."""

    session: Session
    secret: str
    password: str | None
    """Of a desktop."""
    address: str | None
    """Of a web page; null for the other kinds."""


FINAL = frozenset({"SUCCESS", "FAILURE", "EXPIRED"})


def state_number(name: str) -> JobState.ValueType:
    """ValueError for what is no state."""
    return JobState.Value(_STATE + name)


def job(report: JobReport) -> Job:
    state = JobState.Name(report.state).removeprefix(_STATE)
    application = report.application
    return Job(
        id=report.id,
        state=state,
        status=report.status,
        stopping=report.stopping,
        final=state in FINAL,
        owner=report.owner,
        project=report.project or None,
        application=f"{application.name} {application.version}".strip(),
        product=_product(report.product),
        name=report.name or None,
        replicas=report.replicas,
        now_ms=report.created_at_ms + report.age_ms,
        created_at_ms=report.created_at_ms,
        started_at_ms=report.started_at_ms if report.HasField("started_at_ms") else None,
        ended_at_ms=report.ended_at_ms if report.HasField("ended_at_ms") else None,
        ran_ms=report.ran_ms,
        running_since_ms=report.running_since_ms if report.HasField("running_since_ms") else None,
        time_limit_ms=report.time_limit_ms if report.HasField("time_limit_ms") else None,
        charged_periods=report.charged_periods,
        output_folder=report.output_folder or None,
        undelivered_events=report.undelivered_events,
        labels=dict(report.labels),
        licenses=[_license(one) for one in report.licenses],
        ranks=[_replica(one) for one in report.replica_reports],
    )


def jobs(answer: ListResponse) -> Jobs:
    return Jobs([job(report) for report in answer.jobs], answer.next_page_token or None)


def utilization(answer: RetrieveUtilizationResponse) -> Utilization:
    return Utilization(
        cpu=answer.capacity.cpu,
        used_cpu=answer.used_capacity.cpu,
        memory_bytes=answer.capacity.memory,
        used_memory_bytes=answer.used_capacity.memory,
        running=answer.queue_status.running,
        waiting=answer.queue_status.pending,
    )


def session(told: sessions_pb2.Session) -> Session:
    kind = sessions_pb2.SessionKind.Name(told.kind).removeprefix(_KIND)
    return Session(told.id, kind, told.job_id, told.rank, told.user, told.opened_at_ms, told.expires_at_ms, told.attached)


def _product(product: ProductReference) -> str:
    return f"{product.provider}/{product.category}/{product.id}"


def _license(one: JobLicense) -> License:
    return License(one.id, _product(one.product), one.seats, one.held_at_ms if one.HasField("held_at_ms") else None)


def _phase(phase: ReplicaPhase.ValueType) -> str:
    known = ReplicaPhase.DESCRIPTOR.values_by_number.get(phase)
    return known.name.removeprefix("REPLICA_PHASE_").lower().replace("_", " ") if known is not None and phase else ""


def _replica(one: ReplicaReport) -> Replica:
    return Replica(
        rank=one.rank,
        phase=_phase(one.phase),
        exit_code=one.exit_code if one.HasField("exit_code") else None,
        signal=one.signal if one.HasField("signal") else None,
        node=one.node or None,
        cause=one.cause or None,
        started_at_ms=one.started_at_ms if one.HasField("started_at_ms") else None,
        ended_at_ms=one.ended_at_ms if one.HasField("ended_at_ms") else None,
    )
