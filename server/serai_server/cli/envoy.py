"""`serai envoy`: the front door's configuration from the settings."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
from serai_gateway.envoy.certificates import certificate_problems
from serai_gateway.envoy.process import EnvoyError, find
from serai_gateway.envoy.render import CannotRender, write
from serai_gateway.envoy.render import render as rendered

from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, settings_or_exit
from serai_server.socket_path import too_long

CONFIG = "envoy.yaml"


@click.group()
def command() -> None:
    """Make and check the configuration of Envoy, which stands in front of the gateway."""


@command.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write there; without it to stdout.")
@config_option
def render(output: Path | None, config: Path) -> None:
    """Write Envoy's configuration for these settings: [gateway], [gateway.web], [gateway.envoy] and Core's public key.

    There are no secrets in it. Beside FILE stand the files that it names: FILE's name with .binpb, .jwt.json and .strangers.json, and
    with .api.json and .apps.json where there are certificates. On stdout it is to be looked at.

    Envoy reads FILE's .jwt.json, which has the public keys, again when it is written anew: after a change of a key this command is all.

    \b
    serai envoy render -o /etc/serai/envoy/envoy.yaml
    """
    files = rendered_or_exit(settings_or_exit(config), config, output or Path(CONFIG))
    if output is None:
        click.echo(list(files.values())[-1], nl=False)
        return
    write_or_exit(files)


@command.command()
@config_option
def check(config: Path) -> None:
    """Have Envoy itself check the configuration for these settings, certificates and keys included; nothing is started.

    Run it as the user that Envoy runs as, because it reads what Envoy would read.

    \b
    serai envoy check --config /etc/serai/serai.toml
    """
    settings = settings_or_exit(config)
    program = program_or_exit(settings)
    check_certificates(settings, config)
    with tempfile.TemporaryDirectory(prefix="serai-") as folder:
        file = Path(folder) / CONFIG
        write_or_exit(rendered_or_exit(settings, config, file))
        command_line = [program, "--mode", "validate", "--log-level", "error", "-c", str(file)]
        checked = subprocess.run(command_line, capture_output=True, text=True, check=False)  # noqa: S603 - the operator's own Envoy
    if checked.returncode != 0:
        raise CliError(f"Envoy does not take the configuration for {config}:\n{checked.stdout}{checked.stderr}".rstrip())
    click.echo(f"Envoy takes the configuration for {config}")


def rendered_or_exit(settings: Settings, config: Path, file: Path) -> Mapping[Path, bytes]:
    """Contents by path. CliError (USAGE) with a line for each problem."""
    # The settings were looked at before; these come from `serai up` or are of no concern without an Envoy.
    gateway = settings.gateway
    if problems := too_long({"gateway.socket": gateway.socket, "gateway.envoy.admin_socket": gateway.envoy.admin_socket}):
        raise CliError("\n".join(f"{config}: {problem}" for problem in problems), Exit.USAGE)
    try:
        return rendered(settings.for_gateway(), file)
    except CannotRender as error:
        raise CliError("\n".join(f"{config}: {problem}" for problem in error.problems), Exit.USAGE) from error


def check_certificates(settings: Settings, config: Path) -> None:
    """CliError (USAGE) with a line for each problem."""
    if problems := certificate_problems(settings.gateway):
        raise CliError("\n".join(f"{config}: {problem}" for problem in problems), Exit.USAGE)


def write_or_exit(files: Mapping[Path, bytes]) -> None:
    try:
        write(files)
    except OSError as error:
        raise CliError(f"cannot write {list(files)[-1]}: {error.strerror}") from error


def program_or_exit(settings: Settings) -> str:
    try:
        return find(settings.gateway.envoy.program)
    except EnvoyError as error:
        raise CliError(str(error)) from error
