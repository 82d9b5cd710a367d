"""`serai licenses server`: license servers, their keys and their seats."""

from __future__ import annotations

from pathlib import Path

import click
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub

from serai_server.cli import license_output, output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.license_words import addresses_option, feature_option, key_of, key_options, product_of, provider_option
from serai_server.cli.options import config_option, json_option, server_of, socket_option

_PROBE_S = 100.0
"""A look and a question to lmutil, both at their slowest."""


@click.group("server")
def group() -> None:
    """License servers, their keys and their seats."""


@group.command()
@click.argument("name")
@addresses_option
@click.option("--product", required=True, metavar="CATEGORY/ID", help="The product of the settings whose licenses it serves.")
@provider_option
@click.option(
    "--vendor-port", default=0, type=click.IntRange(0, 65_535), help="The second port, of the vendor's daemon; it must answer too."
)
@feature_option
@click.option("--per-replica", is_flag=True, help="A job takes a seat for each of its replicas, not one in all.")
@key_options
@json_option
@config_option
@socket_option
def add(
    *,
    name: str,
    addresses: tuple[pb.LicenseServerAddress, ...],
    product: str,
    provider: str,
    vendor_port: int,
    features: tuple[pb.LicenseFeature, ...],
    per_replica: bool,
    key_file: Path | None,
    key_stdin: bool,
    ask_key: bool,
    as_json: bool,
    config: Path,
    socket: Path | None,
) -> None:
    """Make a license server known. The port is 27000 unless another is given; without a feature seats are not counted.

    The vendor's key, where there is one, never stands on the command line. A key of one line is taken without its line end, the text of a
    license file as it is.

    \b
    serai licenses server add solver --address lic1.example.org --product licenses/solver --feature solver=5
    serai licenses server add mesher --address lic1:27001 --address lic2:27001 --address lic3:27001 \\
        --product licenses/mesher --vendor-port 27011 --feature mesher=20 --per-replica --key-file mesher.lic
    vault read -field=key acme | serai licenses server add viewer --address lic4 --product licenses/viewer --key-stdin
    """
    server = pb.LicenseServer(
        name=name,
        addresses=addresses,
        vendor_port=vendor_port,
        features=features,
        seats_per=pb.SEATS_PER_REPLICA if per_replica else pb.SEATS_PER_JOB,
        product=product_of(product, provider, config),
    )
    key = key_of(key_file, from_stdin=key_stdin, ask=ask_key)
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        _show(service.Add(pb.AddRequest(server=server, key=key.content), timeout=CALL_S).server, as_json=as_json)
    key.taken()


@group.command("list")
@json_option
@config_option
@socket_option
def list_servers(*, as_json: bool, config: Path, socket: Path | None) -> None:
    """License servers by name: how they stand, their seats, and jobs that wait.

    \b
    serai licenses server list
    serai licenses server list --json | jq '.servers[] | select(.state == "DOWN") | .name'
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        reports = service.List(pb.ListRequest(), timeout=CALL_S).servers
    if as_json:
        output.print_json({"servers": [license_output.server_json(r) for r in reports]})
    elif reports:
        console = output.console()
        console.print(license_output.servers_table(reports, output.room(console)))
    else:
        click.echo("no license servers", err=True)


@group.command()
@click.argument("name")
@json_option
@config_option
@socket_option
def show(name: str, *, as_json: bool, config: Path, socket: Path | None) -> None:
    """All of a license server but its key.

    \b
    serai licenses server show solver
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        _show(service.Get(pb.GetRequest(name=name), timeout=CALL_S).server, as_json=as_json)


@group.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while jobs hold its seats; they go on.")
@json_option
@config_option
@socket_option
def remove(name: str, *, force: bool, as_json: bool, config: Path, socket: Path | None) -> None:
    """Remove a license server and its key. Licenses of its product become UNAVAILABLE.

    \b
    serai licenses server remove solver
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        service.Remove(pb.RemoveRequest(name=name, force=force), timeout=CALL_S)
    _done(f"license server {name} is removed", as_json=as_json)


@group.command()
@click.argument("name")
@json_option
@config_option
@socket_option
def probe(name: str, *, as_json: bool, config: Path, socket: Path | None) -> None:
    """Look at a license server now, and ask it for the seats in use unless it was asked less than a minute ago.

    \b
    serai licenses server probe solver
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        _show(service.Probe(pb.ProbeRequest(name=name), timeout=_PROBE_S).server, as_json=as_json)


