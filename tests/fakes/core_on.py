"""The server's inside on a real store, with a backend and a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from serai.events.v1.events_service_pb2 import Charge
from serai.jobs.v1.job_pb2 import Job, JobState, JobUpdate
from serai_backends.api import Backend
from serai_backends.model import Resources
from serai_server.jobs.products import MINUTE_MS, Product
from serai_server.jobs.requests import Policy
from serai_server.licensing import LicensesPlan
from serai_server.main import Core, Plan, running_core
from serai_server.sessions.limits import SessionLimits
from serai_server.store.model import EventKind, StoredEvent, StoredJob

from fakes.clock import FakeClock
from fakes.jobs import seed_job

START_MS = 1_700_000_010_000
PRODUCTS = (
    Product("example-compute-1", "example-compute", "example", Resources(1, 2 << 30), MINUTE_MS),
    Product("unit", "example-compute", "example", Resources(1, 2 << 30), 0),
)


def job(job_id: str, *words: str, replicas: int = 1, product: str = "example-compute-1", minutes: int = 60) -> Job:
    """A job whose command line is `words`, which InstantBackend understands. `minutes` 0 = without a limit."""
    message = seed_job(job_id)
    message.specification.replicas = replicas
    message.specification.product.id = product
    message.specification.time_allocation.hours, message.specification.time_allocation.minutes = divmod(minutes, 60)
    if not minutes:
        message.specification.ClearField("time_allocation")
    message.specification.parameters.clear()
    invocation = message.status.resolved_application.invocation
    invocation.allow_multi_node = True
    del invocation.invocation[:]
    del invocation.parameters[:]
    for word in words:
        invocation.invocation.add().word.word = word
    return message


def plan_on(
    folder: Path,
    *,
    products: tuple[Product, ...] = PRODUCTS,
    today: bool = False,
    charge_every_ms: int = 15 * MINUTE_MS,
    licenses: LicensesPlan | None = None,
    sessions: SessionLimits | None = None,
    web_pages: bool = False,
    store_url: str = "",
) -> Plan:
    """Everything in `folder`."""
    return Plan(
        store_url=store_url or f"sqlite:///{folder / 'serai.db'}",
        products=products,
        policy=Policy(most_replicas=100, undeclared_parameters=False, drive=lambda user, project: project or user),
        today=today,
        charge_every_ms=charge_every_ms,
        workers=4,
        licenses=licenses or LicensesPlan(folder / "licenses.key"),
        sessions=sessions or SessionLimits(),
        web_pages=web_pages,
    )


@contextlib.asynccontextmanager
async def core_on(
    folder: Path,
    backend: Backend,
    clock: FakeClock,
    *,
    products: tuple[Product, ...] = PRODUCTS,
    today: bool = False,
    charge_every_ms: int = 15 * MINUTE_MS,
    licenses: LicensesPlan | None = None,
    sessions: SessionLimits | None = None,
    web_pages: bool = False,
    store_url: str = "",
) -> AsyncGenerator[Core]:
    plan = plan_on(
        folder,
        products=products,
        today=today,
        charge_every_ms=charge_every_ms,
        licenses=licenses,
        sessions=sessions,
        web_pages=web_pages,
        store_url=store_url,
    )
    async with running_core(plan, backend, clock, jitter=lambda: 0.5) as core:
        yield core


async def until(core: Core, job_id: str, condition: Callable[[StoredJob], bool], clock: FakeClock | None = None) -> StoredJob:
    """The row, once the condition holds. A clock that is given moves on a second at each look, so that back-offs pass."""
    async with asyncio.timeout(20):
        while True:
            row = await core.store.job(job_id)
            if row is not None and condition(row):
                return row
            if clock is not None:
                clock.move(1_000)
            await asyncio.sleep(0.01)


async def patiently(condition: Callable[[], Awaitable[bool]], clock: FakeClock | None = None) -> None:
    """Until the condition holds. A clock that is given moves on a second at each look."""
    async with asyncio.timeout(20):
        while not await condition():
            if clock is not None:
                clock.move(1_000)
            await asyncio.sleep(0.01)


def settled(row: StoredJob) -> bool:
    return row.forgotten_at_ms > 0


async def terminate(core: Core, *job_ids: str) -> None:
    """As an operator's tool does."""
    await core.changes.terminate([Job(id=job_id) for job_id in job_ids], for_core=False)


async def told(core: Core, job_id: str) -> list[StoredEvent]:
    """What Core has not settled yet."""
    return [e for e in await core.store.events("core", 0, 1_000) if e.job_id == job_id]


async def updates(core: Core, job_id: str) -> list[JobUpdate]:
    return [JobUpdate.FromString(e.body) for e in await told(core, job_id) if e.kind is EventKind.JOB_UPDATE]


async def states(core: Core, job_id: str) -> list[str]:
    return [JobState.Name(u.state).removeprefix("JOB_STATE_") for u in await updates(core, job_id) if u.HasField("state")]


async def charge_messages(core: Core, job_id: str) -> list[Charge]:
    return [Charge.FromString(e.body) for e in await told(core, job_id) if e.kind is EventKind.CHARGE]


async def charges(core: Core, job_id: str) -> list[tuple[str, int, int]]:
    return [(c.charge_id, c.units, c.number_of_products) for c in await charge_messages(core, job_id)]
