"""What Core is told of an event, by its generation: pure rules, no I/O.

2021 bills periods of a job's life (`chargeCredits`, facts 2021 §2.2). 2026 is told all that a job has used so far, in a scope of its own
(`accounting/v2/reportUsage`, facts today §9): telling it again changes nothing, and what a Core that died had forgotten is mended by the
next one. Events of a Serai that did not know the totals yet are billed by periods there too.

Licenses are told of in calls of their own, but for usage. Core of 2026 takes their updates and does nothing with them (facts today §9);
they are sent all the same, because a Core that does something with them is likelier than one that minds.
"""

from __future__ import annotations

from serai.control.v1 import control_pb2
from serai.core.v1 import resources_pb2
from serai.events.v1 import events_service_pb2 as events_pb2
from serai.jobs.v1 import job_pb2
from serai.licenses.v1 import license_pb2

from serai_gateway.control.queues import Lane
from serai_gateway.settings import Generation


def lane_of(event: events_pb2.Event, generation: Generation) -> Lane | None:
    """The call that carries the event; None = nothing of it is for this Core."""
    match event.WhichOneof("change"):
        case "job_update":
            return Lane.UPDATES if update_of(event, generation) is not None else None
        case "charge":
            if generation == "2026" and _has_total(event.charge):
                return Lane.USAGE
            return Lane.LICENSE_CHARGES if event.license_id else Lane.CHARGES
        case "license_update":
            update = event.license_update
            return Lane.LICENSE_UPDATES if any(update.HasField(name) for name in ("state", "status", "binding")) else None
        case "license_registration":
            return Lane.REGISTRATIONS
        case _:
            return None


def core_id(event: events_pb2.Event) -> str:
    """Under which Core knows the event's job or license."""
    return event.license_core_id or event.license_id or event.job_id


def license_update_of(event: events_pb2.Event) -> license_pb2.LicenseUpdate:
    """The update with the time that Core wants to fill in: null is an error to today's Core (facts today §9)."""
    update = license_pb2.LicenseUpdate()
    update.CopyFrom(event.license_update)
    update.timestamp = 0
    return update


def update_of(event: events_pb2.Event, generation: Generation) -> job_pb2.JobUpdate | None:
    """The update without what Core of this generation does not know; None = it says nothing then."""
    update = event.job_update
    if generation == "2021" and (update.HasField("new_time_allocation") or update.state == job_pb2.JOB_STATE_SUSPENDED):
        known = job_pb2.JobUpdate()
        known.CopyFrom(update)
        known.ClearField("new_time_allocation")
        if known.state == job_pb2.JOB_STATE_SUSPENDED:
            # The conditions are those of the change of state; the words stay.
            for name in ("state", "expected_state", "expected_different_state"):
                known.ClearField(name)
        update = known
    says = any(update.HasField(name) for name in ("state", "output_folder", "status", "new_time_allocation"))
    return update if says else None


def periods_of(event: events_pb2.Event, generation: Generation) -> control_pb2.ResourceChargeCredits:
    """An item of `chargeCredits`."""
    charge = event.charge
    return control_pb2.ResourceChargeCredits(
        id=core_id(event),
        charge_id=charge.charge_id,
        units=charge.units,
        number_of_products=charge.number_of_products,
        description=charge.description or None,
        # Today's Core bills periods times the job's replicas and reads neither units nor products (facts today §9).
        periods=charge.units if generation == "2026" else None,
    )


def usage_of(event: events_pb2.Event) -> control_pb2.UsageReport:
    """An item of `reportUsage`."""
    charge = event.charge
    owner = control_pb2.WalletOwner()
    if charge.owner.project:
        owner.project.project_id = charge.owner.project
    else:
        owner.user.username = charge.owner.created_by
    return control_pb2.UsageReport(
        owner=owner,
        category_id_v2=resources_pb2.ProductCategoryId(name=charge.product.category, provider=charge.product.provider),
        usage=charge.total_usage,
        # Scopes are per owner, over all categories (facts today §9): the kind and Core's id are unique among them.
        description=control_pb2.UsageDescription(scope=f"{'license' if event.license_id else 'job'}-{core_id(event)}"),
    )


def _has_total(charge: events_pb2.Charge) -> bool:
    return charge.HasField("owner") and charge.HasField("product")
