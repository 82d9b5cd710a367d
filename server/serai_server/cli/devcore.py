"""`serai devcore`: a stand-in for UCloud/Core, for people who write or try a provider."""

from __future__ import annotations

import asyncio
import errno
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from serai_devcore import DevCore, Generation, Provider, Settings
from serai_devcore.tokens import PrivateKey, dump_key, generate_key, load_key

from serai_server.cli import kit
from serai_server.cli.exits import CliError, Exit

PRIVATE_KEY = "core-private-key.pem"
USERS_PRIVATE_KEY = "users-private-key.pem"


@dataclass(frozen=True, slots=True)
class _Wish:
    folder: Path
    port: int
    generation: Generation
    provider: str
    """Empty = none is known yet."""
    provider_url: str
    poll: bool
    check_support: bool


POLL_EVERY_MS = {Generation.G2021: 30_000, Generation.G2026: 10_000}
"""As often as the real ones do."""


@click.command()
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=".devcore", show_default=True, metavar="DIR")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 = any free one.")
@click.option("--generation", type=click.Choice([g.value for g in Generation]), default="2021", show_default=True)
@click.option("--provider", default="example", show_default=True, metavar="ID", help="The provider's id.")
@click.option("--provider-url", default="http://127.0.0.1:8889", show_default=True, metavar="URL", help="Where the provider listens.")
@click.option("--without-provider", is_flag=True, help="Know no provider yet: one is to register itself.")
@click.option("--poll", is_flag=True, help="Ask the provider from time to time, as Core does.")
@click.option("--check-support", is_flag=True, help="Refuse calls that the provider does not declare, as Core does.")
def command(
    *,
    folder: Path,
    port: int,
    generation: str,
    provider: str,
    provider_url: str,
    without_provider: bool,
    poll: bool,
    check_support: bool,
) -> None:
    """Run a stand-in for UCloud/Core until SIGTERM or Ctrl-C.

    It issues tokens, takes control calls with Core's rules, starts jobs at the provider, and misbehaves when told to. Jobs and money are
    kept in memory only; keys are kept in DIR, together with settings for a provider that is to meet it.

    It plays users and administrators too: what they do (extend, suspend, open a shell, share, label, connect, register a provider, create a
    license, read a bill) is a call below /devcore/, which lists them all. In generation 2026, --check-support knows only what --poll has
    heard.

    \b
    serai devcore
    serai serve --config .devcore/serai.toml
    curl -s http://127.0.0.1:8080/devcore/
    """
    known = "" if without_provider else provider
    wish = _Wish(folder, port, Generation(generation), known, provider_url, poll, check_support)
    try:
        asyncio.run(_run(wish))
    except OSError as error:
        words = "somebody listens there already; stop that, or choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise CliError(f"cannot run on port {port} with files in {folder}: {words or error.strerror or error}") from error


async def _run(wish: _Wish) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Ids go on from the time of day: a provider that outlives the stand-in never meets one twice.
    settings = Settings(
        generation=wish.generation,
        port=wish.port,
        first_job_id=int(time.time()),
        poll_every_ms=POLL_EVERY_MS[wish.generation] if wish.poll else 0,
        check_support=wish.check_support,
    )
    async with DevCore(settings) as core:
        if wish.provider:
            # Only one that could bind its port leaves files behind.
            key, refresh_token = _keys(wish.folder)
            provider = core.add_provider(wish.provider, url=wish.provider_url, key=key, refresh_token=refresh_token)
            core.users.adopt(_key(wish.folder / USERS_PRIVATE_KEY))
            written = _write(wish, core, provider)
            if not written and (differs := _differences(wish, core)):
                # Before the many words: what they say to do next does not work with such settings.
                click.echo(f"serai: {differs}\n", err=True)
            click.echo(_words(wish, core, written))
        else:
            click.echo(_words_alone(core))
        await stop.wait()


