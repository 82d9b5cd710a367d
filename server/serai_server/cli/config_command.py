"""`serai config`: look at a settings file before a server depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click
from serai_gateway.auth import KeyFileError, parse_public_key

from serai_server.cli.config import Settings
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
    lacking = list(_lacking(settings))
    but = ", but the gateway could not do its work now" if lacking else ""
    click.echo(f"{config} is right{but}: provider {settings.provider.id} sells {names} to Core at {settings.core.url}")
    for words in lacking:
        click.echo(f"note: {words}", err=True)


def _lacking(settings: Settings) -> Iterator[str]:
    """What is right in the file and not there yet, or not usable, beside it."""
    key, token = Path(settings.core.public_key_file), Path(settings.core.refresh_token_file)
    if not key.is_file():
        yield f"core.public_key_file: there is no {key} yet; `serai register` gets it, and `serai serve` does not start without it"
    else:
        try:
            parse_public_key(key.read_bytes())
        except (OSError, KeyFileError) as error:
            yield f"core.public_key_file {key}: {error}; `serai serve` does not start with it"
    if not token.is_file():
        yield f"core.refresh_token_file: there is no {token} yet; `serai register` gets it, and Core is told nothing without it"


@command.command()
def example() -> None:
    """A settings file with every setting, its default and what it is for.

    \b
    serai config example > serai.toml
    """
    click.echo(example_text(), nl=False)


def example_text() -> str:
    return resources.files("serai_server.cli").joinpath("example.toml").read_text(encoding="utf-8")
