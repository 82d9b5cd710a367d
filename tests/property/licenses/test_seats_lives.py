"""Thousands of jobs over a few seats, with a server whose power goes out between any two of its steps.

The judge is the machine: it counts which jobs it really has, and in what order it was given them. Long form: SERAI_PROPERTY=long.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from pathlib import Path
from random import Random

import pytest
from fakes.clock import FakeClock
from fakes.core_on import core_on, terminate
from fakes.instant import InstantMachine
from fakes.licensed import SecretsBackend, license_message, licensed_job, licenses_plan, server_message
from fakes.lives.power import Power, powered_link, powered_open_store
from fakes.lmgrd import FakeLmgrd
from serai_backends.model import End, Phase, ReplicaSpec
from serai_server import main
from serai_server.main import Core
from serai_server.store import sqlite
from serai_server.store.open import open_store

SEATS = 7
LONG = os.environ.get("SERAI_PROPERTY") == "long"
JOBS = 10_000 if LONG else 200
BULK = 50
PATIENCE = 500


class Counting(SecretsBackend):
    """Counts the jobs that it has and that are not over, at every submission."""

    most = 0
    order: list[str]

    def __init__(self, machine: InstantMachine, power: Power, order: list[str]) -> None:
        super().__init__(machine)
        self._power = power
        self.order = order

    async def submit(self, spec: ReplicaSpec) -> None:
        await self._power.cross()
        if spec.job_id not in self.machine.jobs:
            self.order.append(spec.job_id)
        await super().submit(spec)
        Counting.most = max(Counting.most, len(alive(self.machine)))
        await self._power.cross()


def alive(machine: InstantMachine) -> list[str]:
    return [job_id for job_id, job in machine.jobs.items() if job.observation.phase is not Phase.ENDED]


class World:
    def __init__(self, folder: Path, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch, self.dice = folder, patch, Random(seed)
        self.machine, self.clock = InstantMachine(), FakeClock()
        self.order: list[str] = []
        """Jobs as the machine was given them."""
        self.created = self.crashes = 0
        self.seen: list[str] = []
        self.still = 0
        """Looks for which the same jobs were alive."""
        self.stopped: set[str] = set()
        """Jobs that a user stopped, perhaps before they ran."""

    async def life(self, port: int) -> None:
        """One process, until its power goes out or every job is over."""
        power = Power()
        # A start looks at every job that waits: lives that end within that, and lives in which work is done.
        lives = [self.dice.randint(1, 300), self.dice.randint(300, 8_000), *([self.dice.randint(1, 60 * JOBS)] if LONG else [])]
        power.left = self.dice.choice(lives)
        self._patch.setattr(main, "open_store", powered_open_store(power))
        self._patch.setattr(sqlite, "SqliteLink", powered_link(power))
        backend = Counting(self.machine, power, self.order)
        process = asyncio.create_task(self._serve(backend, port))
        while power.on and not process.done():
            # Slower with many jobs: else all that is done is to look at those that wait, at its times.
            self.clock.move(max(1, self.dice.choice([1, 50, 2_000]) * 200 // JOBS))
            self._end_some(backend)
            await asyncio.sleep(0)
            if power.busy:
                await power.calm()
        self.crashes += not power.on
        power.cut()
        process.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await process

    async def _serve(self, backend: Counting, port: int) -> None:
        async with core_on(self.folder, backend, self.clock, licenses=licenses_plan(self.folder)) as core:
            if not await core.store.licenses.servers():
                await core.licensing.servers.add(server_message(port, SEATS), b"")
            await core.licensing.of_core.create([license_message("5123")])
            await self._users(core)
            while await core.store.active_records():
                await asyncio.sleep(0)

    async def _users(self, core: Core) -> None:
        """Create what is left to be created, in order, and stop some of it."""
        while (row := await core.store.licenses.license("5123")) is None or row.state != 2:
            await asyncio.sleep(0)
        while self.created < JOBS:
            names = [str(100_000 + n) for n in range(self.created, min(self.created + BULK, JOBS))]
            # A create whose answer got lost is repeated, and changes nothing.
            await core.jobs.create([licensed_job(name, "hang", minutes=0) for name in names])
            self.created += len(names)
            doomed = [name for name in names if self.dice.random() < 0.1]
            self.stopped.update(doomed)
            if doomed:
                await terminate(core, *doomed)

    def _end_some(self, backend: Counting) -> None:
        """Programs end: by themselves, by a signal, because they used too much memory, or nobody saw how."""
        now = alive(self.machine)
        self.still = self.still + 1 if now == self.seen else 0
        self.seen = now
        # When all seats are taken or nothing more comes: whether they ever all are must not hang on how busy this machine is.
        eager = len(now) >= SEATS or self.still > PATIENCE
        for job_id in now if eager else ():
            if self.machine.jobs[job_id].observation.phase is Phase.RUNNING and self.dice.random() < 0.4:
                end = self.dice.choice([End.EXITED, End.SIGNALED, End.OUT_OF_MEMORY, End.LOST])
                backend.end(job_id, 0, end, exit_code=0 if end is End.EXITED else None, signal=9 if end is End.SIGNALED else None)


@pytest.mark.timeout(3_000 if LONG else 240)
@pytest.mark.parametrize("seed", [6])
async def test_seats_are_never_overbooked_nobody_starves_and_none_leaks(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way jobs end, in the order in which they came, and the power goes out again and again."""
    world = World(tmp_path, seed, monkeypatch)
    Counting.most = 0
    async with FakeLmgrd() as server:
        while True:
            await world.life(server.port)
            async with open_store(f"sqlite:///{tmp_path / 'serai.db'}", lambda _: None) as store:
                if world.created == JOBS and not await store.active_records():
                    lines, held = await store.licenses.lines(), await store.licenses.bound_to(["5123"])
                    break
    print(f"{JOBS} jobs over {SEATS} seats: {world.crashes} crashes, most at once {Counting.most}, {len(world.stopped)} stopped by users")
    assert world.crashes >= 3
    assert Counting.most == SEATS  # never more, and all of them were used
    assert lines == {}
    assert not held.get("5123")
    assert len(set(world.order)) == len(world.order)  # no job was started twice
    expected = {str(100_000 + n) for n in range(JOBS)}
    assert expected - set(world.order) <= world.stopped  # all others ran
    # In the order in which they came, but for those that were given their seats at the same moment.
    places = [int(name) for name in world.order]
    assert all(later > earlier - SEATS for earlier, later in itertools.pairwise(places))
