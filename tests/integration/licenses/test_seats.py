"""Seats from the side of jobs: taken with the start, given back with the end, given on in order; news of a license reaches who waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.core_on import START_MS, core_on, patiently, states, terminate, until
from fakes.instant import InstantMachine
from fakes.licensed import SecretsBackend, license_message, licensed_job, licenses_plan, ready, server_message
from fakes.lmgrd import FakeLmgrd
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import JOB_BIND_KIND_BIND, JOB_BIND_KIND_UNBIND
from serai.licenses.v1.license_servers_service_pb2 import LicenseFeature
from serai_backends.model import End
from serai_server.jobs import causes
from serai_server.licenses.access import OPERATOR
from serai_server.main import Core
from serai_server.store.model import State


@dataclass
class Site:
    core: Core
    backend: SecretsBackend
    clock: FakeClock

    async def running(self, job_id: str) -> None:
        await until(self.core, job_id, lambda row: row.state is State.RUNNING, self.clock)

    async def waiting(self, job_id: str, words: str) -> None:
        await until(self.core, job_id, lambda row: words in row.status, self.clock)

    async def held(self) -> tuple[str, ...]:
        return (await self.core.store.licenses.bound_to(["5123"]))["5123"]

    async def bindings(self) -> list[tuple[int, str]]:
        """As Core is told them, in order."""
        updates = [Event.FromString(e.body).license_update for e in await self.core.store.events("core", 0, 1_000) if e.license_id]
        return [(update.binding.kind, update.binding.job) for update in updates if update.HasField("binding")]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    """One seat, and a license that is READY."""
    clock, backend = FakeClock(START_MS), SecretsBackend(InstantMachine())
    async with FakeLmgrd(solver=9) as lmgrd, core_on(tmp_path, backend, clock, licenses=licenses_plan(tmp_path)) as core:
        await core.licensing.servers.add(server_message(lmgrd.port, 1), b"")
        await core.licensing.of_core.create([license_message("5123")])
        await ready(core)
        yield Site(core, backend, clock)


async def test_seats_go_on_in_order_and_core_is_told(site: Site) -> None:
    """BIND with the start and UNBIND with the end of each, one after the other."""
    await site.core.jobs.create([licensed_job(name, "hang") for name in ("1", "2", "3")])
    await site.running("1")
    await site.waiting("2", "1 of 1 seats in use")
    for name, after in (("1", "2"), ("2", "3")):
        site.backend.end(name, 0, End.EXITED, exit_code=0)
        await site.running(after)
        assert await site.held() == (after,)
    site.backend.end("3", 0, End.EXITED, exit_code=0)
    await until(site.core, "3", lambda row: row.state is State.SUCCESS)
    assert await site.held() == ()
    both = [(JOB_BIND_KIND_BIND, JOB_BIND_KIND_UNBIND)] * 3
    assert await site.bindings() == [(kind, name) for name, kinds in zip("123", both, strict=True) for kind in kinds]


async def test_more_seats_reach_who_waits(site: Site) -> None:
    """As soon as the operator has given them, without any time that passes."""
    await site.core.jobs.create([licensed_job(name, "hang") for name in ("1", "2")])
    await site.waiting("2", "1 of 1 seats in use")
    await site.core.licensing.operations.set_seats("lm", [LicenseFeature(name="solver", seats=2)])
    await until(site.core, "2", lambda row: row.state is State.RUNNING)
    assert await site.held() == ("1", "2")


async def test_a_job_that_is_stopped_while_it_waits(site: Site) -> None:
    """Never runs, was bound to nothing, and lets the next one pass."""
    await site.core.jobs.create([licensed_job(name, "hang") for name in ("1", "2", "3")])
    await site.waiting("3", "1 of 1 seats in use")
    await terminate(site.core, "2")
    await until(site.core, "2", lambda row: row.state is State.SUCCESS)
    site.backend.end("1", 0, End.EXITED, exit_code=0)
    await site.running("3")
    assert "2" not in site.backend.machine.jobs
    assert "2" not in {job for _, job in await site.bindings()}
    assert await states(site.core, "2") == ["SUCCESS"]


async def test_a_license_that_is_deleted_while_a_job_waits(site: Site) -> None:
    """It ends, and says why; the one that runs goes on, and its UNBIND is not told of what Core has no more."""
    await site.core.jobs.create([licensed_job(name, "hang") for name in ("1", "2")])
    await site.waiting("2", "1 of 1 seats in use")
    await site.core.licensing.service.delete(["5123"], OPERATOR)
    await until(site.core, "2", lambda row: row.state is State.FAILURE and row.status == causes.LICENSE_GONE)
    assert await site.held() == ("1",)
    site.backend.end("1", 0, End.EXITED, exit_code=0)
    await until(site.core, "1", lambda row: row.state is State.SUCCESS)
    assert (await site.held(), await site.bindings()) == ((), [(JOB_BIND_KIND_BIND, "1")])


async def test_a_server_that_is_removed_and_added_again(site: Site) -> None:
    """The job that waits is told so, and runs once there is one again; the one that runs keeps its seat all the time."""
    await site.core.jobs.create([licensed_job(name, "hang") for name in ("1", "2")])
    await site.waiting("2", "1 of 1 seats in use")
    port = site.core.licensing.servers.watcher("lm").addresses[0][1]
    await site.core.licensing.operations.remove("lm", force=True)

    async def told() -> bool:
        row = await site.core.store.job("2")
        return row is not None and "taken its license server away" in row.status

    await patiently(told, site.clock)
    assert await site.held() == ("1",)
    await site.core.licensing.servers.add(server_message(port, 1, name="again"), b"")
    site.backend.end("1", 0, End.EXITED, exit_code=0)
    await until(site.core, "2", lambda row: row.state is State.RUNNING, site.clock)
    assert await site.held() == ("2",)
