"""`serai licenses`: the operator's side of licenses, over gRPC with a running server."""

from __future__ import annotations

import click

from serai_server.cli import license_lists, license_maintenance, license_payment, license_server


@click.group()
def command() -> None:
    """Licenses of users, license servers, their keys and seats, and maintenance.

    What is sold stands in the settings ([[licenses.products]]); servers, keys and seats are set here, while the server runs.

    \b
    serai licenses server add solver --address lic1.example.org --product licenses/solver --feature solver=5
    serai licenses server list
    serai licenses list --product licenses/solver
    serai licenses maintenance add licenses/solver --starts +1d --ends +2h --availability NO_SERVICE "New machine"
    """


command.add_command(license_lists.list_licenses)
command.add_command(license_lists.show_license)
command.add_command(license_payment.payment)
command.add_command(license_payment.register)
command.add_command(license_server.group)
command.add_command(license_maintenance.group)
