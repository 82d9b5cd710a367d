"""What Core tells of a job after its creation and what changes nothing of its life: permissions and labels, for the tools' view."""

from __future__ import annotations

from serai.jobs.v1.job_pb2 import Job
from serai.jobs.v1.jobs_service_pb2 import JobNotes, UpdateAclItem

from serai_server.licenses import acl


def of_new(job: Job, fallback_price: int, tool: str = "", *, only_project: bool = False) -> bytes:
    """A new job's: nobody else, the labels that it came with, its price, and which tool made it ("" = none)."""
    price, labels = price_at_core(job, fallback_price), dict(job.specification.labels)
    return JobNotes(labels=labels, price=price, tool=tool, only_project=only_project).SerializeToString()


def price_at_core(job: Job, fallback: int) -> int:
    """Of one period of one replica: what Core said of the product when the job was made (2026: facts today §7), or else the settings."""
    product = job.status.resolved_product
    return product.price if product.HasField("price") else product.price_per_unit or fallback


def read(stored: bytes) -> JobNotes:
    return JobNotes.FromString(stored)


def with_origin(stored: bytes, traceparent: str) -> bytes:
    """A new job's that was asked for inside of a span."""
    notes = read(stored)
    notes.trace_parent = traceparent
    return notes.SerializeToString()


def with_acl(stored: bytes, change: UpdateAclItem) -> bytes:
    """After a change of permissions. The item has the list before it (facts 2021 §1.6), so an earlier change that got lost does not
    matter."""
    notes = read(stored)
    kept = acl.changed(change.resource.permissions.others or notes.acl, change.added, change.deleted)
    notes.ClearField("acl")
    notes.acl.extend(kept)
    return notes.SerializeToString()


def with_labels(stored: bytes, job: Job) -> bytes:
    notes = read(stored)
    notes.ClearField("labels")
    notes.labels.update(job.specification.labels)
    return notes.SerializeToString()
