"""`serai conformance`: tests any UCloud provider over the wire, and says in a table which rules it keeps."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from serai_conformance import CannotTest, Generation, Report, Result, Status, Target, run
from serai_conformance.output import STYLES, as_json, as_junit, table
from serai_conformance.tls import WrongCa, trust_in
from serai_conformance.tokens import WrongKey, generate_key, load_key, private_pem, public_pem

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.kit import write_secret

PRIVATE_KEY = "conformance-private-key.pem"
PUBLIC_KEY = "conformance-public-key.pem"
REFRESH_TOKEN = "conformance-refresh-token"  # noqa: S105 - a file's name


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter("expected HOST:PORT, as 127.0.0.1:8090")
    return host.strip("[]"), int(port)


def _url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise click.BadParameter("expected http://HOST:PORT or https://HOST:PORT, without a path")
    return value.rstrip("/")


def _limit(seconds: float) -> click.FloatRange:
    return click.FloatRange(min=seconds)


class _WithDefault(click.Group):
    """`serai conformance URL` is `serai conformance test URL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["test", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_WithDefault)
def command() -> None:
    """Test any UCloud provider over the wire: the calls and rules of UCloud's documents, and of today's Core.

    \b
    serai conformance keys                                               a key pair for a provider under test
    serai conformance http://127.0.0.1:8889 --provider example           what the provider's own answers show
    serai conformance http://127.0.0.1:8889 --provider example --core-listen 127.0.0.1:8090
                                                                         and what it tells Core
    serai conformance test --help                                        all options

    The rules, and how the table is read: docs/conformance.md.
    """


@command.command(name="test")
@click.argument("url", metavar="URL", callback=_url)
@click.option("--provider", required=True, metavar="ID", help="The provider's id, as its products name it.")
@click.option("--path", "path_name", default="", metavar="NAME", help="Its name in /ucloud/NAME/jobs, where that is not its id.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=PRIVATE_KEY,
    show_default=True,
    metavar="FILE",
    help="The private key with which the kit signs as Core; the provider has its public half.",
)
@click.option(
    "--ca",
    "ca_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="PEM of who has signed the provider's certificate, if not the system's.",
)
@click.option(
    "--generation",
    type=click.Choice([one.value for one in Generation]),
    default="2021",
    show_default=True,
    help="Which UCloud/Core the provider is made for.",
)
@click.option(
    "--core-listen",
    "listen",
    callback=_address,
    metavar="HOST:PORT",
    help="Play Core here too; the provider's Core must be set to this address. Without it, what only Core sees is not observed.",
)
@click.option("--product", default="", metavar="ID", help="The machine type to run jobs on; otherwise the first that can.")
@click.option("--license-product", default="", metavar="ID", help="The license to make; otherwise the first.")
@click.option("--image", default="debian:stable-slim", show_default=True, metavar="NAME", help="The jobs' image; it must have /bin/sh.")
@click.option("--replicas", type=click.IntRange(1, 2), default=2, show_default=True, help="Most replicas of a job.")
@click.option("--answer-within", type=_limit(0.1), default=5.0, show_default=True, metavar="S", help="Seconds that a call may take.")
@click.option(
    "--patience", type=_limit(1), default=60.0, show_default=True, metavar="S", help="Seconds to run a job, to end it, to tell Core."
)
@click.option("--at-once", type=click.IntRange(1, 32), default=4, show_default=True, help="Rules that are tried at the same time.")
@click.option("--only", multiple=True, metavar="NAME", help="Only rules whose names begin so; may be given again.")
@click.option("--verbose", is_flag=True, help="List what passed one by one, too.")
@click.option("--json", "as_document", is_flag=True, help="For programs: one JSON document on stdout.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JUnit's XML to FILE besides.")
def test(
    *,
    url: str,
    provider: str,
    path_name: str,
    key_file: Path,
    ca_file: Path | None,
    generation: str,
    listen: tuple[str, int] | None,
    product: str,
    license_product: str,
    image: str,
    replicas: int,
    answer_within: float,
    patience: float,
    at_once: int,
    only: tuple[str, ...],
    verbose: bool,
    as_document: bool,
    junit: Path | None,
) -> int:
    """Test the provider at URL, and print which rules it keeps.

    The kit is Core: it signs with --key, whose public half the provider must have, and runs short jobs, which it ends again. What only Core
    can see (states, their order, charges, folders) is judged when the provider is set up with --core-listen as the address of its Core;
    any refresh token will do.

    \b
    serai conformance http://127.0.0.1:8889 --provider example --key conformance-private-key.pem
    serai conformance http://127.0.0.1:8889 --provider example --generation 2026 --core-listen 127.0.0.1:8090
    serai conformance https://provider.example.org --provider example --only follow. --only frames. --verbose
    serai conformance https://127.0.0.1:8443 --provider example --ca ca.pem
    serai conformance http://127.0.0.1:8889 --provider example --json | jq '.rules[] | select(.status == "failed")'

    Exit codes: 0 = no rule is broken, 1 = some are, 2 = nothing could be tested: the command line is wrong, nobody answers, or the provider
    does not take the key.
    """
    try:
        key = load_key(key_file.read_bytes())
    except (WrongKey, OSError) as error:
        raise CliError(f"--key {key_file}: {error}", Exit.USAGE) from error
    trust = None if ca_file is None else _trust(ca_file, url)
    target = Target(
        url,
        provider,
        key,
        Generation(generation),
        path_name,
        product,
        license_product,
        image,
        listen,
        replicas,
        answer_within,
        patience,
        at_once,
        trust,
    )
    try:
        report = asyncio.run(_run(target, only))
    except CannotTest as error:
        raise CliError(str(error), Exit.USAGE) from error
    except KeyboardInterrupt:
        raise click.Abort from None
    if not report.results:
        raise CliError(f"no rule's name begins with {' or '.join(only)}; docs/conformance.md lists them", Exit.USAGE)
    if junit is not None:
        junit.write_text(as_junit(report), encoding="utf-8")
    _print(report, verbose=verbose, as_document=as_document)
    return Exit.OK if report.conforms else Exit.ERROR


def _trust(file: Path, url: str) -> SSLContext:
    if not url.startswith("https:"):
        raise CliError(f"--ca is for providers that are called by https://, and this is {url}", Exit.USAGE)
    try:
        return trust_in(file.read_bytes())
    except (WrongCa, OSError) as error:
        raise CliError(f"--ca {file}: {error}", Exit.USAGE) from error


async def _run(target: Target, only: tuple[str, ...]) -> Report:
    """With progress on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return await run(target, only=only)
    with console.status("asking the provider what it can do") as line:

        def told(result: Result, done: int, count: int) -> None:
            if result.status is Status.FAILED:
                console.print(f"{result.rule.name} failed", style=STYLES[result.status])
            line.update(f"{done} of {count} rules, last {result.rule.name}")

        return await run(target, only=only, progress=told)


def _print(report: Report, *, verbose: bool, as_document: bool) -> None:
    if as_document:
        click.echo(msgspec.json.format(msgspec.json.encode(as_json(report)), indent=2))
        return
    # A pipe has no width of its own: rows are not cut there.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table(report, every=verbose))


@command.command(name="keys")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True, metavar="DIR")
def keys(*, folder: Path) -> None:
    """Make a key pair for a provider under test, and a refresh token for it.

    The private half is what the kit signs with; the public half and the token go into the provider's settings. Files that are there
    already are left as they are.

    \b
    serai conformance keys --dir .conformance
    """
    private, public, refresh = folder / PRIVATE_KEY, folder / PUBLIC_KEY, folder / REFRESH_TOKEN
    found = [str(file) for file in (private, public, refresh) if file.exists()]
    if found:
        raise CliError(f"{', '.join(found)} is there already; delete it to have a new one made")
    folder.mkdir(parents=True, exist_ok=True)
    key = generate_key()
    write_secret(private, private_pem(key))
    public.write_bytes(public_pem(key))
    write_secret(refresh, b"conformance\n")
    click.echo(f"{private}  for --key, readable for its owner only")
    click.echo(f"{public}  for the provider: the key of its Core")
    click.echo(f"{refresh}  for the provider: its refresh token, as good as any other to the kit")
