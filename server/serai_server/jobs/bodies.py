"""The bodies of events: what is told of a job, as the protobuf bytes that the log keeps."""

from __future__ import annotations

from serai.events.v1.events_service_pb2 import Charge
from serai.jobs.v1.job_pb2 import JobState, JobUpdate

from serai_server.jobs import causes
from serai_server.jobs.machine import Update
from serai_server.store.model import LedgerRow


def update_body(update: Update) -> bytes:
    message = JobUpdate()
    if update.state is not None:
        message.state = JobState.ValueType(int(update.state))
    if update.status is not None:
        message.status = update.status
    return message.SerializeToString()


def charge_body(row: LedgerRow) -> bytes:
    return Charge(
        charge_id=row.charge_id, units=row.units, number_of_products=row.number_of_products, description=_describe(row)
    ).SerializeToString()


def _describe(row: LedgerRow) -> str:
    return f"Job {row.job_id}, {row.units} {'period' if row.units == 1 else 'periods'}"


def queued_body(output_folder: str) -> bytes:
    """The first thing that Core is told of a job."""
    return JobUpdate(status=causes.QUEUED, output_folder=output_folder).SerializeToString()
