"""Jobs that Core asks about and that are not known here: what is kept of them, so that Core is told and told reliably.

A tombstone is a row that is over and forgotten from the start, with one event that ends the job at Core. It also keeps a create that comes
late (Core had given up on it, a user cancelled meanwhile) from running a job that Core was told to be over: that create is a conflict.
"""

from __future__ import annotations

from serai.jobs.v1.job_pb2 import Job

from serai_server.jobs import causes
from serai_server.jobs.bodies import update_body
from serai_server.jobs.decision import Update
from serai_server.store.model import EventKind, NewEvent, NewJob, State

YOUNG_MS = 120_000
"""A job that Core made so lately may still be on its way to us, so nothing is concluded about it."""

_MOST_REPLICAS = 10_000
"""More than any settings allow. What Core says of such a job was never checked, and whoever looks at it counts through its ranks."""


def tombstone(job: Job, now_ms: int) -> NewJob:
    """The row of a job that nobody here knows. Source of state and words: the seed's verify example."""
    spec = job.specification
    body = update_body(Update(State.FAILURE, causes.LOST))
    return NewJob(
        id=job.id,
        body=job.SerializeToString(),
        digest=b"",
        owner=_clean(job.owner.created_by),
        project=_clean(job.owner.project),
        application=_clean(f"{spec.application.name} {spec.application.version}"),
        product=_clean(f"{spec.product.provider}/{spec.product.category}/{spec.product.id}"),
        name=_clean(spec.name),
        replicas=min(max(spec.replicas, 1), _MOST_REPLICAS),
        time_limit_ms=0,
        period_ms=0,
        output_folder="",
        created_at_ms=now_ms,
        status=causes.LOST,
        events=(NewEvent(job.id, EventKind.JOB_UPDATE, body, now_ms),),
        state=State.FAILURE,
    )


def is_young(job: Job, wall_ms: int) -> bool:
    """By Core's time of its creation and the time of day here; one that does not tell may be young."""
    return not job.created_at or job.created_at > wall_ms - YOUNG_MS


def _clean(text: str) -> str:
    return text.replace("\0", "")