@group.command("set-key")
@click.argument("name")
@key_options
@click.option("--no-key", is_flag=True, help="Take the key away: none is needed.")
@json_option
@config_option
@socket_option
def set_key(
    *,
    name: str,
    key_file: Path | None,
    key_stdin: bool,
    ask_key: bool,
    no_key: bool,
    as_json: bool,
    config: Path,
    socket: Path | None,
) -> None:
    """Replace the vendor's key, for jobs that start from now on.

    \b
    serai licenses server set-key solver --key-file solver.lic
    serai licenses server set-key solver --ask-key
    """
    key = key_of(key_file, from_stdin=key_stdin, ask=ask_key, none=no_key)
    if not key.content and not no_key:
        raise CliError("one of --key-file, --key-stdin, --ask-key and --no-key is needed", Exit.USAGE)
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        service.SetKey(pb.SetKeyRequest(name=name, key=key.content), timeout=CALL_S)
    _done(f"license server {name} has {'no key now' if no_key else 'its new key'}", as_json=as_json)
    key.taken()


@group.command("set-seats")
@click.argument("name")
@feature_option
@click.option("--not-counted", is_flag=True, help="Do not count seats.")
@json_option
@config_option
@socket_option
def set_seats(
    *, name: str, features: tuple[pb.LicenseFeature, ...], not_counted: bool, as_json: bool, config: Path, socket: Path | None
) -> None:
    """Replace all features and seats. Fewer seats than jobs hold end no job.

    \b
    serai licenses server set-seats solver --feature solver=8 --feature mesher=2
    """
    if bool(features) is not_counted:
        words = (
            "--feature and --not-counted: only one of them"
            if not_counted
            else "--feature for each feature that is counted, or --not-counted"
        )
        raise CliError(words, Exit.USAGE)
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        _show(service.SetSeats(pb.SetSeatsRequest(name=name, features=features), timeout=CALL_S).server, as_json=as_json)


@group.command("set-address")
@click.argument("name")
@addresses_option
@click.option("--vendor-port", type=click.IntRange(0, 65_535), help="The vendor's port, 0 = none; left out = as it was.")
@json_option
@config_option
@socket_option
def set_address(
    *,
    name: str,
    addresses: tuple[pb.LicenseServerAddress, ...],
    vendor_port: int | None,
    as_json: bool,
    config: Path,
    socket: Path | None,
) -> None:
    """Say where a license server is now. Its key and seats stay; jobs that run keep the address that they were told.

    \b
    serai licenses server set-address solver --address lic2.example.org
    serai licenses server set-address solver --address lic2:27001 --vendor-port 27011
    """
    request = pb.SetAddressesRequest(name=name, addresses=addresses, vendor_port=vendor_port)
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        _show(service.SetAddresses(request, timeout=CALL_S).server, as_json=as_json)


@group.command("rotate-key")
@json_option
@config_option
@socket_option
def rotate_key(*, as_json: bool, config: Path, socket: Path | None) -> None:
    """Make a new encryption key and seal every vendor's key with it. Copies of the key file are worth nothing afterwards: make new ones.

    \b
    serai licenses server rotate-key
    """
    with service_of(LicenseServersServiceStub, server_of(config, socket)) as service:
        count = service.RotateKey(pb.RotateKeyRequest(), timeout=CALL_S).resealed
    if as_json:
        output.print_json({"resealed": count})
    else:
        click.echo(f"{count} key{'' if count == 1 else 's'} sealed anew; keep a new copy of the key file, apart from copies of the store")


def _show(report: pb.LicenseServerReport, *, as_json: bool) -> None:
    if as_json:
        output.print_json(license_output.server_json(report))
        return
    console = output.console()
    console.print(license_output.server_card(report))
    if report.seats:
        console.print()
        console.print(license_output.seats_table(report.seats, output.room(console)))


def _done(words: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({})
    else:
        click.echo(words)
