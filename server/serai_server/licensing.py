"""The part of the composition root that is about licenses: makes what `licenses/` consists of and ties it together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from serai_backends.api import Backend, TakesSecrets

from serai_server.clock import Clock
from serai_server.licenses.charges import Charging
from serai_server.licenses.in_jobs import LicensesInJobs
from serai_server.licenses.payments import LicensePayments
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.provider import LicensesOfCore
from serai_server.licenses.seats import Seats
from serai_server.licenses.servers.operations import LicenseServerOperations
from serai_server.licenses.servers.registry import Servers, running_servers
from serai_server.licenses.servers.watcher import Pacing
from serai_server.licenses.service import LicensesService
from serai_server.licenses.settled import LicenseSettlements
from serai_server.licenses.states import LicenseStates
from serai_server.store.api import Store
from serai_server.store.license_model import LicenseState


@dataclass(frozen=True, slots=True)
class LicensesPlan:
    """What licenses are made of, in the server's own words."""

    key_file: Path
    """Keys with which the vendors' keys are sealed."""
    products: tuple[LicenseProduct, ...] = ()
    register_at_core: bool = True
    most_per_user: int = 100
    """Licenses that one user makes here in one workspace."""
    pacing: Pacing = Pacing()
    probe_timeout_ms: int = 3_000
    lmutil: str = ""
    """Empty = only seats of our own jobs are counted."""


@dataclass(frozen=True, slots=True)
class Licensing:
    """All that the rest of the server needs of licenses."""

    service: LicensesService
    of_core: LicensesOfCore
    operations: LicenseServerOperations
    payments: LicensePayments
    in_jobs: LicensesInJobs
    seats: Seats
    settlements: LicenseSettlements
    servers: Servers


@contextlib.asynccontextmanager
async def running_licenses(
    plan: LicensesPlan,
    store: Store,
    backend: Backend,
    *,
    charging: Charging,
    clock: Clock,
    wall: Callable[[], int],
    wake: Callable[[str], None],
    look: Callable[[str], None],
) -> AsyncGenerator[Licensing]:
    """Licenses that follow their servers, and seats that go to those who wait. `wake` has a job looked at as soon as may be,
    `look` when nothing else is to do. Raises StoreError."""
    catalog, licenses = LicenseCatalog(plan.products), store.licenses
    async with contextlib.AsyncExitStack() as stack:
        servers = await stack.enter_async_context(
            running_servers(
                licenses, clock, key_file=plan.key_file, pacing=plan.pacing, probe_timeout_ms=plan.probe_timeout_ms, lmutil=plan.lmutil
            )
        )
        seats = Seats(store=store, catalog=catalog, servers=servers, clock=clock, wall=wall, wake=wake, look=look)

        def moved(product: str, state: LicenseState) -> None:
            if state is LicenseState.READY:
                seats.look([product])
            else:
                seats.tell(product)

        states = LicenseStates(store=licenses, catalog=catalog, servers=servers, charging=charging, clock=clock, wall=wall, moved=moved)

        def changed(product: str) -> None:
            """Some of its licenses came, were changed or deleted."""
            servers.look_soon(product)
            states.look(product)
            seats.deleted(product)

        def settled(product: str) -> None:
            """Core has told of some: that one is paid, or that it does not know it."""
            states.look(product)
            seats.look([product])
            seats.deleted(product)

        in_jobs = LicensesInJobs(store=licenses, catalog=catalog, servers=servers)
        if isinstance(backend, TakesSecrets):
            backend.take_secrets_from(in_jobs.secrets)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for work in (group.create_task(seats.run()), group.create_task(states.run())):
            stack.callback(work.cancel)
        yield Licensing(
            service=LicensesService(
                store=licenses, catalog=catalog, look=changed, wall=wall, register_at_core=plan.register_at_core, most=plan.most_per_user
            ),
            of_core=LicensesOfCore(store=licenses, catalog=catalog, look=changed, wall=wall),
            operations=LicenseServerOperations(servers, licenses, catalog, wall),
            payments=LicensePayments(store=licenses, catalog=catalog, charging=charging, wall=wall, look=states.look),
            in_jobs=in_jobs,
            seats=seats,
            settlements=LicenseSettlements(store=licenses, catalog=catalog, charging=charging, wall=wall, look=settled),
            servers=servers,
        )
