"""The server's inside with a backend whose replicas can be reached, and jobs with a page and a desktop, for tests of sessions."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import structlog
from serai.jobs.v1.application_pb2 import ApplicationType
from serai.jobs.v1.job_pb2 import Job
from serai_server.jobs.products import Product
from serai_server.main import Core
from serai_server.sessions.limits import SessionLimits
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Asked, Opened, SessionsService
from serai_server.store.model import State
from serai_server.store.session_model import SessionKind
from structlog.typing import EventDict

from fakes.backends import InstantMachine, ReachableBackend
from fakes.clock import FakeClock
from fakes.core_on import PRODUCTS, START_MS, core_on, job, until

SHELL, WEB, VNC, CONSOLE = SessionKind.SHELL, SessionKind.WEB, SessionKind.VNC, SessionKind.CONSOLE
PASSWORD = "hunter2"


def reachable_job(job_id: str, *, replicas: int = 1, web_port: int | None = 8888, vnc_port: int | None = 5901) -> Job:
    """A job that runs until it is stopped, with a page and a desktop; None = without."""
    message = job(job_id, "hang", replicas=replicas, minutes=0)
    invocation = message.status.resolved_application.invocation
    invocation.application_type = ApplicationType.APPLICATION_TYPE_BATCH
    if web_port is not None:
        invocation.web.port = web_port
    if vnc_port is not None:
        invocation.vnc.port, invocation.vnc.password = vnc_port, PASSWORD
    return message


@dataclass
class Site:
    core: Core
    backend: ReachableBackend
    clock: FakeClock
    folder: Path

    @property
    def sessions(self) -> SessionsService:
        return self.core.sessions.service

    async def look(self) -> None:
        """The keeper looks, once more than by itself."""
        await self.core.sessions.keeper.look()

    async def run(self, *jobs: Job) -> None:
        """Create them and wait until they run."""
        await self.core.jobs.create(jobs)
        for one in jobs:
            await until(self.core, one.id, lambda row: row.state is State.RUNNING)

    async def open(self, kind: SessionKind, job_id: str = "", rank: int = 0, user: str = "") -> Opened:
        (opened,) = await self.sessions.open([Wanted(kind, job_id, rank)], user)
        return opened

    async def cookie(self, opened: Opened) -> str:
        """Of its first use."""
        session = opened.session
        return (await self.sessions.redeem(Asked(opened.secret, session.kind, session.job_id, session.rank)))[1]


@contextlib.asynccontextmanager
async def site_in(
    folder: Path,
    *,
    machine: InstantMachine | None = None,
    clock: FakeClock | None = None,
    limits: SessionLimits | None = None,
    store_url: str = "",
    products: tuple[Product, ...] = PRODUCTS,
) -> AsyncGenerator[Site]:
    """A server over what lies in `folder` and in `machine`: both outlive it."""
    clock = clock or FakeClock(START_MS)
    backend = ReachableBackend(machine or machine_at(clock))
    async with core_on(folder, backend, clock, sessions=limits, web_pages=True, store_url=store_url, products=products) as core:
        yield Site(core, backend, clock, folder)


def machine_at(clock: FakeClock) -> InstantMachine:
    return InstantMachine(ticks=itertools.count(clock.now_ms()))


@contextlib.contextmanager
def refusals() -> Generator[list[EventDict]]:
    """What is logged of refused sessions."""
    with structlog.testing.capture_logs() as lines:
        found: list[EventDict] = []
        try:
            yield found
        finally:
            found += [line for line in lines if line["event"] == "session.refused"]
