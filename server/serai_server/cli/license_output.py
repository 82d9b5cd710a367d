"""License servers and maintenance windows as people and programs see them. No message that comes here has a key."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import MaintenanceAvailability

from serai_server.cli.output import Json, clean, fitted, product_json, product_name, when

DEFAULT_PORT = 27000
_STATE = "LICENSE_SERVER_STATE_"
_AVAILABILITY = "MAINTENANCE_AVAILABILITY_"
_COLOURS = {"UP": "green", "DOWN": "red", "UNKNOWN": "yellow", "NO_SERVICE": "red", "MAJOR_DISRUPTION": "yellow"}


def availabilities() -> tuple[str, ...]:
    return tuple(v.name.removeprefix(_AVAILABILITY) for v in MaintenanceAvailability.DESCRIPTOR.values if v.number)


def availability_number(name: str) -> MaintenanceAvailability.ValueType:
    return MaintenanceAvailability.Value(_AVAILABILITY + name)


def server_json(report: pb.LicenseServerReport) -> Json:
    server = report.server
    return {
        "name": server.name,
        "product": product_json(server.product),
        "addresses": [{"host": a.host, "port": a.port or DEFAULT_PORT} for a in server.addresses],
        "vendor_port": server.vendor_port or None,
        "seats_per": _per(server),
        "has_key": report.has_key,
        "state": _state(report),
        "words": report.words,
        "probed_at_ms": report.probed_at_ms or None,
        "observed_at_ms": report.observed_at_ms or None,
        "seats": [
            {
                "feature": s.feature,
                "seats": s.seats,
                "held": s.held,
                "observed_used": s.observed_used if s.HasField("observed_used") else None,
                "observed_total": s.observed_total if s.HasField("observed_total") else None,
            }
            for s in report.seats
        ],
        "waiting_jobs": report.waiting_jobs,
        "licenses": report.licenses,
    }


def window_json(window: pb.MaintenanceWindow) -> Json:
    planned = window.maintenance
    return {
        "id": window.id,
        "product": product_json(window.product),
        "availability": _availability(window),
        "starts_at_ms": planned.starts_at,
        "estimated_ends_at_ms": planned.estimated_ends_at if planned.HasField("estimated_ends_at") else None,
        "description": planned.description,
    }


def servers_table(reports: Sequence[pb.LicenseServerReport], room: int | None) -> Table:
    """A line for each; in a narrow `room` without its less telling columns."""
    headings = ("SERVER", "STATE", "PRODUCT", "ADDRESS", "HELD", "WAITING", "KEY", "WORDS")
    rows = [
        (
            Text(clean(report.server.name)),
            _coloured(_state(report)),
            Text(clean(f"{report.server.product.category}/{report.server.product.id}")),
            Text(clean(_addresses(report.server))),
            Text(_held(report)),
            Text(str(report.waiting_jobs)),
            Text("yes" if report.has_key else "none"),
            Text(clean(report.words)),
        )
        for report in reports
    ]
    return fitted(headings, rows, ("ADDRESS", "KEY", "WAITING", "PRODUCT"), room)


def server_card(report: pb.LicenseServerReport) -> Table:
    """All of one server but its seats and its key, a line for each thing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    server = report.server
    lines: list[tuple[str, str | Text]] = [
        ("server", clean(server.name)),
        ("state", _coloured(_state(report))),
        ("words", clean(report.words)),
        ("product", clean(product_name(server.product))),
        ("address", clean(_addresses(server))),
        ("vendor's port", str(server.vendor_port) if server.vendor_port else ""),
        ("key", "yes, sealed" if report.has_key else "none"),
        ("seats", f"one for each {_per(server)}" if server.features else "not counted"),
        ("looked at", when(report.probed_at_ms)),
        ("asked for seats", when(report.observed_at_ms) if report.is_asked else "not asked (licenses.lmutil is not set)"),
        ("jobs that wait", str(report.waiting_jobs)),
        ("licenses", str(report.licenses)),
    ]
    for heading, value in lines:
        if value:
            table.add_row(heading, value)
    return table


def seats_table(seats: Sequence[pb.SeatsReport], room: int | None) -> Table:
    headings = ("FEATURE", "SEATS", "HELD BY JOBS", "IN USE", "AT THE SERVER")
    rows = [
        (
            Text(clean(s.feature)),
            Text(str(s.seats)),
            Text(str(s.held)),
            Text(str(s.observed_used) if s.HasField("observed_used") else "not told"),
            Text(str(s.observed_total) if s.HasField("observed_total") else "not told"),
        )
        for s in seats
    ]
    return fitted(headings, rows, (), room)


def windows_table(windows: Sequence[pb.MaintenanceWindow], room: int | None) -> Table:
    headings = ("WINDOW", "AVAILABILITY", "PRODUCT", "STARTS", "ENDS", "DESCRIPTION")
    rows = [
        (
            Text(clean(window.id)),
            _coloured(_availability(window)),
            Text(clean(f"{window.product.category}/{window.product.id}")),
            Text(when(window.maintenance.starts_at)),
            Text(when(window.maintenance.estimated_ends_at) or "not known"),
            Text(clean(window.maintenance.description)),
        )
        for window in windows
    ]
    return fitted(headings, rows, ("ENDS",), room)


def _per(server: pb.LicenseServer) -> str:
    return "replica" if server.seats_per == pb.SEATS_PER_REPLICA else "job"


def _state(report: pb.LicenseServerReport) -> str:
    return pb.LicenseServerState.Name(report.state).removeprefix(_STATE)


def _availability(window: pb.MaintenanceWindow) -> str:
    return MaintenanceAvailability.Name(window.maintenance.availability).removeprefix(_AVAILABILITY)


def _coloured(name: str) -> Text:
    return Text(name, style=_COLOURS.get(name, ""))


def _addresses(server: pb.LicenseServer) -> str:
    return ",".join(f"{a.port or DEFAULT_PORT}@{a.host}" for a in server.addresses)


def _held(report: pb.LicenseServerReport) -> str:
    scarcest = min(report.seats, key=lambda seats: seats.seats, default=None)
    return f"{scarcest.held} of {scarcest.seats}" if scarcest is not None else "not counted"
