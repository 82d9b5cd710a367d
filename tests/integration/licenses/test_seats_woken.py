"""Who of a line is looked at before all other work and who when there is time, on a real store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from fakes.clock import FakeClock
from fakes.license_rows import PRODUCT, job_with, move, new_license
from fakes.license_servers import MovableServers, settle
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.seats import SWEEP_MS, Seats
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


class Woken:
    def __init__(self, store: SqlStore, clock: FakeClock, servers: MovableServers) -> None:
        self.store, self.clock, self.servers = store, clock, servers
        self.first: list[str] = []
        self.later: list[str] = []
        self.seats = Seats(
            store=store,
            catalog=LicenseCatalog(()),
            servers=servers,
            clock=clock,
            wall=clock.now_ms,
            wake=self.first.append,
            look=self.later.append,
        )

    async def told(self, first: int, later: int) -> tuple[list[str], list[str]]:
        """Once so many were."""
        async with asyncio.timeout(20):
            while (len(self.first), len(self.later)) < (first, later) or len(self.later) < later:
                await asyncio.sleep(0.001)
        await settle()
        told = self.first[:], self.later[:]
        self.first.clear()
        self.later.clear()
        return told


@contextlib.asynccontextmanager
async def line(folder: Path, count: int, capacities: Mapping[str, int]) -> AsyncGenerator[Woken]:
    """So many jobs that wait for one seat each; the first look, which is at everybody's, is over."""
    async with open_store(f"sqlite:///{folder / 'serai.db'}", lambda _: None) as store:
        await store.licenses.create([new_license("m"), new_license("n")])
        await store.create_jobs([job_with(f"{n:04}", ("m", PRODUCT, 1)) for n in range(count)])
        woken = Woken(store, FakeClock(), MovableServers(dict(capacities)))
        running = asyncio.create_task(woken.seats.run())
        await woken.told(4, 0)
        yield woken
        running.cancel()


async def test_the_first_of_a_line_come_before_all_other_work(tmp_path: Path) -> None:
    """When seats came back, and now and then: they would starve where second looks do."""
    async with line(tmp_path, 10, {PRODUCT: 3}) as here:
        here.seats.look([PRODUCT])
        assert await here.told(4, 0) == (["0000", "0001", "0002", "0003"], [])
        here.clock.move(SWEEP_MS)
        assert await here.told(4, 0) == (["0000", "0001", "0002", "0003"], [])


async def test_new_words_for_a_whole_line_can_wait(tmp_path: Path) -> None:
    """As when a server is away, or there are more seats, or fewer; the number that others use changes no words."""
    async with line(tmp_path, 10, {PRODUCT: 3}) as here:
        everybody = [f"{n:04}" for n in range(10)]
        here.seats.tell(PRODUCT)
        assert await here.told(0, 10) == ([], everybody)
        here.servers.resize({PRODUCT: 2})
        assert await here.told(4, 10) == (everybody[:4], everybody)
        here.servers.resize({PRODUCT: 2})
        assert await here.told(4, 0) == (everybody[:4], [])
        here.servers.resize({PRODUCT: 0})
        assert await here.told(0, 10) == ([], everybody)


async def test_who_waits_for_a_deleted_license(tmp_path: Path) -> None:
    """All of them, a hundred at a time before all other work, so that a long line holds up nobody for long; by the sweep too, where the
    deletion was not told."""
    async with line(tmp_path, 250, {PRODUCT: 3}) as here:
        await move(here.store, "m", deleted=True)
        everybody = [f"{n:04}" for n in range(250)]
        here.seats.deleted(PRODUCT)
        assert await here.told(104, 150) == (everybody[:100] + everybody[:4], everybody[100:])
        here.clock.move(SWEEP_MS)
        assert await here.told(104, 150) == (everybody[:100] + everybody[:4], everybody[100:])
