"""From the settings file to what the server is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
from serai_backends.api import Backend
from serai_backends.clock import SteadyClock, open_clock
from serai_backends.local.backend import check_local, open_local
from serai_backends.local.settings import LocalSettings
from serai_backends.model import CheckReport

from serai_server.cli.config import Settings
from serai_server.jobs.inputs import MappedDrive
from serai_server.jobs.products import DAY_MS
from serai_server.jobs.requests import Policy
from serai_server.main import Plan


def plan_of(settings: Settings) -> Plan:
    """The server's plan."""
    today = settings.core.generation == "2026"
    return Plan(
        store_url=settings.store.url,
        products=settings.sold(),
        policy=Policy(
            most_replicas=settings.jobs.most_replicas,
            undeclared_parameters=today,
            drive=settings.drives.drive,
            mapped={
                d.id: MappedDrive(read_only=d.read_only, users=frozenset(d.users), projects=frozenset(d.projects))
                for d in settings.drives.mapped
            },
            todays_texts=today,
        ),
        today=today,
        out_of_funds_ms=settings.jobs.out_of_funds_ms,
        charge_every_ms=settings.jobs.charge_every_ms,
        stop_grace_ms=settings.jobs.stop_grace_ms,
        workers=settings.jobs.workers,
        keep_events_ms=settings.store.keep_events_days * DAY_MS,
    )


@contextlib.asynccontextmanager
async def open_backend(settings: Settings) -> AsyncGenerator[tuple[Backend, SteadyClock]]:
    """The backend that the settings name, with what earlier servers started adopted, and the clock that it shares with the server.

    Raises BackendUnavailable, OSError.
    """
    local = local_settings(settings)
    # Before any part makes a folder of its own in it, which would leave this one open to everybody.
    await asyncio.to_thread(settings.state_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    await asyncio.to_thread(Path(local.drives_dir).mkdir, mode=0o700, parents=True, exist_ok=True)
    clock = await asyncio.to_thread(open_clock, settings.state_dir)
    backend = await open_local(local, clock)
    try:
        yield backend, clock
    finally:
        await backend.close()


async def check_backend(settings: Settings) -> CheckReport:
    """Whether jobs could run here, also beside a server that runs."""
    local = local_settings(settings)
    # Drives that are not there yet are made at the first start: then it is their parent that must be writable.
    root = next(folder for folder in (Path(local.drives_dir), *Path(local.drives_dir).parents) if folder.exists())
    return await check_local(msgspec.structs.replace(local, drives_dir=str(root)))


def local_settings(settings: Settings) -> LocalSettings:
    """`[backend.local]` in the backend's own words."""
    local = settings.backend.local
    return LocalSettings(
        state_dir=str(settings.state_dir / "local"),
        drives_dir=local.drives_dir,
        drives={d.id: d.path for d in settings.drives.mapped},
        cpu=local.cpu,
        memory_bytes=int(local.memory_gib * 2**30),
        program_dirs=local.program_dirs,
        uid_first=local.uid_first,
        uid_count=local.uid_count,
        tmpfs_bytes=local.tmpfs_mib * 2**20,
        pids=local.pids,
        bwrap=local.bwrap,
    )
