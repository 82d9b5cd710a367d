"""The composition root: makes every part of the server from its settings and wires them, and nothing else does.

Order of start: store, event log, registry, backend, reconciler, gRPC. Stop is the other way round; jobs go on and are found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from serai_backends.api import Backend, NeedsImages
from serai_backends.clock import wall_ms
from serai_backends.common.work_queue import WorkQueue
from serai_telemetry.spans import Traces

from serai_server.clock import Clock
from serai_server.counts import Counts
from serai_server.events.log import EventLog
from serai_server.jobs.changes import JobChanges
from serai_server.jobs.decision import Rules
from serai_server.jobs.output import Output
from serai_server.jobs.products import DAY_MS, Catalog, Product
from serai_server.jobs.reconciler import Reconciler
from serai_server.jobs.registry import Registry
from serai_server.jobs.requests import Policy
from serai_server.jobs.service import JobsService
from serai_server.ledger.funds import Funds
from serai_server.licenses.charges import Charging
from serai_server.licensing import LicensesPlan, Licensing, running_licenses
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.rpc.tools_door import Keyring, Opened, Place, tools_door
from serai_server.sessions.endpoints import EndpointCache
from serai_server.sessions.limits import SessionLimits
from serai_server.sessions.running import Sessions, SessionsMemory, running_sessions
from serai_server.store.api import Store, StoreError, StoreUnavailable
from serai_server.store.model import Committed
from serai_server.store.open import open_store
from serai_server.tokens.certificates import Client
from serai_server.tokens.registry import Registry as TokensRegistry
from serai_server.tokens.running import Tokens, running_tokens

log = structlog.get_logger("serai.server")

_PING_S = 5.0
"""Seconds between two looks at whether the store answers."""
_PRUNE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the server is made of, in its own words; `cli/config.py` makes it from the settings file."""

    store_url: str
    products: tuple[Product, ...]
    policy: Policy
    today: bool
    """Core is that of 2026, not of 2021."""
    charge_every_ms: int
    stop_grace_ms: int = 0
    """ms between SIGTERM and SIGKILL when a job is stopped."""
    workers: int = 16
    out_of_funds_ms: int = 300_000
    """For how long an owner whose charge could not be paid is refused new jobs; 0 = not at all."""
    keep_events_ms: int = 30 * DAY_MS
    """How long an event is kept after every consumer has settled it."""
    licenses: LicensesPlan = LicensesPlan(Path("licenses.key"))
    sessions: SessionLimits = SessionLimits()
    clients: tuple[Client, ...] = ()
    """Whose certificates are known at the tools' door."""
    web_pages: bool = False
    """The gateway serves the web pages of jobs."""


class PlanError(Exception):
    """The plan and the backend do not go together; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Core:
    """The running server, without its gRPC front."""

    jobs: JobsService
    changes: JobChanges
    events: EventLog
    store: Store
    backend: Backend
    registry: Registry
    licensing: Licensing
    sessions: Sessions
    tokens: Tokens
    queue: WorkQueue
    """The reconciler's."""
    funds: Funds
    counts: Counts


@dataclass(frozen=True, slots=True)
class Server:
    core: Core
    dispatcher: Dispatcher
    """The way in for calls from the same process."""
    socket: Path
    """The way in for the gateway and the operator."""
    health: Health
    tools_address: str = ""
    """Where tools from elsewhere come in; empty = nowhere."""
    end_tools_streams: Callable[[], None] = lambda: None
    """See tools_door.Opened."""


@contextlib.asynccontextmanager
async def running_server(
    plan: Plan,
    backend: Backend,
    clock: Clock,
    socket: Path,
    stop_grace_ms: int,
    *,
    tools: Place | None = None,
    traces: Traces | None = None,
) -> AsyncGenerator[Server]:
    """The whole server, from an open store to a socket that answers. Leaving stops it; running jobs go on.

    `tools`: where their door is; None = they have none. `traces` None = no spans.
    """
    health = Health()
    async with running_core(plan, backend, clock, wall=wall_ms, traces=traces) as core:
        health.tell("reconciler", up=True)
        front = dispatcher(
            jobs=core.jobs,
            changes=core.changes,
            events=core.events,
            licenses=core.licensing.service,
            licenses_of_core=core.licensing.of_core,
            license_servers=core.licensing.operations,
            license_payments=core.licensing.payments,
            sessions=core.sessions.service,
            shells=core.sessions.shells,
            tokens=core.tokens.service,
            health=health,
            clock=clock,
            counts=core.counts.rpc,
            traces=traces,
        )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch_store(core.store, health, clock))
            pruning = group.create_task(_prune(core.store, plan.keep_events_ms, clock))
            async with grpc_server(front, socket, stop_grace_ms / 1000), _tools(core.tokens, front, tools, clock, stop_grace_ms) as door:
                try:
                    yield Server(core, front, socket, health, door.address, door.end_streams)
                finally:
                    health.tell("reconciler", up=False)
                    # While there still is a way to tell who is in one.
                    await core.sessions.shells.stop(stop_grace_ms / 1000)
            watching.cancel()
            pruning.cancel()


