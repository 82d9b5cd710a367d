"""The bodies of events: what is told of a job, as the protobuf bytes that the log keeps."""

from __future__ import annotations

from serai.core.v1.resources_pb2 import ResourceOwner
from serai.events.v1.events_service_pb2 import Charge
from serai.jobs.v1.job_pb2 import Job, JobState, JobUpdate

from serai_server.jobs import causes, notes
from serai_server.jobs.decision import Update
from serai_server.licenses.products import reference_of
from serai_server.store.model import LedgerRow, StoredJob


def update_body(update: Update) -> bytes:
    message = JobUpdate()
    if update.state is not None:
        message.state = JobState.ValueType(int(update.state))
    if update.status is not None:
        message.status = update.status
    if update.new_time_allocation_ms is not None:
        message.new_time_allocation = update.new_time_allocation_ms
    return message.SerializeToString()


def charge_body(row: LedgerRow, job: StoredJob, fallback_price: int) -> bytes:
    """What Core of either generation needs to bill: new periods under their own id, and the total of the job's life (facts today §9)."""
    total = row.first_period + row.units
    return Charge(
        charge_id=row.charge_id,
        units=row.units,
        number_of_products=row.number_of_products,
        description=_describe(row),
        total_units=total,
        total_usage=total * row.number_of_products * _price(job, fallback_price),
        owner=ResourceOwner(created_by=job.owner, project=job.project or None),
        product=reference_of(job.product),
    ).SerializeToString()


def _price(job: StoredJob, fallback: int) -> int:
    """Of one period of one replica: as it was when the job was created; jobs of the release before keep it in their message."""
    noted = notes.read(job.notes)
    return noted.price if noted.HasField("price") else notes.price_at_core(Job.FromString(job.body), fallback)


def _describe(row: LedgerRow) -> str:
    return f"Job {row.job_id}, {row.units} {'period' if row.units == 1 else 'periods'}"


def queued_body(output_folder: str) -> bytes:
    """The first thing that Core is told of a job."""
    return JobUpdate(status=causes.QUEUED, output_folder=output_folder).SerializeToString()
