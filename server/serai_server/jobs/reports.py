"""A stored job as operators' tools see it (serai.jobs.v1.JobReport)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serai.core.v1.resources_pb2 import NameAndVersion
from serai.jobs.v1.job_pb2 import JobState
from serai.jobs.v1.jobs_service_pb2 import JobLicense, JobReport, ReplicaPhase, ReplicaReport
from serai_backends.model import End, Phase, ReplicaObservation

from serai_server.jobs import facts, notes
from serai_server.licenses.products import reference_of
from serai_server.store.license_model import Claim
from serai_server.store.model import StoredJob


def report(job: StoredJob, undelivered: int, now_ms: int, claims: Iterable[Claim] = ()) -> JobReport:
    noted = notes.read(job.notes)
    name, _, version = job.application.rpartition(" ")
    message = JobReport(
        id=job.id,
        state=JobState.ValueType(int(job.state)),
        status=job.status,
        owner=job.owner,
        project=job.project,
        application=NameAndVersion(name=name, version=version),
        product=reference_of(job.product),
        name=job.name,
        replicas=job.replicas,
        created_at_ms=job.created_at_ms,
        output_folder=job.output_folder,
        replica_reports=[_replica(r) for r in facts.decode(job.replica_facts)],
        undelivered_events=undelivered,
        stopping=job.target.stop and not job.state.final,
        ran_ms=job.ran_ms,
        charged_periods=job.charged_periods,
        age_ms=max(now_ms - job.created_at_ms, 0),
        acl=noted.acl,
        labels=dict(noted.labels),
        licenses=[_license(claim) for claim in claims],
    )
    if job.time_limit_ms:
        message.time_limit_ms = job.time_limit_ms
    if job.running_since_ms:
        message.running_since_ms = job.running_since_ms
    if job.started_at_ms:
        message.started_at_ms = job.started_at_ms
    if job.ended_at_ms:
        message.ended_at_ms = job.ended_at_ms
    return message


def _license(claim: Claim) -> JobLicense:
    return JobLicense(id=claim.license_id, product=reference_of(claim.product), seats=claim.seats, held_at_ms=claim.held_at_ms or None)


def _replica(seen: ReplicaObservation) -> ReplicaReport:
    return ReplicaReport(
        rank=seen.rank,
        phase=_PHASES.get(seen.end or seen.phase, ReplicaPhase.REPLICA_PHASE_UNSPECIFIED),
        exit_code=seen.exit_code,
        signal=seen.signal,
        node=seen.node,
        cause=seen.cause,
        started_at_ms=seen.started_at_ms,
        ended_at_ms=seen.ended_at_ms,
    )


_PHASES: Mapping[Phase | End, ReplicaPhase.ValueType] = {
    Phase.WAITING: ReplicaPhase.REPLICA_PHASE_WAITING,
    Phase.RUNNING: ReplicaPhase.REPLICA_PHASE_RUNNING,
    End.EXITED: ReplicaPhase.REPLICA_PHASE_EXITED,
    End.SIGNALED: ReplicaPhase.REPLICA_PHASE_SIGNALED,
    End.CANCELED: ReplicaPhase.REPLICA_PHASE_CANCELED,
    End.OUT_OF_MEMORY: ReplicaPhase.REPLICA_PHASE_OUT_OF_MEMORY,
    End.START_FAILED: ReplicaPhase.REPLICA_PHASE_START_FAILED,
    End.LOST: ReplicaPhase.REPLICA_PHASE_LOST,
}
"""How it ended, or else where it is."""
