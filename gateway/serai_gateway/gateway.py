"""The gateway as one object: HTTP in, deliveries out, in the loop that runs it.

Use `async with Gateway(settings, upstream) as gateway:`; inside, it serves at `gateway.url`. Leaving stops in this order: no new
connections, requests in flight end, no new events, calls to Core in flight end and are acknowledged. What takes longer than
`gateway.stop_grace_ms` is cut off, and costs nothing but a repeated delivery.
"""

from __future__ import annotations

import asyncio
import random as random_module
import socket
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
import uvicorn
from serai_telemetry.spans import Traces

from serai_gateway.access import Access, AccessLog
from serai_gateway.app import App
from serai_gateway.auth import PublicKeyFile, TokenCheck
from serai_gateway.clock import Clock, SystemClock
from serai_gateway.codec import Codec
from serai_gateway.console.console import Console
from serai_gateway.control.calls import Calls
from serai_gateway.control.client import CoreClient
from serai_gateway.control.compare_jobs import JobComparison
from serai_gateway.control.compare_licenses import LicenseComparison
from serai_gateway.control.deliveries import Deliveries
from serai_gateway.control.observed import ObservedClient, ObservedTransport
from serai_gateway.control.questions import CoreQuestions
from serai_gateway.control.reconcile import Comparison, Reconciliation
from serai_gateway.control.transport import HttpTransport
from serai_gateway.counts import CountedAccess, GatewayCounts
from serai_gateway.door import Door
from serai_gateway.listeners import BACKLOG, listeners, unix_listener
from serai_gateway.protocol import bounded
from serai_gateway.settings import CoreSettings, Settings
from serai_gateway.tokens import Tokens
from serai_gateway.traced import TracedCalls, TracedUpstream
from serai_gateway.upstream import Exchanging, Upstream
from serai_gateway.users import SETTING, UserCheck
from serai_gateway.web.addresses import Addresses
from serai_gateway.web.connection import Pages
from serai_gateway.web.holds import Holds
from serai_gateway.web.sessions import Sessions
from serai_gateway.web.site import Site
from serai_gateway.web.vnc import Desktops
from serai_gateway.web.web import open_web
from serai_gateway.ws import follow, shell
from serai_gateway.ws.follow import FollowCalls
from serai_gateway.ws.following import Following
from serai_gateway.ws.paths import FOLLOW, SHELL, SocketPath, SocketPaths
from serai_gateway.ws.protocol import Find
from serai_gateway.ws.shell import ShellCalls
from serai_gateway.ws.unproven import Unproven

_log = structlog.stdlib.get_logger("serai_gateway")


