"""Options that several commands share, and how they lead to settings and socket."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from serai_server.cli.config import DEFAULT_FILE, ENVIRONMENT, ConfigError, Settings, load
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.remote import Remote

Server = Path | Remote
"""The server's own socket, or its tools' door somewhere else."""

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=ENVIRONMENT,
    default=DEFAULT_FILE,
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The settings file.",
)
socket_option = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="SERAI_SOCKET",
    show_envvar=True,
    metavar="PATH",
    help="The server's Unix socket, instead of the one that the settings name.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document on stdout.")


def settings_or_exit(file: Path) -> Settings:
    """Raises CliError (USAGE) when there is no file, or with a line for each problem of it."""
    if not file.exists():
        raise _no_file(file, "")
    try:
        return load(file)
    except ConfigError as error:
        raise CliError(f"{error.file} is not right:\n" + "\n".join(f"  {p}" for p in error.problems), Exit.USAGE) from error


def server_of(config: Path, given: Path | None) -> Server:
    """The server to talk to: one that was named, by address (`serai --server`) or by socket, or else that of the settings, which are
    read only then. What was typed comes before the environment. Raises CliError."""
    context = click.get_current_context()
    remote = context.find_object(Remote)
    if remote is not None and given is not None:
        typed = context.get_parameter_source("socket") is ParameterSource.COMMANDLINE
        if typed and remote.typed:
            raise CliError("--server and --socket name two servers; leave one of them out", Exit.USAGE)
        return given if typed else remote
    if (named := remote or given) is not None:
        return named
    if not config.exists():
        raise _no_file(config, ", or a server with --socket or `serai --server`")
    return settings_or_exit(config).socket


def _no_file(file: Path, other: str) -> CliError:
    here = "" if file.is_absolute() else " here"
    make = f"`serai config example > {DEFAULT_FILE}` makes one"
    return CliError(f"there is no {file}{here}; name the settings with --config{other}; {make}", Exit.USAGE)