@contextlib.asynccontextmanager
async def _tools(tokens: Tokens, front: Dispatcher, place: Place | None, clock: Clock, stop_grace_ms: int) -> AsyncGenerator[Opened]:
    """The tools' door, or one that nobody comes to."""
    if place is None:
        yield Opened("", lambda: None)
        return
    async with tools_door(front, Keyring(tokens.registry, tokens.certificates, clock), place, stop_grace_ms / 1000) as door:
        yield door


async def _watch_store(store: Store, health: Health, clock: Clock) -> None:
    """Tells health whether the store answers."""
    while True:
        try:
            await store.ping()
            health.tell("store", up=True)
        except StoreUnavailable as error:
            health.tell("store", up=False)
            log.warning("store.down", why=str(error))
        await clock.sleep(_PING_S)


async def _prune(store: Store, keep_ms: int, clock: Clock) -> None:
    """Keeps the log from growing for ever."""
    while True:
        try:
            dropped = await store.prune(clock.now_ms() - keep_ms)
            log.info("events.pruned", events=dropped)
        except StoreError as error:
            log.warning("events.not_pruned", why=str(error))
        await clock.sleep(_PRUNE_S)


@contextlib.asynccontextmanager
async def running_core(
    plan: Plan,
    backend: Backend,
    clock: Clock,
    jitter: Callable[[], float] = random.random,
    wall: Callable[[], int] | None = None,
    *,
    traces: Traces | None = None,
) -> AsyncGenerator[Core]:
    """The server's inside, from an open store to a reconciler at work. Leaving stops it; running jobs go on. `wall` None = the clock's;
    `traces` None = no spans."""
    counts = Counts()
    registry = Registry(counts.jobs)
    memory = SessionsMemory(EndpointCache(backend, clock))
    known_tokens = TokensRegistry()
    # Whatever the backend can do: web pages need a way in from outside, and secrets are for licenses.
    features = replace(
        backend.features,
        web=backend.features.web and plan.web_pages,
        secrets=backend.features.secrets and bool(plan.licenses.products),
    )
    catalog = Catalog(plan.products, features, backend.needs_image if isinstance(backend, NeedsImages) else None)
    if problems := catalog.unsellable():
        raise PlanError("; ".join(problems))
    queue = WorkQueue(clock, jitter)
    told: list[Callable[[int], None]] = []

    def listener(changes: Sequence[Committed]) -> None:
        registry.committed(changes)
        memory.committed(changes)
        known_tokens.committed(changes)
        last_event = max((change.last_event for change in changes), default=0)
        for tell in told:
            tell(last_event)

    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(plan.store_url, listener, counts=counts.store, traces=traces))
        funds = Funds(clock, plan.out_of_funds_ms)
        funds.load(await store.unpaid(clock.now_ms() - plan.out_of_funds_ms))
        licensing = await stack.enter_async_context(
            running_licenses(
                plan.licenses,
                store,
                backend,
                charging=Charging(repeats=plan.today),
                clock=clock,
                wall=wall or clock.now_ms,
                wake=queue.add,
                look=queue.look,
            )
        )
        events = EventLog(store, clock, funds, licensing.settlements, counts.ledger)
        await events.load()
        told.append(events.notify)
        reconciler = Reconciler(
            store=store,
            backend=backend,
            catalog=catalog,
            policy=plan.policy,
            registry=registry,
            queue=queue,
            clock=clock,
            rules=Rules(exit_code_is_failure=plan.today, charge_every_ms=plan.charge_every_ms),
            stop_grace_ms=plan.stop_grace_ms,
            workers=plan.workers,
            licenses=licensing.in_jobs,
            seats=licensing.seats,
            counts=counts,
            traces=traces,
        )
        output = Output(backend, registry)
        jobs = JobsService(
            store=store,
            registry=registry,
            backend=backend,
            catalog=catalog,
            policy=plan.policy,
            output=output,
            funds=funds,
            clock=clock,
            licenses=licensing.in_jobs,
            traces=traces,
        )
        changes = JobChanges(
            store=store,
            backend=backend,
            catalog=catalog,
            clock=clock,
            wall=wall or clock.now_ms,
            look=queue.look,
            knows_suspended=plan.today,
        )
        sessions = await stack.enter_async_context(
            running_sessions(memory=memory, store=store, backend=backend, jobs=registry, catalog=catalog, limits=plan.sessions, clock=clock)
        )
        tokens = await stack.enter_async_context(running_tokens(registry=known_tokens, store=store, clients=plan.clients, clock=clock))
        ready = asyncio.Event()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        work = group.create_task(reconciler.run(ready))
        stack.callback(work.cancel)
        await _ready_or_failed(ready, work)
        yield Core(jobs, changes, events, store, backend, registry, licensing, sessions, tokens, queue, funds, counts)


async def _ready_or_failed(ready: asyncio.Event, work: asyncio.Task[None]) -> None:
    waiter = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait((waiter, work), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
    if work.done():
        work.result()
