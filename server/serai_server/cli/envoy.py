"""`serai envoy`: the front door's configuration from the settings."""

from __future__ import annotations

from pathlib import Path

import click
from serai_gateway.envoy.render import CannotRender
from serai_gateway.envoy.render import render as rendered

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, settings_or_exit


@click.group()
def command() -> None:
    """Make the configuration of Envoy, which stands in front of the gateway."""


@command.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write there; without it to stdout.")
@config_option
def render(output: Path | None, config: Path) -> None:
    """Write Envoy's configuration for these settings: [gateway], [gateway.web] and [gateway.envoy].

    There are no secrets in it. Try it before it is used: `envoy --mode validate -c FILE`, as the user that Envoy runs as.

    \b
    serai envoy render -o /etc/serai/envoy.yaml
    """
    try:
        text = rendered(settings_or_exit(config).for_gateway())
    except CannotRender as error:
        raise CliError("\n".join(f"{config}: {problem}" for problem in error.problems), Exit.USAGE) from error
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot write {output}: {error.strerror}") from error
