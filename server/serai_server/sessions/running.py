"""The parts of sessions, put together and kept running beside the server's core."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import structlog
from serai_backends.api import Backend, OpensShells

from serai_server.clock import Clock
from serai_server.jobs.products import Catalog
from serai_server.jobs.registry import Registry as Jobs
from serai_server.sessions.endpoints import EndpointCache
from serai_server.sessions.keeper import Keeper
from serai_server.sessions.limits import SessionLimits
from serai_server.sessions.ranks import Ranks
from serai_server.sessions.registry import Registry
from serai_server.sessions.service import SessionsService
from serai_server.sessions.shells import ShellHub
from serai_server.store.api import Store, StoreError
from serai_server.store.model import Committed

log = structlog.get_logger("serai.sessions")


@dataclass(slots=True)
class SessionsMemory:
    """What the store's listener feeds, made before the store is opened."""

    endpoints: EndpointCache
    registry: Registry = field(default_factory=Registry)

    def committed(self, changes: Sequence[Committed]) -> None:
        self.registry.committed(changes)
        self.endpoints.committed(changes)


@dataclass(frozen=True, slots=True)
class Sessions:
    """What `running_sessions` runs."""

    service: SessionsService
    keeper: Keeper
    shells: ShellHub
    registry: Registry


@contextlib.asynccontextmanager
async def running_sessions(
    *, memory: SessionsMemory, store: Store, backend: Backend, jobs: Jobs, catalog: Catalog, limits: SessionLimits, clock: Clock
) -> AsyncGenerator[Sessions]:
    """Sessions of the store, loaded and looked after. Leaving ends every shell, and no other session."""
    ranks = Ranks(backend)
    keeper = Keeper(store=store, registry=memory.registry, jobs=jobs, ranks=ranks, limits=limits, clock=clock)
    await keeper.load()
    service = SessionsService(
        store=store,
        registry=memory.registry,
        jobs=jobs,
        catalog=catalog,
        endpoints=memory.endpoints,
        ranks=ranks,
        limits=limits,
        clock=clock,
        drop=keeper.drop,
    )
    opens_shells = backend if isinstance(backend, OpensShells) and backend.features.terminal else None
    shells = ShellHub(backend=opens_shells, sessions=service, jobs=jobs, clock=clock, detached_ms=limits.shell_detached_ms)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(keeper.run())
        try:
            async with shells:
                yield Sessions(service, keeper, shells, memory.registry)
        finally:
            work.cancel()
            await _save(keeper)


async def _save(keeper: Keeper) -> None:
    try:
        await keeper.save()
    except StoreError as error:
        log.warning("sessions.not_kept", why=str(error))
