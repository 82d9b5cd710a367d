"""What people write on the command line about licenses, as the server takes it: products, addresses, seats, times, and keys.

A key never comes by an argument, which everybody on the machine can read.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import settings_or_exit

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
        if not host or not re.fullmatch(r"(\d{1,5})?", port):
            self.fail(f"{text!r} is not an address like lic1.example.org, lic1:27001 or 27001@lic1", param, ctx)
        return pb.LicenseServerAddress(host=host, port=int(port or 0))


class Feature(click.ParamType[pb.LicenseFeature]):
    """ "solver=5"."""

    name = "feature"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> pb.LicenseFeature:
        if isinstance(value, pb.LicenseFeature):
            return value
        name, _, seats = str(value).rpartition("=")
        if not name or not re.fullmatch(r"\d{1,9}", seats):
            self.fail(f"{str(value)!r} is not a feature with its seats like solver=5", param, ctx)
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


def time_of(text: str, now_ms: int, begin_ms: int | None = None) -> int:
    """ "now", "+2h" (after `begin_ms`, None = now), or ISO 8601 with its distance from UTC; ms since epoch. Raises CliError (USAGE)."""
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
    if at is None or at.tzinfo is None:
        raise CliError(f"{text!r} is not a time like 2026-12-24T18:00+01:00, 2026-12-24T17:00Z, now or +2h", Exit.USAGE)
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


def key_of(file: Path | None, *, from_stdin: bool, ask: bool) -> bytes:
    """The vendor's key; empty = none of the ways was chosen. Raises CliError."""
    if (file is not None) + from_stdin + ask > 1:
        raise CliError("one of --key-file, --key-stdin and --ask-key, not several", Exit.USAGE)
    if ask:
        found: object = click.prompt("Key of the vendor", hide_input=True, err=True)
        return _checked(str(found).encode(), "what was typed")
    if from_stdin:
        return _checked(sys.stdin.buffer.read(_MOST_BYTES + 1), "stdin")
    return _checked(_read(file), str(file)) if file is not None else b""


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH):
                click.echo(f"serai: others can read {file}; `chmod 600 {file}` keeps the key to yourself", err=True)
            return opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", Exit.USAGE) from error


def _checked(key: bytes, where: str) -> bytes:
    # A word does not end with a line end, whichever program wrote it down; the text of a license file stays as it is.
    line = key.rstrip(b"\r\n")
    key = key if b"\n" in line else line
    if not key:
        raise CliError(f"there is no key in {where}", Exit.USAGE)
    if len(key) > _MOST_BYTES:
        raise CliError(f"the key in {where} is longer than {_MOST_BYTES // 1024} KiB", Exit.USAGE)
    return key
