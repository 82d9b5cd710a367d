"""`serai licenses maintenance`: windows that users of licenses are told of."""

from __future__ import annotations

import time
from pathlib import Path

import click
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import Maintenance
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub

from serai_server.cli import license_output, output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.license_words import product_of, provider_option, time_of
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_TIME = "ISO 8601 with its distance from UTC, now, or a span like +2h, +1d12h"


@click.group("maintenance")
def group() -> None:
    """Windows in which a product can be used less, or not at all."""


@group.command()
@click.argument("product", metavar="CATEGORY/ID")
@click.argument("description")
@click.option("--starts", default="now", show_default=True, metavar="TIME", help=f"{_TIME}.")
@click.option("--ends", default="", metavar="TIME", help="As --starts; a span counts from the start. Left out = not known.")
@click.option(
    "--availability",
    required=True,
    type=click.Choice(license_output.availabilities(), case_sensitive=False),
    metavar="|".join(license_output.availabilities()),
    help="What is left of it; in NO_SERVICE licenses are UNAVAILABLE.",
)
@provider_option
@json_option
@config_option
@socket_option
def add(
    *,
    product: str,
    description: str,
    starts: str,
    ends: str,
    availability: str,
    provider: str,
    as_json: bool,
    config: Path,
    socket: Path | None,
) -> None:
    """Plan a window for a product. UCloud shows it to users; DESCRIPTION is what they read.

    \b
    serai licenses maintenance add licenses/solver --starts 2026-12-24T18:00+01:00 --ends +2h \\
        --availability NO_SERVICE "The license server moves to a new machine"
    serai licenses maintenance add licenses/solver --availability MINOR_DISRUPTION "Slow answers; the vendor has been told"
    """
    now_ms = time.time_ns() // 1_000_000
    starts_at = time_of("--starts", starts, now_ms)
    planned = Maintenance(
        description=description, availability=license_output.availability_number(availability.upper()), starts_at=starts_at
    )
    if ends:
        planned.estimated_ends_at = time_of("--ends", ends, now_ms, starts_at)
        if planned.estimated_ends_at <= starts_at:
            raise CliError(f"--ends {ends!r}: the window must end after its start, --starts {starts!r}", Exit.USAGE)
        if planned.estimated_ends_at <= now_ms:
            raise CliError(f"--ends {ends!r}: the window is over already", Exit.USAGE)
    request = pb.AddMaintenanceRequest(product=product_of(product, provider, config), maintenance=planned)
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        window = service.AddMaintenance(request, timeout=CALL_S).window
        windows = service.ListMaintenance(pb.ListMaintenanceRequest(), timeout=CALL_S).windows
    if as_json:
        output.print_json(license_output.window_json(window))
    else:
        console = output.console()
        console.print(license_output.windows_table([window], output.room(console)))
    if others := [other.id for other in windows if other.id != window.id and _overlap(other, window)]:
        many = "s are" if len(others) > 1 else " is"
        words = f"window{many} open at the same time for this product: {', '.join(others)}; the worst of those that are open counts"
        click.echo(f"serai: {words}", err=True)


def _overlap(one: pb.MaintenanceWindow, other: pb.MaintenanceWindow) -> bool:
    def ends(window: pb.MaintenanceWindow) -> float:
        return window.maintenance.estimated_ends_at if window.maintenance.HasField("estimated_ends_at") else float("inf")

    if one.product != other.product:
        return False
    return one.maintenance.starts_at < ends(other) and other.maintenance.starts_at < ends(one)


@group.command("list")
@json_option
@config_option
@socket_option
def list_windows(*, as_json: bool, config: Path, socket: Path | None) -> None:
    """Windows that are open or to come, by their start.

    \b
    serai licenses maintenance list
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        windows = service.ListMaintenance(pb.ListMaintenanceRequest(), timeout=CALL_S).windows
    if as_json:
        output.print_json({"windows": [license_output.window_json(w) for w in windows]})
    elif windows:
        console = output.console()
        console.print(license_output.windows_table(windows, output.room(console)))
    else:
        click.echo("no maintenance is planned", err=True)


@group.command()
@click.argument("window_id", metavar="WINDOW")
@json_option
@config_option
@socket_option
def remove(window_id: str, *, as_json: bool, config: Path, socket: Path | None) -> None:
    """End a window that is open, or drop one that is to come.

    \b
    serai licenses maintenance remove 1f0c52a9be77
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        service.RemoveMaintenance(pb.RemoveMaintenanceRequest(id=window_id), timeout=CALL_S)
    if as_json:
        output.print_json({})
    else:
        click.echo(f"maintenance window {window_id} is removed")
