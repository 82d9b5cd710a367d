"""What users are told of licenses, in one place, so that it stays alike. No address, key or name of a server is ever in it."""

from __future__ import annotations

from datetime import UTC, datetime

from serai.licenses.v1.license_pb2 import (
    MAINTENANCE_AVAILABILITY_MAJOR_DISRUPTION,
    MAINTENANCE_AVAILABILITY_NO_SERVICE,
    Maintenance,
)

PREPARING = "The license is being prepared: its license server has not answered yet."
READY = "The license is ready for use."
NO_SERVER = "The license cannot be used: the provider has taken its license server away."
NOT_SOLD = "The license cannot be used: the provider does not sell it any more."
UNPAID = "The license cannot be used: there were not enough credits to pay for it."
TAKEN_FOR_PAID = "The license is paid for, says the provider."
UNKNOWN_AT_CORE = "The license cannot be used: UCloud says that it does not know it. It comes back when UCloud names it again."
DELETED = "The license was deleted at its provider."
MAYBE_PAID = "UCloud had this license before it was known here; whether it is paid for is not sure."
DELETED_AT_CORE = "The license was deleted at UCloud."
KEY_NOT_READ = "waiting for the key of its license, which the provider cannot read now"
"""Of a job; the why is for the operator alone."""
KEY_NO_ARGUMENT = "The job could not be started: the key of its license cannot stand on a command line, as the provider has set it up."
REGISTERED = "The license is known to UCloud now."


def down(why: str) -> str:
    """`why` = what the server's users may know of it; empty = nothing."""
    return f"The license cannot be used now: {why or 'its license server does not answer'}. It is tried again and again."


def maintained(window: Maintenance) -> str:
    """While a window is open."""
    until = f" until about {_time(window.estimated_ends_at)}" if window.HasField("estimated_ends_at") else ""
    if window.availability == MAINTENANCE_AVAILABILITY_NO_SERVICE:
        return f"The license cannot be used{until}: its license server is being maintained. {window.description}"
    kind = "major" if window.availability == MAINTENANCE_AVAILABILITY_MAJOR_DISRUPTION else "minor"
    return f"The license is ready for use, with {kind} disruptions{until}: its license server is being maintained. {window.description}"


def unpaid(*, again: bool) -> str:
    """`again`: nobody need be asked for it to be tried again."""
    if again:
        return f"{UNPAID} Add some; it is tried again every hour."
    return f"{UNPAID} Add some, then ask the provider to try it again."


def asked_to_pay(charge_id: str) -> str:
    return f"UCloud is asked to charge the license ({charge_id})."


def paid(charge_id: str) -> str:
    return f"The license is paid for ({charge_id})."


def not_paid(charge_id: str) -> str:
    return f"UCloud said that there are not enough credits for the license ({charge_id})."


def unsure(charge_id: str, why: str) -> str:
    return f"Whether the license is paid for ({charge_id}) is not sure: {why or 'UCloud refused the charge'}."


def refused_by_core(why: str) -> str:
    return f"UCloud did not take this license on ({why}); it can be used only where UCloud is not asked."


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
