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
UNPAID = "The license cannot be used: there are not enough credits to pay for it. Add some; it is tried again every hour."
UNKNOWN_AT_CORE = "UCloud does not know this license; it is gone here too."
DELETED = "The license was deleted at its provider."
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


def refused_by_core(why: str) -> str:
    return f"UCloud did not take this license on ({why}); it can be used only where UCloud is not asked."


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
