"""`serai console`: a way into the console, Serai's own page, for who may use the server's socket."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import click
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai.sessions.v1.sessions_service_pb2_grpc import SessionsServiceStub
from serai_gateway.settings import GatewaySettings

from serai_server.cli import output
from serai_server.cli.client import CALL_S, service_of
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import Server, config_option, json_option, server_of, settings_or_exit, socket_option

_ADDRESS = re.compile(r"https?://[^/?#@\s]+").fullmatch


@click.command("console")
@click.option("--address", default="", metavar="URL", help="Where the gateway is reached, instead of what the settings say.")
@json_option
@config_option
@socket_option
def command(*, address: str, as_json: bool, config: Path, socket: Path | None) -> None:
    """Get the address of the console: jobs, their output, shells and desktops in a browser.

    It works once, within a minute; the browser that opened it stays in for eight hours. Give it to nobody: it opens all jobs.

    \b
    serai console
    serai console --address https://provider.example.org
    """
    server, base = _server_and_gateway(config, socket, address.rstrip("/"))
    with service_of(SessionsServiceStub, server) as service:
        opened = service.Open(pb.OpenRequest(kind=pb.SESSION_KIND_CONSOLE), timeout=CALL_S)
    where = f"{base}/console/open/{opened.secret}"
    if as_json:
        output.print_json({"address": where, "session": opened.session.id, "expires_at_ms": opened.session.expires_at_ms})
    else:
        click.echo(where)
        click.echo("open it within a minute; it works once", err=True)


def _server_and_gateway(config: Path, socket: Path | None, address: str) -> tuple[Server, str]:
    """The server and the gateway's address; the settings are read only for what was not given. Raises CliError."""
    if address and _ADDRESS(address) is None:
        raise CliError(f"--address {address!r} is not an address like https://provider.example.org", Exit.USAGE)
    server = server_of(config, socket)
    return server, address or _address(settings_or_exit(config).gateway)


def _address(gateway: GatewaySettings) -> str:
    """Where a browser on this machine finds the gateway, or one outside when the settings say where that is. Raises CliError."""
    if gateway.public_url:
        return gateway.public_url.rstrip("/")
    if not gateway.port:
        raise CliError("gateway.port is 0, so the gateway's port is not known here; name its address with --address", Exit.USAGE)
    return f"http://{_host(gateway.address)}:{gateway.port}"


def _host(host: str) -> str:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if ip.is_unspecified:
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
    return f"[{ip}]" if ip.version == 6 else str(ip)
