"""Seats from a job's request to its end, on the server's inside: what is refused, who waits, who is passed by and who is gone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from fakes.backends import InstantMachine
from fakes.clock import FakeClock
from fakes.core_on import START_MS, core_on, settled, until
from fakes.licensed import PRODUCT, SecretsBackend, license_message, licensed_job, licenses_plan, ready, server_message
from fakes.lmgrd import FakeLmgrd
from serai.licenses.v1.license_servers_service_pb2 import LicenseFeature
from serai_backends.model import End
from serai_server.errors import NotEnoughLicenses
from serai_server.jobs import causes
from serai_server.licenses.products import LicenseProduct
from serai_server.main import Core
from serai_server.store.model import State

OTHER = LicenseProduct("other", "example-license", "example")
LINE = [str(n) for n in range(20, 32)]
"""More jobs than are woken of one line at one time."""


class Site:
    def __init__(self, folder: Path, core: Core, backend: SecretsBackend, clock: FakeClock) -> None:
        self.folder, self.core, self.backend, self.clock = folder, core, backend, clock

    async def seats(self, count: int) -> None:
        await self.core.licensing.servers.set_seats("lm", [LicenseFeature(name="solver", seats=count)])

    async def come(self, *job_ids: str, licenses: Sequence[str] = ("5123",), replicas: int = 1) -> None:
        for job_id in job_ids:
            await self.core.jobs.create([licensed_job(job_id, "hang", licenses=licenses, replicas=replicas)])

    async def end(self, job_id: str) -> None:
        for rank in range(len(self.backend.machine.jobs[job_id].observation.replicas)):
            self.backend.end(job_id, rank, End.EXITED, exit_code=0)

    async def says(self, job_id: str, words: str) -> None:
        await until(self.core, job_id, lambda row: words in row.status, self.clock)

    async def runs(self, job_id: str) -> None:
        """Without help of the clock: not by the sweep, but because it was told."""
        await until(self.core, job_id, lambda row: row.state is State.RUNNING)


@contextlib.asynccontextmanager
async def site(folder: Path, *, seats: int, per_replica: bool = False) -> AsyncGenerator[Site]:
    """Licenses "5123" and "5124" of one product, "7001" of another that is not counted."""
    backend, clock = SecretsBackend(InstantMachine()), FakeClock(START_MS)
    async with FakeLmgrd() as server, core_on(folder, backend, clock, licenses=licenses_plan(folder, PRODUCT, OTHER)) as core:
        await core.licensing.servers.add(server_message(server.port, seats, per_replica=per_replica), b"")
        await core.licensing.servers.add(server_message(server.port, name="other", product=OTHER), b"")
        await core.licensing.of_core.create([license_message("5123"), license_message("5124"), license_message("7001", product=OTHER)])
        for name in ("5123", "5124", "7001"):
            await ready(core, name)
        yield Site(folder, core, backend, clock)


@pytest.mark.parametrize(
    ("per_replica", "replicas", "licenses", "words"),
    [
        (False, 9, ("5123", "7001", "5124"), ""),
        (True, 2, ("5123",), ""),
        (True, 1, ("5123", "5124", "5123"), ""),
        (
            True,
            3,
            ("5123",),
            'items[0].specification.parameters["license"]: the job needs 3 seats of the license and there are 2; use fewer replicas',
        ),
        (
            True,
            2,
            ("7001", "5123", "5124"),
            "items[0].specification.resources[1]: the job needs 4 seats of the license and there are 2; use fewer replicas or licenses of"
            " the same product",
        ),
    ],
)
async def test_more_seats_than_there_are_are_refused(
    tmp_path: Path, per_replica: bool, replicas: int, licenses: Sequence[str], words: str
) -> None:
    """Of all of a job's licenses of one product together, each counted once; the path is that of the license which is too much."""
    async with site(tmp_path, seats=2, per_replica=per_replica) as here:
        if not words:
            await here.come("2", licenses=licenses, replicas=replicas)
            await here.runs("2")
            return
        with pytest.raises(NotEnoughLicenses) as refused:
            await here.come("2", licenses=licenses, replicas=replicas)
        assert refused.value.text == words
        assert await here.core.store.job("2") is None


async def test_two_licenses_of_a_product_with_one_seat_never_fit(tmp_path: Path) -> None:
    """Without replicas there is one thing to do about it."""
    async with site(tmp_path, seats=1) as here:
        with pytest.raises(
            NotEnoughLicenses, match=r"needs 2 seats of the license and there is 1; use fewer licenses of the same product$"
        ):
            await here.come("2", licenses=("5123", "5124"))


async def test_fewer_seats_than_a_waiting_job_needs(tmp_path: Path) -> None:
    """It says so and everybody behind it goes on, however many there are like it; with more seats again it is the first."""
    async with site(tmp_path, seats=4, per_replica=True) as here:
        await here.come("1")
        await here.runs("1")
        large = ["2", "3", "4", "5", "6"]
        await here.come(*large, licenses=("5123", "7001"), replicas=4)
        await here.come("7", "8")
        await here.says("7", "came before it")
        await here.seats(3)
        for job_id in large:
            await here.says(job_id, "The job needs 4 seats of its license and there are 3. It waits until there are more.")
        await here.runs("7")
        await here.runs("8")
        await here.come("9", licenses=("7001",))
        await here.runs("9")
        for job_id in ("1", "7", "8"):
            await here.end(job_id)
            await until(here.core, job_id, settled)
        await here.seats(4)
        await here.runs("2")
        assert not {"3", "4", "5", "6"} & set(here.backend.machine.jobs)


async def test_all_who_wait_for_a_deleted_license_end(tmp_path: Path) -> None:
    """At once, also behind others in a long line, who go on waiting; who holds a seat of it goes on."""
    async with site(tmp_path, seats=1) as here:
        await here.come("1")
        await here.runs("1")
        others = ["2", "3", "4", "5", "6"]
        await here.come(*others, licenses=("5124",))
        await here.come(*LINE)
        await here.says(LINE[-1], "1 of 1 seats in use")
        await here.core.licensing.of_core.delete([license_message("5123")])
        for job_id in LINE:
            row = await until(here.core, job_id, settled)
            assert (row.state, row.status) == (State.FAILURE, causes.LICENSE_GONE)
        assert set(here.backend.machine.jobs) == {"1"}
        await here.end("1")
        await here.runs("2")


async def test_jobs_whose_license_is_not_sold_any_more_end(tmp_path: Path) -> None:
    """All of them, at the next start; who holds its seats goes on to its end."""
    async with site(tmp_path, seats=1) as here:
        await here.come("1")
        await here.runs("1")
        await here.come(*LINE)
        await here.says(LINE[-1], "1 of 1 seats in use")
    async with core_on(tmp_path, here.backend, here.clock, licenses=licenses_plan(tmp_path, OTHER)) as core:
        for job_id in LINE:
            row = await until(core, job_id, settled)
            assert (row.state, row.status) == (State.FAILURE, causes.LICENSE_NOT_SOLD)
        row = await core.store.job("1")
        assert row is not None
        assert row.state is State.RUNNING
        await here.end("1")
        await until(core, "1", settled)
        assert await core.store.licenses.lines() == {}
