"""The `serai` command: finds its subcommands when they are called, and turns what they raise into words and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Never

import click
from click.core import ParameterSource

from serai_server.cli.exits import MEANINGS, CliError, Exit
from serai_server.cli.remote import Remote

_HERE = "serai_server.cli"
_COMMANDS: Mapping[str, tuple[str, str]] = {
    "serve": (f"{_HERE}.serve", "Run the server and the gateway."),
    "up": (f"{_HERE}.up", "Run the server, the gateway and Envoy."),
    "jobs": (f"{_HERE}.jobs", "Look at jobs and into them, stop them, give them more time, suspend them."),
    "sessions": (f"{_HERE}.sessions", "See who is at running jobs, and end that."),
    "console": (f"{_HERE}.console", "Get the address of the console, Serai's own page."),
    "events": (f"{_HERE}.events", "See who reads the log of events; give or drop them."),
    "tokens": (f"{_HERE}.tokens", "Let tools in: make tokens, see them, take them back."),
    "licenses": (f"{_HERE}.licenses", "Licenses of users, license servers, keys and seats, maintenance."),
    "register": (f"{_HERE}.register", "Make the provider known to UCloud/Core."),
    "products": (f"{_HERE}.products", "Tell Core what is sold, and see what it knows of it."),
    "config": (f"{_HERE}.config_command", "Check settings, or get an example to begin with."),
    "envoy": (f"{_HERE}.envoy", "Make and check the front door's configuration."),
    "nomad": (f"{_HERE}.nomad", "See what is given to Nomad."),
    "doctor": (f"{_HERE}.doctor", "Try what this machine needs to run jobs."),
    "demo": (f"{_HERE}.demo", "Watch a job from Core's request to its bill, with everything embedded."),
    "conformance": (f"{_HERE}.conformance", "Test any UCloud provider over the wire."),
    "devcore": (f"{_HERE}.devcore", "Run a stand-in for UCloud/Core to develop against."),
}
"""Name → (module that has `command`, what the list of commands says of it)."""


_FILE = click.Path(dir_okay=False, path_type=Path)


class _ReaderGone(Exception):
    """Wraps a BrokenPipeError, which click would turn into exit code 1 on its way out."""


class _Lazy(click.Group):
    """Imports a subcommand's module when it is called: `serai jobs` need not load a web server to print a table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name, _ = _COMMANDS[cmd_name]
        try:
            found: object = importlib.import_module(name).command
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise CliError(f"`serai {cmd_name}` is not part of this installation") from error
        assert isinstance(found, click.Command)  # noqa: S101 - our own modules
        return found

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), words) for code, words in MEANINGS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="serai", prog_name="serai")
@click.option(
    "--server",
    default="",
    envvar="SERAI_SERVER",
    show_envvar=True,
    metavar="ADDRESS",
    help="Talk to a server's tools' door: host:port (TLS), http://host:port on loopback, or unix:PATH.",
)
@click.option("--token-file", type=_FILE, envvar="SERAI_TOKEN_FILE", show_envvar=True, metavar="FILE", help="File with a token for it.")
@click.option("--ca", type=_FILE, envvar="SERAI_CA", show_envvar=True, metavar="FILE", help="PEM of who signs for it, if not the system's.")
@click.option("--cert", type=_FILE, metavar="FILE", help="PEM of a client certificate for it.")
@click.option("--key", type=_FILE, metavar="FILE", help="PEM of that certificate's key.")
@click.pass_context
def cli(context: click.Context, *, server: str, token_file: Path | None, ca: Path | None, cert: Path | None, key: Path | None) -> None:
    """Serai: a UCloud compute provider.

    \b
    serai demo                        see it work, in under a minute
    serai config example > serai.toml begin with settings of your own
    serai serve                       run the provider
    serai jobs list --active          what it is doing
    serai jobs logs 4711 -f           what a job writes, as it writes it
    serai --server provider.example.org:443 --token-file ci.token jobs list
    """
    if server:
        typed = context.get_parameter_source("server") is ParameterSource.COMMANDLINE
        context.obj = Remote(server, token_file, ca, cert, key, typed=typed)


def main() -> Never:
    """Entry of the `serai` script. Ends the process with a code of the table in exits.py."""
    # Whom we fork becomes another program at once. gRPC would get ready for each fork all the same, and write that it could not.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The command's exit code; never raises but for errors of the program itself."""
    try:
        code: object = cli.main(args=arguments, prog_name="serai", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("serai: interrupted", err=True)
        return Exit.INTERRUPTED
    except (BrokenPipeError, _ReaderGone):
        # Python would try to write the rest at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.READER_GONE
    return code if isinstance(code, int) else Exit.OK
