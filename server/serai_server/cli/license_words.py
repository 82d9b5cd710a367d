"""What people write on the command line about licenses, as the server takes it: products, addresses, seats, times, and keys.

A key never comes by an argument, which everybody on the machine can read.
"""

from __future__ import annotations

import datetime as dt
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import settings_or_exit
from serai_server.licenses.servers.requests import MOST_SEATS, is_host

_MOST_BYTES = 48 * 1024
_SPAN = re.compile(r"\+(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")

_P = ParamSpec("_P")
_R = TypeVar("_R")

provider_option = click.option("--provider", default="", help="The provider's id in the product, where it is not the one of the settings.")


class Address(click.ParamType[pb.LicenseServerAddress]):
    """ "lic1", "lic1:27001", "[2001:db8::1]:27001", "27001@lic1"."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> pb.LicenseServerAddress:
        if isinstance(value, pb.LicenseServerAddress):
            return value
        text = str(value)
        if "@" in text:
            port, _, host = text.partition("@")
        elif text.startswith("["):
            host, _, rest = text[1:].partition("]")
            port = rest.removeprefix(":")
        elif text.count(":") > 1:
            host, port = text, ""
        else:
            host, _, port = text.partition(":")
        if not host or not re.fullmatch(r"\d*", port, re.ASCII):
            self.fail(f"{text!r} is not an address like lic1.example.org, lic1:27001 or 27001@lic1", param, ctx)
        if not is_host(host):
            self.fail(f"{text!r}: {host!r} is neither a host name nor an IP address", param, ctx)
        if port and not 1 <= int(port[:9]) <= 65_535:
            self.fail(f"{text!r}: a port is 1 to 65535", param, ctx)
        return pb.LicenseServerAddress(host=host, port=int(port or 0))


class Feature(click.ParamType[pb.LicenseFeature]):
    """ "solver=5"."""

    name = "feature"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> pb.LicenseFeature:
        if isinstance(value, pb.LicenseFeature):
            return value
        name, _, seats = str(value).rpartition("=")
        if not name or not re.fullmatch(r"\d{1,9}", seats, re.ASCII):
            self.fail(f"{str(value)!r} is not a feature with its seats like solver=5", param, ctx)
        if not 1 <= int(seats) <= MOST_SEATS:
            self.fail(
                f"{str(value)!r}: seats are 1 to {MOST_SEATS:,}; --not-counted or no --feature at all does not count them", param, ctx
            )
        return pb.LicenseFeature(name=name, seats=int(seats))


addresses_option = click.option(
    "--address", "addresses", multiple=True, required=True, type=Address(), metavar="HOST[:PORT]", help="Once; three times for a triad."
)
feature_option = click.option(
    "--feature", "features", multiple=True, type=Feature(), metavar="NAME=SEATS", help="A feature and how many seats Serai may give out."
)


def product_of(text: str, provider: str, config: Path) -> ProductReference:
    """`CATEGORY/ID`, of the provider of the settings unless another is named. Raises CliError (USAGE)."""
    category, _, product_id = text.partition("/")
    if not category or not product_id:
        raise CliError(f"{text!r} is not a product like CATEGORY/ID; the settings have them as [[licenses.products]]", Exit.USAGE)
    return ProductReference(id=product_id, category=category, provider=provider or settings_or_exit(config).provider.id)


def time_of(option: str, text: str, now_ms: int, begin_ms: int | None = None) -> int:
    """ "now", "+2h" (after `begin_ms`, None = now), or ISO 8601 with its distance from UTC; ms since epoch. Raises CliError (USAGE), which
    names the option."""
    if text == "now":
        return now_ms
    found = _SPAN.fullmatch(text)
    if found is not None and any(found.groups()):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return (now_ms if begin_ms is None else begin_ms) + (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None:
        forward = "; a span goes forward and begins with +" if re.fullmatch(r"-?(\d+[dhms])+", text) else ""
        raise CliError(f"{option} {text!r} is not a time like 2026-12-24T18:00+01:00, 2026-12-24T17:00Z, now or +2h{forward}", Exit.USAGE)
    if at.tzinfo is None:
        raise CliError(f"{option} {text!r} does not say how far from UTC it is; add Z, or a distance like +01:00", Exit.USAGE)
    return int(at.timestamp() * 1_000)


def key_options(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """The ways in which a vendor's key comes, none of which is an argument."""
    options = (
        click.option("--key-file", type=click.Path(path_type=Path), metavar="PATH", help="The vendor's key is in this file."),
        click.option("--key-stdin", is_flag=True, help="The vendor's key comes on stdin."),
        click.option("--ask-key", is_flag=True, help="Ask for the vendor's key, a single word, without showing it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class GivenKey:
    content: bytes = field(default=b"", repr=False)
    """Empty = none was given."""
    notes: tuple[str, ...] = ()

    def taken(self) -> None:
        """Say what the operator should know of a key that the server has now."""
        for note in self.notes:
            click.echo(f"serai: {note}", err=True)


def key_of(file: Path | None, *, from_stdin: bool, ask: bool, none: bool = False) -> GivenKey:
    """The vendor's key. Raises CliError."""
    ways = {"--key-file": file is not None, "--key-stdin": from_stdin, "--ask-key": ask, "--no-key": none}
    chosen = [way for way, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise CliError(f"{' and '.join(chosen)}: only one of them", Exit.USAGE)
    open_to_others = file is not None and _others_can_read(file)
    content = _content(file, from_stdin=from_stdin, ask=ask)
    notes = [f"others can read {file}; `chmod 600 {file}` keeps the key to yourself"] if open_to_others else []
    if b"\0" in content:
        notes.append("the key has NUL bytes in it, as no text has: is this the right file?")
    return GivenKey(content, tuple(notes))


def has_terminal() -> bool:
    return sys.stdin.isatty()


def _content(file: Path | None, *, from_stdin: bool, ask: bool) -> bytes:
    if ask:
        if not has_terminal():
            raise CliError("--ask-key: there is no terminal to ask on; use --key-file or --key-stdin", Exit.USAGE)
        found: object = click.prompt("Key of the vendor", hide_input=True, err=True)
        return _checked(str(found).encode(), "what was typed")
    if from_stdin:
        return _checked(sys.stdin.buffer.read(_MOST_BYTES + 1), "stdin")
    return _checked(_read(file), str(file)) if file is not None else b""


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CliError(f"--key-file: {file} cannot be read: {error.strerror}", Exit.USAGE) from error


def _others_can_read(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        # Reading it says why.
        return False


def _checked(key: bytes, where: str) -> bytes:
    # A word does not end with a line end, whichever program wrote it down; the text of a license file stays as it is.
    line = key.rstrip(b"\r\n")
    key = key if b"\n" in line else line
    if not key:
        raise CliError(f"there is no key in {where}", Exit.USAGE)
    if len(key) > _MOST_BYTES:
        raise CliError(f"the key in {where} is longer than {_MOST_BYTES // 1024} KiB", Exit.USAGE)
    return key