class Gateway:
    """Serves Core's calls and delivers the server's events, between enter and exit."""

    def __init__(
        self,
        settings: Settings,
        upstream: Exchanging,
        *,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        codec: Codec | None = None,
        traces: Traces | None = None,
    ) -> None:
        """`traces` None = no spans are made."""
        self.counts = GatewayCounts()
        self._settings = settings
        self._upstream: Exchanging = upstream if traces is None else TracedUpstream(upstream, traces)
        self._traces = traces
        self._deliveries: Deliveries | None = None
        self._clock = clock or SystemClock()
        self._random = random
        self._codec = codec or Codec()
        self._stack = AsyncExitStack()
        self._port = 0

    @property
    def port(self) -> int:
        """The TCP port that is bound; 0 before enter, and where there is none."""
        return self._port

    @property
    def url(self) -> str:
        """Where it is reached by TCP; empty = nowhere."""
        if not self._settings.tcp:
            return ""
        host = self._settings.gateway.address
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def held_events(self) -> int:
        """Events that wait in memory for Core's answer."""
        return 0 if self._deliveries is None else self._deliveries.held

    async def __aenter__(self) -> Self:
        """OSError when the address cannot be bound, KeyFileError when there is no good key of Core."""
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        _log.info("gateway serves", url=self.url, socket=self._settings.gateway.socket, provider=self._settings.provider.id)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    async def _start(self, stack: AsyncExitStack) -> None:
        core = self._settings.core
        token_check = TokenCheck(PublicKeyFile(Path(core.public_key_file), self._clock), self._clock)
        users = _user_check(self._settings, self._clock)
        lines = AccessLog(self._clock) if self._settings.gateway.access_log else None
        if lines is not None:
            stack.callback(lines.close)
        access = CountedAccess(self.counts, lines)
        http_to_core = await stack.enter_async_context(HttpTransport(core.url, timeout_ms=core.timeout_ms))
        transport = ObservedTransport(http_to_core, self.counts, self._traces)
        tokens = Tokens(transport, self._codec, Path(core.refresh_token_file), self._clock, self._settings.provider.names)
        stack.push_async_callback(tokens.close)
        calls = Calls(transport, tokens)
        to_core = CoreClient(calls, self._codec, core.generation, self._clock)
        client = ObservedClient(to_core, self.counts, self._traces, self._clock)
        deliveries = self._deliveries = Deliveries(self._upstream, client, core, self._clock, random=self._random)
        http, provider = self._settings.gateway, self._settings.provider
        ways = stack.enter_context(listeners(http, tcp=self._settings.tcp))
        self._port = ways.port
        site = Site.of(http, self._port)
        sessions = Sessions(self._upstream, timeout_s=http.upstream_timeout_ms / 1_000)
        holds = Holds(sessions, self._clock)
        stack.push_async_callback(holds.close)
        connect_s = http.web.connect_timeout_ms / 1_000
        web = await stack.enter_async_context(open_web(site, sessions, holds, access, connect_s)) if site is not None else None
        addresses = Addresses(site, provider.id)
        app = App(self._settings, self._codec, self._upstream, token_check, access, users=users, addresses=addresses)
        console = self._console(access, site, addresses)
        desktops = Desktops(holds, connect_timeout_s=connect_s).path()
        sockets = (*self._sockets(token_check), desktops, *(console.sockets() if console is not None else ()))
        calls_in = app if self._traces is None else TracedCalls(app, self._traces, provider.names, follow=http.trust_traces)
        paths = SocketPaths(sockets, provider.names)
        door = Door(calls_in, paths, self._codec, access, web=web, console=console, open_now=self.counts.sockets_open)
        grace_s, request_s = http.stop_grace_ms / 1_000, http.request_timeout_ms / 1_000
        server = EmbeddedServer(door, grace_s=grace_s, request_timeout_s=request_s, sockets=door.rules, pages=web)
        # A task that fails takes the whole gateway down, and the body of `async with` with it: nothing runs on half of it.
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        delivering = tasks.create_task(deliveries.run(), name="deliveries")
        stack.push_async_callback(self._stop_deliveries, deliveries, delivering)
        for comparison in _comparisons(self._upstream, CoreQuestions(calls, self._codec), core, self._clock):
            work = Reconciliation(comparison, core, self._clock, random=self._random)
            stack.push_async_callback(_cancel, tasks.create_task(work.run(), name=f"reconciliation of {comparison.of}"))
        if web is not None and http.web.authz_socket:
            questions = stack.enter_context(unix_listener(Path(http.web.authz_socket), "gateway.web.authz_socket"))
            await _serve(EmbeddedServer(web.authz, grace_s=1.0, request_timeout_s=request_s), [questions], tasks, stack, "authz")
        await _serve(server, ways.sockets, tasks, stack, "http")

    def _sockets(self, token_check: TokenCheck) -> tuple[SocketPath, ...]:
        """UCloud's WebSockets."""
        providers = self._settings.provider.names
        unproven = Unproven()
        following = Following(self._upstream, token_check, self._clock, self._random, providers, unproven)
        shells = ShellCalls(self._upstream, self._clock, self._random, providers, unproven)
        return SocketPath(FOLLOW, FollowCalls(following), follow.RULES), SocketPath(SHELL, shells, shell.RULES)

    def _console(self, access: Access, site: Site | None, addresses: Addresses) -> Console | None:
        """None = our own pages are not served."""
        if not self._settings.gateway.console:
            return None
        if site is not None and site.by_path:
            _log.warning(
                "the console is not served: with gateway.web.mode = path, jobs' pages share its origin and could act for operators"
            )
            return None
        web_address = addresses.page if site is not None else None
        return Console(self._settings, self._codec, self._upstream, access, self._clock, web_address=web_address)

    async def _stop_deliveries(self, deliveries: Deliveries, delivering: asyncio.Task[None]) -> None:
        deliveries.stop()
        done, _ = await asyncio.wait({delivering}, timeout=self._settings.gateway.stop_grace_ms / 1_000)
        if not done:
            _log.warning("deliveries did not end in time and are cut off; they are sent again after the next start")
            delivering.cancel()


def _user_check(settings: Settings, clock: Clock) -> UserCheck | None:
    """None = calls of users are not served. KeyFileError when their key is asked for and is not there."""
    users = settings.gateway.users
    if not users.public_key_file:
        return None
    hint = "put the key there with which Core signs its users' tokens"
    return UserCheck(PublicKeyFile(Path(users.public_key_file), clock, setting=SETTING, hint=hint), clock, users.issuer)


def _comparisons(upstream: Upstream, questions: CoreQuestions, core: CoreSettings, clock: Clock) -> list[Comparison]:
    """Those that this Core needs: of 2021 it asks about jobs by itself. Each goes on without the other."""
    if not core.reconcile_every_ms:
        return []
    of_licenses = LicenseComparison(upstream, questions, core, clock)
    return [of_licenses] if core.generation == "2021" else [JobComparison(upstream, questions, core, clock), of_licenses]


async def _cancel(task: asyncio.Task[None]) -> None:
    """For work that may be cut off anywhere."""
    task.cancel()
    await asyncio.wait({task})


async def _serve(server: EmbeddedServer, sockets: list[socket.socket], tasks: asyncio.TaskGroup, stack: AsyncExitStack, name: str) -> None:
    serving = tasks.create_task(server.serve(sockets), name=name)
    stack.push_async_callback(server.stop, serving)
    await server.wait_started(serving)


class EmbeddedServer(uvicorn.Server):
    """uvicorn in a loop of ours: no signal handlers, and one can wait for its start."""

    def __init__(
        self,
        app: Callable[..., object],
        *,
        grace_s: float,
        request_timeout_s: float = 30.0,
        sockets: Find | None = None,
        pages: Pages | None = None,
    ) -> None:
        """`sockets`: which WebSockets there are; None = none. `pages`: who serves applications' pages; None = nobody."""
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=bounded(request_timeout_s, sockets, pages),
                ws="websockets-sansio",  # its limits: serai_gateway.ws.protocol
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, round(grace_s)),
            )
        )
        self._has_started = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set()

    async def wait_started(self, serving: asyncio.Task[None]) -> None:
        """Returns when it accepts connections, or when `serving` ended before that."""
        starting = asyncio.ensure_future(self._has_started.wait())
        try:
            await asyncio.wait({starting, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            starting.cancel()

    async def stop(self, serving: asyncio.Task[None]) -> None:
        """Stops accepting; returns when requests in flight have ended or the grace is over."""
        self.should_exit = True
        await asyncio.wait({serving})