def _keys(folder: Path) -> tuple[PrivateKey, str | None]:
    """The pair and the refresh token of an earlier run, or new ones."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        # Keys in a checkout must not be committed by accident.
        ignore.write_text("*\n", encoding="utf-8")
    key, token_file = _key(folder / PRIVATE_KEY), folder / kit.REFRESH_TOKEN
    token = token_file.read_text(encoding="utf-8").strip() if token_file.exists() else ""
    return key, token or None


def _key(file: Path) -> PrivateKey:
    """The pair in the file, or a new one that is in it from now on."""
    try:
        key = load_key(file.read_bytes()) if file.exists() else generate_key()
    except ValueError as error:
        raise CliError(f"{file} does not hold a key; delete it to have a new one", Exit.USAGE) from error
    kit.write_secret(file, dump_key(key))
    return key


def _write(wish: _Wish, core: DevCore, provider: Provider) -> bool:
    """Keys and settings; False = there were settings already, which are left alone."""
    kit.write_keys(wish.folder, core, provider)
    file = wish.folder / kit.SETTINGS
    if file.exists():
        return False
    port = wish.provider_url.rstrip("/").rpartition(":")[2]
    made = kit.Kit(
        core_url=core.url,
        generation=wish.generation,
        provider=wish.provider,
        gateway_port=int(port) if port.isdecimal() else 8889,
        program_dirs=kit.program_dirs(kit.example_folder()),
        products=tuple(core.accounts.products.values()),
    )
    file.write_text(kit.settings_text(made), encoding="utf-8")
    return True


def _differences(wish: _Wish, core: DevCore) -> str:
    """Why a provider with the settings from before would not meet this stand-in; empty = it would, as far as they can be read."""
    file = wish.folder / kit.SETTINGS
    try:
        found = msgspec.toml.decode(file.read_bytes(), type=_Before).core
    except msgspec.MsgspecError:
        return ""
    said = {"core.url": (found.url, core.url), "core.generation": (found.generation, wish.generation.value)}
    differs = [f"{key} is {was!r} there and {now!r} here" for key, (was, now) in said.items() if was and was != now]
    if not differs:
        return ""
    words = f"{file} is from before and is not of this stand-in: {', '.join(differs)}"
    return f"{words}; change it there, or delete the file to have it written anew"


class _BeforeCore(msgspec.Struct):
    url: str = ""
    generation: str = ""


class _Before(msgspec.Struct):
    """What settings from before say of Core."""

    core: _BeforeCore = msgspec.field(default_factory=_BeforeCore)


def _words(wish: _Wish, core: DevCore, written: bool) -> str:
    folder, url = wish.folder, core.url
    files = {
        kit.PUBLIC_KEY: "the key that signs Core's calls (public half)",
        kit.USERS_KEY: "the key that signs users' tokens (public half)",
        kit.REFRESH_TOKEN: "the provider's refresh token, readable for its owner only",
        kit.SETTINGS: "settings for a provider" if written else "settings from before, left as they are",
    }
    tries = {
        f"serai serve --config {folder / kit.SETTINGS}": "the provider, in another terminal",
        f"curl -s {url}/devcore/products": "what it supports",
        f'curl -s {url}/devcore/jobs -d \'{{"value": "Hello"}}\'': "start acme-batch as a user does",
        f'curl -s {url}/devcore/jobs -d \'{{"shell": "hostname", "replicas": 3}}\'': "a line of shell on three replicas",
        f'curl -s {url}/devcore/jobs -d \'{{"shell": "python3 -m http.server 8000", "web": 8000}}\'': "a job with a web page",
        f'curl -s {url}/devcore/jobs/ID/session -d \'{{"type": "WEB", "rank": 0}}\'': "the address of job ID's page; SHELL: a terminal",
        f"curl -s {url}/devcore/jobs/ID/follow -d '{{\"seconds\": 5}}'": "what job ID writes, as its user sees it",
        f"curl -sXPOST {url}/devcore/licenses": "buy the example license; GET shows it, and when it is READY",
        f'curl -s {url}/devcore/jobs -d \'{{"license": "ID"}}\'': "start acme-solver with license ID",
        f'curl -s {url}/devcore/tokens -d \'{{"username": "user"}}\'': "a user's token, for the provider's own /api/licenses",
        f"curl -s {url}/devcore/jobs": "every job, with each update as it came",
        f"curl -s {url}/devcore/wallets": "what it cost",
        f"curl -s {url}/devcore/jobs/ID/extend -d '{{\"hours\": 1}}'": "ask for more time, as the user of job ID does",
        f'curl -s {url}/devcore/faults -d \'{{"status": 503, "times": 5}}\'': "fail the next five calls of the provider",
        f"curl -s {url}/devcore/": "everything else",
    }
    return "\n".join(
        [
            f"A stand-in for UCloud/Core ({wish.generation.value}) listens at {url}",
            f"It knows provider {wish.provider} at {wish.provider_url}; all state is in memory.",
            "",
            *_columns({str(folder / name): words for name, words in files.items()}),
            "",
            "Try next:",
            *_columns({command: f"# {words}" for command, words in tries.items()}),
        ]
    )


def _words_alone(core: DevCore) -> str:
    """No provider is known: how one becomes known."""
    url = core.url
    first = {f"curl -s {url}/devcore/providers": "who is known, and who asks to be"}
    if core.generation is Generation.G2021:
        first |= {
            f"curl -sXPOST {url}/devcore/registrations/TOKEN/sign": "sign a provider's request as its administrator",
            f"curl -sXPOST {url}/devcore/registrations/TOKEN/approve": "approve it: the provider is greeted with its secrets",
        }
    else:
        wish = '{"id": "example", "domain": "127.0.0.1", "https": false, "port": 8889}'
        first |= {f"curl -s {url}/devcore/providers -d '{wish}'": "make a provider known; the answer has its secrets"}
    return "\n".join(
        [
            f"A stand-in for UCloud/Core ({core.generation.value}) listens at {url}",
            "It knows no provider; all state is in memory.",
            "",
            "Try next:",
            *_columns({command: f"# {words}" for command, words in first.items()}),
        ]
    )


def _columns(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {left:<{width}}  {right}" for left, right in rows.items()]
