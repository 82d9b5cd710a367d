"""The record of a submission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.common import submission

if TYPE_CHECKING:
    from serai_backends.local.supervisor.plan import Spec
    from serai_backends.model import ReplicaSpec


def spec_of(spec: ReplicaSpec, sequence: int, now_ms: int) -> Spec:
    """Raises SubmissionRefused."""
    submission.check(spec)
    return {
        "job_id": spec.job_id,
        "sequence": sequence,
        "submitted_at_ms": now_ms,
        "replicas": spec.replicas,
        "argv": list(spec.argv),
        "environment": list(spec.environment),
        "cpu": spec.resources.cpu,
        "memory_bytes": spec.resources.memory_bytes,
        "output_folder": spec.output_folder,
        "change_working_directory": spec.change_working_directory,
        "mounts": [{"source": m.source, "target": m.target, "read_only": m.read_only} for m in spec.mounts],
        "peers": [{"hostname": peer.hostname, "job_id": peer.job_id} for peer in spec.peers],
        "files": list(spec.files),
        "scripts": list(spec.scripts),
        "run_as_root": spec.run_as_root,
        "secrets": list(spec.secrets),
        "ports": list(spec.ports),
        "time_limit_ms": spec.time_limit_ms,
    }
