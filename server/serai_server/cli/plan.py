"""From the settings file to what the server is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
from serai_backends.api import Backend
from serai_backends.clock import SteadyClock, open_clock
from serai_backends.errors import BackendUnavailable
from serai_backends.local.backend import check_local, open_local
from serai_backends.local.settings import LocalSettings
from serai_backends.model import CheckReport
from serai_backends.nomad.backend import check_nomad, open_nomad
from serai_backends.nomad.settings import Firewall, NomadSettings, Placement

from serai_server.cli.config import Settings
from serai_server.cli.license_doctor import license_findings
from serai_server.jobs.inputs import MappedDrive
from serai_server.jobs.products import DAY_MS, HOUR_MS
from serai_server.jobs.requests import Policy
from serai_server.licenses.servers.watcher import Pacing
from serai_server.licensing import LicensesPlan
from serai_server.main import Plan
from serai_server.rpc.tls import Files
from serai_server.rpc.tools_door import Place
from serai_server.sessions.limits import SessionLimits
from serai_server.store.token_model import Role
from serai_server.tokens.certificates import Client


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
        licenses=_licenses(settings),
        sessions=SessionLimits(
            most_per_job=settings.sessions.most_per_job,
            most_shells=settings.sessions.most_shells,
            shell_detached_ms=settings.sessions.shell_detached_ms,
            idle_ms=settings.sessions.idle_ms,
            open_within_ms=settings.sessions.open_within_ms,
        ),
        web_pages=settings.gateway.web.mode != "off",
        clients=tuple(Client(c.name, Role[c.role.upper()], c.project) for c in settings.server.clients),
    )


def tools_place(settings: Settings) -> Place:
    """Where tools come in."""
    tools = settings.server.tools
    files = (
        Files(Path(tools.certificate), Path(tools.key), Path(tools.client_ca) if tools.client_ca else None) if tools.certificate else None
    )
    return Place(Path(tools.socket), int(tools.socket_mode, 8), tools.socket_group, tools.listen, files, tools.max_connections)


def _licenses(settings: Settings) -> LicensesPlan:
    """`[licenses]` in the server's own words."""
    licenses = settings.licenses
    return LicensesPlan(
        key_file=Path(licenses.encryption_key_file),
        products=settings.sold_licenses(),
        register_at_core=licenses.register_at_core,
        most_per_user=licenses.most_per_user,
        pacing=Pacing(
            probe_every_ms=licenses.probe_every_ms, probes_to_fail=licenses.probes_to_fail, observe_every_ms=licenses.observe_every_ms
        ),
        probe_timeout_ms=licenses.probe_timeout_ms,
        lmutil=licenses.lmutil,
    )


@contextlib.asynccontextmanager
async def open_backend(settings: Settings) -> AsyncGenerator[tuple[Backend, SteadyClock]]:
    """The backend that the settings name, with what earlier servers started adopted, and the clock that it shares with the server.

    Raises BackendUnavailable, OSError.
    """
    # Before any part makes a folder of its own in it, which would leave this one open to everybody.
    await asyncio.to_thread(settings.state_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    clock = await asyncio.to_thread(open_clock, settings.state_dir)
    if settings.backend.kind == "nomad":
        nomad = nomad_settings(settings)
        if nomad.work == "path" and not await asyncio.to_thread(Path(nomad.drives_dir).is_dir):
            # Made here it would be a folder of this machine, below a file system that is not mounted.
            words = f"backend.nomad.drives_dir {nomad.drives_dir} is not there: make it, or mount the shared file system there"
            raise BackendUnavailable(words)
        backend: Backend = await open_nomad(nomad, clock)
    else:
        local = local_settings(settings)
        await asyncio.to_thread(Path(local.drives_dir).mkdir, mode=0o700, parents=True, exist_ok=True)
        backend = await open_local(local, clock)
    try:
        yield backend, clock
    finally:
        await backend.close()


async def check_backend(settings: Settings) -> CheckReport:
    """Whether jobs could run here, also beside a server that runs."""
    report = await _check_backend(settings)
    return CheckReport((*report.findings, *license_findings(settings)))


async def _check_backend(settings: Settings) -> CheckReport:
    if settings.backend.kind == "nomad":
        return await check_nomad(nomad_settings(settings))
    local = local_settings(settings)
    # Drives that are not there yet are made at the first start: then it is their parent that must be writable.
    root = next(folder for folder in (Path(local.drives_dir), *Path(local.drives_dir).parents) if folder.exists())
    return await check_local(msgspec.structs.replace(local, drives_dir=str(root)))


def nomad_settings(settings: Settings) -> NomadSettings:
    """`[backend.nomad]` in the backend's own words."""
    nomad, mapped = settings.backend.nomad, settings.drives.mapped
    wall = nomad.firewall
    return NomadSettings(
        state_dir=str(settings.state_dir / "nomad"),
        provider=settings.provider.id,
        address=nomad.address,
        region=nomad.region,
        namespace=nomad.namespace,
        token_file=nomad.token_file,
        ca_cert=nomad.ca_cert,
        ca_path=nomad.ca_path,
        client_cert=nomad.client_cert,
        client_key=nomad.client_key,
        tls_server_name=nomad.tls_server_name,
        timeout_ms=nomad.timeout_ms,
        drives_dir=nomad.drives_dir,
        drives={d.id: d.path for d in mapped},
        node_drives_dir=nomad.node_drives_dir,
        node_drives={d.id: d.node_path for d in mapped if d.node_path},
        work=nomad.work,
        placements=tuple(
            Placement(
                product=p.product,
                driver=p.driver,
                node_pool=p.node_pool,
                datacenters=p.datacenters,
                constraints=tuple(_constraint(text) for text in p.constraints),
                device=p.device,
                priority=p.priority,
            )
            for p in nomad.placements
        ),
        network=nomad.network,
        firewall=Firewall(enabled=wall.enabled, nft=wall.nft, job_networks=wall.job_networks, closed=wall.closed, proxies=wall.proxies),
        raw_exec=nomad.raw_exec,
        root_in_containers=nomad.root_in_containers,
        mhz_per_core=nomad.mhz_per_core,
        scratch_mib=nomad.scratch_mib,
        kill_timeout_ms=settings.jobs.stop_grace_ms,
        placement_deadline_ms=nomad.placement_deadline_ms,
        node_lost_ms=nomad.node_lost_ms,
        backstop_ms=nomad.backstop_hours * HOUR_MS,
        cluster_grows=nomad.cluster_grows,
        uid_first=nomad.uid_first,
        uid_count=nomad.uid_count,
        sweep_ms=nomad.sweep_ms,
        shells=nomad.shells,
        releases=nomad.releases,
    )


def _constraint(text: str) -> tuple[str, str, str]:
    attribute, operator, value = text.split(" ", 2)
    return attribute, operator, value


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
        endpoint_users=local.endpoint_users,
    )
