"""`serai register`: from settings to a provider that Core knows, with the refresh token and the public key that it gave us in place."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
from serai_gateway.auth import KeyFileError, parse_public_key
from serai_gateway.clock import Clock, SystemClock
from serai_gateway.codec import Codec
from serai_gateway.control.transport import HttpTransport
from serai_gateway.durable import write_durably
from serai_gateway.registration import (
    SIGN_WITHIN_MS,
    Address,
    Files,
    RegistrationError,
    State,
    request_approval,
    sign_link,
    try_out,
)
from serai_gateway.tokens import Tokens, is_token
from serai_gateway.welcome import listening_for_welcome

from serai_server.cli import output
from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.log_setup import only_errors
from serai_server.cli.options import config_option, settings_or_exit

_LOOK_EVERY_S = 0.25
_BY_HAND = """\
Today's Core (core.generation "2026") takes no requests from providers; an administrator of UCloud registers them:

  1. In UCloud's web interface: Admin, Providers, Create, with the id {provider}, this gateway's domain, HTTPS and port.
     (Or: POST /api/providers {{"items":[{{"id":"{provider}","domain":…,"https":true,"port":443}}]}} in the provider's project.)
  2. The new provider's page shows a refresh token and a public key (GET /api/providers/retrieve?id=… does too).
  3. Here: `serai register --refresh-token-file FILE --public-key-file FILE`, or both on standard input of `serai register`,
     first the token on a line of its own, then the key."""


@dataclass(frozen=True, slots=True)
class _Wish:
    again: bool
    address: str
    refresh_token_file: Path | None
    public_key_file: Path | None
    timeout_s: float


@click.command()
@click.option("--address", metavar="URL", default="", help="Where Core reaches the gateway, instead of gateway.public_url.")
@click.option("--refresh-token-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Refresh token to install.")
@click.option("--public-key-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Public key to install.")
@click.option("--again", is_flag=True, help="Begin anew, also when a registration waits or is done.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", default=3_600.0, show_default=True, help="Longest wait.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object on stdout for each step.")
@config_option
def command(
    *, address: str, refresh_token_file: Path | None, public_key_file: Path | None, again: bool, timeout: float, as_json: bool, config: Path
) -> None:
    """Make this provider known to Core, once, before the first `serai serve`.

    With Core of 2021 it asks for approval and shows a link: somebody signs the request there within five minutes, an administrator of
    UCloud approves it, and Core sends the refresh token and its public key to the gateway's address. They go into the files that
    core.refresh_token_file and core.public_key_file name, and are tried. An interrupted registration goes on where it was.

    Today's Core (core.generation = "2026") takes no requests: an administrator makes the provider in UCloud, and its page shows both;
    name them here, or give them on standard input, to have them checked and installed.

    \b
    serai register --address https://provider.example.org
    serai register --refresh-token-file token.txt --public-key-file key.txt
    """
    settings = settings_or_exit(config)
    only_errors()
    wish = _Wish(again, address or settings.gateway.public_url, refresh_token_file, public_key_file, timeout)
    try:
        asyncio.run(_Registering(settings, wish, as_json=as_json).run())
    except RegistrationError as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")) from error


class _Registering:
    """One run of the command."""

    def __init__(self, settings: Settings, wish: _Wish, *, as_json: bool, clock: Clock | None = None) -> None:
        self._settings = settings
        self._gateway = settings.for_gateway()
        self._wish = wish
        self._as_json = as_json
        self._clock = clock or SystemClock()
        self._codec = Codec()
        self._files = Files.of(self._gateway.registration_file, settings.core)

    async def run(self) -> None:
        _check_folders(self._settings, self._files)
        wish = self._wish
        by_hand = wish.refresh_token_file is not None or wish.public_key_file is not None
        today = self._settings.core.generation == "2026"
        state = None if wish.again or by_hand or today else self._files.load()
        waiting = state if state is not None and state.waits else None
        lacks = wish.again or not (self._files.public_key.is_file() and self._files.refresh_token.is_file())
        async with HttpTransport(self._settings.core.url, timeout_ms=self._settings.core.timeout_ms) as transport:
            if by_hand or (today and lacks):
                await self._install(transport, *self._given())
            elif lacks or waiting is not None:
                await self._ask_and_wait(transport, waiting)
            await self._try(transport, self._files.refresh_token, self._files.public_key.read_bytes())
        self._tell(
            "registered",
            f"Core knows provider {self._settings.provider.id}: `serai products push` tells it what is sold, `serai serve` begins",
            provider=self._settings.provider.id,
            refresh_token_file=str(self._files.refresh_token),
            public_key_file=str(self._files.public_key),
        )

    # Asking Core of 2021

    async def _ask_and_wait(self, transport: HttpTransport, state: State | None) -> None:
        provider, core_url = self._settings.provider.id, self._settings.core.url
        if state is not None and (state.provider, state.core_url) != (provider, core_url):
            raise RegistrationError(
                f"a registration of {state.provider} at {state.core_url} waits; `serai register --again` begins one of these settings"
            )
        if state is None:
            if not self._wish.address:
                raise CliError("where does Core reach this gateway? Set gateway.public_url, or name it with --address", Exit.USAGE)
            token = await request_approval(transport, self._codec, provider, Address.of(self._wish.address))
            state = State(provider=provider, core_url=core_url, requested_at_ms=self._clock.now_ms(), token=token)
            self._files.save(state)
            words = f"Core was asked to approve provider {provider} at {self._wish.address}."
        else:
            words = f"The registration of {provider} goes on. If Core has forgotten the request, begin anew with --again."
        link = sign_link(core_url, state.token)
        self._tell(
            "sign",
            f"{words}\nSign the request there, logged in, within five minutes; then an administrator approves it there:\n\n  {link}\n",
            link=link,
            sign_before_ms=state.requested_at_ms + SIGN_WITHIN_MS,
        )
        try:
            async with asyncio.timeout(self._wish.timeout_s):
                await self._until_welcomed()
        except TimeoutError as error:
            raise CliError("Core's welcome has not come yet; `serai register` goes on waiting", Exit.NOT_YET) from error

    async def _until_welcomed(self) -> None:
        """Until whoever has the gateway's address has taken Core's welcome: a gateway that runs, or else we."""
        told = listens = False
        sign_before_ms: int | None = None
        async with AsyncExitStack() as stack:
            while True:
                state = self._files.load()
                if state is None:
                    raise RegistrationError("the registration was deleted while it waited")
                if not state.waits:
                    return
                if not listens:
                    try:
                        port = await stack.enter_async_context(listening_for_welcome(self._gateway, self._codec))
                        listens = told = True
                        self._tell("waiting", f"Waiting for Core's welcome on {self._gateway.gateway.address} port {port}.", port=port)
                    except OSError as error:
                        if error.errno != errno.EADDRINUSE:
                            raise
                        if not told:
                            told = True
                            self._tell("waiting", "Waiting for Core's welcome; the gateway that runs takes it.", port=None)
                if sign_before_ms is None:
                    sign_before_ms = state.requested_at_ms + SIGN_WITHIN_MS
                elif 0 < sign_before_ms < self._clock.now_ms():
                    sign_before_ms = 0
                    self._tell("late", "The five minutes are over; if nobody has signed, end this and begin anew with --again. Waiting on.")
                await self._clock.sleep(_LOOK_EVERY_S)

    # Installing what an administrator has read

    def _given(self) -> tuple[str, str]:
        """Refresh token and public key from the named files, or else from standard input."""
        wish = self._wish
        if wish.refresh_token_file is not None and wish.public_key_file is not None:
            return _text(wish.refresh_token_file), _text(wish.public_key_file)
        if wish.refresh_token_file is not None or wish.public_key_file is not None:
            raise CliError("--refresh-token-file and --public-key-file go together", Exit.USAGE)
        words = _BY_HAND.format(provider=self._settings.provider.id)
        click.echo(words, err=True)
        return _ask() if sys.stdin.isatty() else _read_both(sys.stdin)

    async def _install(self, transport: HttpTransport, refresh_token: str, public_key: str) -> None:
        if not is_token(refresh_token):
            raise CliError("that is no refresh token: one word of printable characters is expected", Exit.USAGE)
        # Tried from a place of its own: what works now stays until something better is known to work.
        trial = self._files.refresh_token.with_name(f"{self._files.refresh_token.name}.trial")
        try:
            write_durably(trial, refresh_token.encode())
            await self._try(transport, trial, public_key.encode())
            self._files.install(refresh_token, public_key)
        finally:
            trial.unlink(missing_ok=True)

    async def _try(self, transport: HttpTransport, refresh_token: Path, public_key: bytes) -> None:
        try:
            key = parse_public_key(public_key)
        except KeyFileError as error:
            raise RegistrationError(str(error)) from error
        tokens = Tokens(transport, self._codec, refresh_token, self._clock, self._settings.provider.names)
        await try_out(tokens, key)

    def _tell(self, step: str, words: str, **facts: object) -> None:
        if self._as_json:
            output.print_json_line({"step": step, **facts})
        else:
            click.echo(words)


def _check_folders(settings: Settings, files: Files) -> None:
    """Before Core is asked for what could then not be kept."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {"server.state_dir": files.state, "core.public_key_file": files.public_key, "core.refresh_token_file": files.refresh_token}
    for setting, file in names.items():
        if not file.parent.is_dir():
            raise CliError(f"{setting}: there is no folder {file.parent}; make it, with mode 0700")
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise CliError(f"{setting}: this user cannot write into {file.parent}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise CliError(f"{file} holds no text", Exit.USAGE) from error


def _ask() -> tuple[str, str]:
    token = str(click.prompt("Refresh token", hide_input=True, err=True)).strip()
    return token, str(click.prompt("Public key (one line)", err=True)).strip()


def _read_both(given: TextIO) -> tuple[str, str]:
    """The token on the first line, the key on those after it (PEM has many)."""
    lines = [line.strip() for line in given.read().splitlines() if line.strip()]
    if len(lines) < 2:
        raise CliError("standard input holds no refresh token and public key: two lines at least are expected", Exit.USAGE)
    return lines[0], "\n".join(lines[1:])
