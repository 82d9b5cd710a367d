"""`serai serve`: server and gateway in one process by default, or one of them alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop
from serai_backends.errors import BackendError
from serai_gateway.auth import KeyFileError
from serai_gateway.channel import ChannelUpstream
from serai_gateway.gateway import Gateway
from serai_gateway.upstream import InProcessUpstream
from serai_telemetry.spans import Traces

from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, leaves
from serai_server.cli.log_setup import set_up_logging
from serai_server.cli.metrics_of_gateway import GatewayMetrics
from serai_server.cli.metrics_of_server import ServerMetrics
from serai_server.cli.options import config_option, settings_or_exit
from serai_server.cli.plan import open_backend, plan_of, tools_place
from serai_server.cli.telemetry import metrics_served, traces_sent
from serai_server.main import PlanError, Server, running_server
from serai_server.rpc.socket_place import SocketInUse
from serai_server.rpc.tls import CertificateError
from serai_server.store.api import StoreError


@dataclass(frozen=True, slots=True)
class Serai:
    """What runs, and where it is reached."""

    gateway_url: str
    """Core's way in by TCP; empty = there is none here."""
    socket: Path
    """The operator's way in."""
    tools: str = ""
    """Where tools with a token come in; empty = no server here."""
    metrics_url: str = ""
    """Where its metrics are; empty = nowhere."""
    public_url: str = ""
    """Envoy's way in; empty = no Envoy here."""
    end_streams: Callable[[], None] = lambda: None
    """Tells the streams of tools that there is a stop, which they would else be in the way of."""


@contextlib.asynccontextmanager
async def running(settings: Settings, *, tcp: bool = True) -> AsyncGenerator[Serai]:
    """Server and gateway in this loop; the gateway calls the server without a channel, through the same chain. `tcp` False = the gateway is
    reached at its socket only."""
    async with (
        traces_sent(settings.traces) as traces,
        _server(settings, traces) as (server, metrics),
        Gateway(settings.for_gateway(tcp=tcp), InProcessUpstream(server.dispatcher), traces=traces) as gateway,
        metrics_served(settings.metrics.listen, "all", (metrics, GatewayMetrics(gateway)), lambda: server.health.down) as metrics_url,
    ):
        yield Serai(gateway.url, server.socket, _tools(settings, server), metrics_url, end_streams=server.end_tools_streams)


@contextlib.asynccontextmanager
async def running_server_alone(settings: Settings) -> AsyncGenerator[Serai]:
    async with (
        traces_sent(settings.traces) as traces,
        _server(settings, traces) as (server, metrics),
        metrics_served(settings.metrics.listen, "server", (metrics,), lambda: server.health.down) as metrics_url,
    ):
        yield Serai("", server.socket, _tools(settings, server), metrics_url)


@contextlib.asynccontextmanager
async def running_gateway_alone(settings: Settings) -> AsyncGenerator[Serai]:
    """The gateway, with a channel to the server's socket."""
    async with (
        traces_sent(settings.traces) as traces,
        ChannelUpstream(f"unix:{settings.socket}") as upstream,
        Gateway(settings.for_gateway(), upstream, traces=traces) as gateway,
        metrics_served(settings.metrics.gateway_listen, "gateway", (GatewayMetrics(gateway),)) as metrics_url,
    ):
        yield Serai(gateway.url, settings.socket, metrics_url=metrics_url)


def _tools(settings: Settings, server: Server) -> str:
    return " and ".join(filter(None, (settings.server.tools.socket, server.tools_address)))


@contextlib.asynccontextmanager
async def _server(settings: Settings, traces: Traces | None) -> AsyncGenerator[tuple[Server, ServerMetrics]]:
    async with (
        open_backend(settings) as (backend, clock),
        running_server(
            plan_of(settings), backend, clock, settings.socket, settings.server.stop_grace_ms, tools=tools_place(settings), traces=traces
        ) as server,
    ):
        yield server, ServerMetrics(server.core, server.health, clock)


_EXPECTED = (StoreError, BackendError, PlanError, SocketInUse, CertificateError, KeyFileError, OSError)
"""What can be wrong at start through no fault of the program: told in one sentence."""

_PARTS = {"all": running, "server": running_server_alone, "gateway": running_gateway_alone}

Part = Callable[[Settings, asyncio.Event], AbstractAsyncContextManager[Serai]]
"""Makes what runs. The event says that whoever asked for a stop has asked again: nothing is waited for any more."""


@click.command()
@click.argument("part", type=click.Choice(list(_PARTS)), default="all")
@config_option
def command(part: str, config: Path) -> None:
    """Run the provider until SIGTERM or SIGINT.

    PART is "all" (server and gateway in one process, the default), "server" or "gateway". A stop ends calls in flight in order; running
    jobs go on and are found again at the next start.

    \b
    serai serve
    serai serve server --config /etc/serai/serai.toml
    """
    run_until_stopped(settings_or_exit(config), lambda settings, _: _PARTS[part](settings))


def run_until_stopped(settings: Settings, part: Part, *, expected: tuple[type[Exception], ...] = ()) -> None:
    """Run until SIGTERM or SIGINT. CliError for what can be wrong through no fault of the program: what serving raises, and `expected`."""
    set_up_logging(settings.server.log_level)
    try:
        uvloop.run(_serve(part, settings))
    except Exception as error:
        causes = leaves(error)
        if not all(isinstance(cause, (*_EXPECTED, *expected)) for cause in causes):
            raise
        raise CliError("; ".join(dict.fromkeys(str(cause) for cause in causes))) from error


async def _serve(part: Part, settings: Settings) -> None:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # A core file would hold tokens, and keys of vendors.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop, hurry = asyncio.Event(), asyncio.Event()

    def stop_or_hurry() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_hurry)
    async with part(settings, hurry) as serai:
        # What was made at start lives until the end: the collector need not walk it again (facts on speed §7).
        gc.collect()
        gc.freeze()
        ways = [f"all at {serai.public_url}"] if serai.public_url else []
        ways += [f"for Core at {serai.gateway_url}"] if serai.gateway_url else []
        ways.append(f"the operator at {serai.socket}")
        ways += [f"tools with a token at {serai.tools}"] if serai.tools else []
        ways += [f"metrics at {serai.metrics_url}/metrics"] if serai.metrics_url else []
        click.echo(f"serai serves provider {settings.provider.id}: {', '.join(ways)}")
        await stop.wait()
        click.echo("serai stops; running jobs go on")
