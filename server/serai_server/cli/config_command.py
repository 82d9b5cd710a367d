"""`serai config`: look at a settings file before a server depends on it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from serai_server.cli.options import config_option, settings_or_exit


@click.group()
def command() -> None:
    """Check settings, or get an example to begin with."""


@command.command()
@config_option
def check(config: Path) -> None:
    """Read the settings as the server would, and say what is wrong with them.

    \b
    serai config check
    serai config check --config /etc/serai/serai.toml
    """
    settings = settings_or_exit(config)
    names = ", ".join(product.id for product in settings.products)
    click.echo(f"{config} is right: provider {settings.provider.id} sells {names} to Core at {settings.core.url}")
    for what, name in (
        ("core.public_key_file", settings.core.public_key_file),
        ("core.refresh_token_file", settings.core.refresh_token_file),
    ):
        if not Path(name).is_file():
            click.echo(f"note: {what}: there is no {name} yet; the gateway needs it", err=True)


@command.command()
def example() -> None:
    """A settings file with every setting, its default and what it is for.

    \b
    serai config example > serai.toml
    """
    click.echo(example_text(), nl=False)


def example_text() -> str:
    return resources.files("serai_server.cli").joinpath("example.toml").read_text(encoding="utf-8")
