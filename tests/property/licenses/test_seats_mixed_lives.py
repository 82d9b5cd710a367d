"""Jobs of several licenses of several products, while seats, servers and licenses come and go and the power goes out between any two steps.

Two judges: the machine counts the seats of the jobs that it really has; and inside the transaction of every take all claims are read and
the rules of seats are applied to them in their plainest form. Long form: SERAI_PROPERTY=long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from fakes.backends import InstantMachine
from fakes.clock import FakeClock
from fakes.core_on import core_on, terminate
from fakes.licensed import SecretsBackend, license_message, licensed_job, server_message
from fakes.lives.power import Power, powered_link, powered_open_store
from serai.licenses.v1.license_servers_service_pb2 import LicenseFeature
from serai_backends.model import End, Phase, ReplicaSpec
from serai_server import main
from serai_server.errors import InvalidRequest, NotEnoughLicenses, WrongState
from serai_server.jobs import causes
from serai_server.licenses.products import LicenseProduct
from serai_server.licenses.servers import registry as servers
from serai_server.licenses.servers.lmstat import Answer, FeatureUse
from serai_server.licenses.servers.watcher import Pacing
from serai_server.licensing import LicensesPlan
from serai_server.main import Core
from serai_server.store import seats, sqlite
from serai_server.store.batch import Batch
from serai_server.store.license_model import LicenseState, SeatsAnswer
from serai_server.store.link import Link
from serai_server.store.model import Committed, JobChange, StoredJob
from serai_server.store.open import open_store

LONG = os.environ.get("SERAI_PROPERTY") == "long"
JOBS = 3_000 if LONG else 120
MOST = 6
"""Seats of each product in the end, and never more."""
PRODUCTS = [LicenseProduct(name, "example-license", "example") for name in ("each", "per-replica", "narrow")]
PER_REPLICA = PRODUCTS[1]
LICENSES = {str(5_000 + 10 * p + n): product for p, product in enumerate(PRODUCTS) for n in range(4)}
"""Core's id → product."""
LASTING = {"5000", "5010", "5020"}
"""Licenses that nobody deletes."""
REFUSALS = (NotEnoughLicenses, InvalidRequest, WrongState)

_take = seats.take


@dataclass
class Outside:
    """What happens outside the process, and what the judges found."""

    dice: Random
    machine: InstantMachine = field(default_factory=InstantMachine)
    configured: dict[str, int] = field(default_factory=lambda: {p.key: MOST for p in PRODUCTS})
    """Product → seats; while the operator changes them, the larger number."""
    totals: dict[str, int] = field(default_factory=lambda: {p.key: MOST for p in PRODUCTS})
    """Product → seats that its server has."""
    others: dict[str, int] = field(default_factory=lambda: {p.key: 0 for p in PRODUCTS})
    """Product → seats that somebody else uses."""
    down: set[int] = field(default_factory=set[int])
    """Ports that refuse."""
    takes: dict[str, tuple[int, dict[str, int | None]]] = field(default_factory=dict[str, "tuple[int, dict[str, int | None]]"])
    """Job → which take it was with which it got its seats, and the limits of that moment."""
    taken: int = 0
    wrong: list[str] = field(default_factory=list[str])
    order: list[str] = field(default_factory=list[str])
    """Jobs as the machine was given them."""

    def alive(self) -> list[str]:
        return [job_id for job_id, job in self.machine.jobs.items() if job.observation.phase is not Phase.ENDED]

    def move(self) -> None:
        """Others take and give back seats, servers get other license files, go away and come back."""
        for place, product in enumerate(PRODUCTS):
            if self.dice.random() < 0.02:
                self.totals[product.key] = self.dice.randint(1, MOST)
            if self.dice.random() < 0.03:
                self.others[product.key] = self.dice.randint(0, self.totals[product.key])
            if self.dice.random() < (0.05 if place + 1 in self.down else 0.002):
                self.down ^= {place + 1}

    def calm(self) -> None:
        self.down.clear()
        for product in PRODUCTS:
            self.totals[product.key], self.others[product.key] = MOST, 0

    def judge_machine(self) -> None:
        """The jobs that are alive, with whichever of them took seats of a product last: never over its limit of that moment."""
        for product in (p.key for p in PRODUCTS):
            users = [job_id for job_id in self.alive() if product in needs(job_id)]
            if not users:
                continue
            last = max(users, key=lambda job_id: self.takes[job_id][0])
            limit, used = self.takes[last][1][product], sum(needs(job_id)[product] for job_id in users)
            if limit is None or used > limit:
                self.wrong.append(f"{used} of {limit} seats of {product} at the machine")

    def take(
        self, change: JobChange, limits: Mapping[str, int | None], capacities: Mapping[str, int], batch: Batch, link: Link
    ) -> tuple[tuple[StoredJob | None, SeatsAnswer], Committed]:
        """In the place of `store.seats.take`, which it calls."""
        outcome = _take(change, limits, capacities, batch, link)
        if outcome[0][0] is not None:
            self.taken += 1
            self.takes[change.job_id] = (self.taken, dict(limits))
            self.judge_take(change.job_id, limits, capacities, link)
        return outcome

    def judge_take(self, taker: str, limits: Mapping[str, int | None], capacities: Mapping[str, int], link: Link) -> None:
        """The job has its seats, and the transaction is open: were they free, and was it the first of all who could have had them?"""
        claims = link.query("SELECT job_id, product, seats, arrival, held_at_ms, license_id FROM claims")
        ready = {str(r[0]) for r in link.query("SELECT id FROM licenses WHERE state = ? AND deleted_at_ms = 0", int(LicenseState.READY))}
        arrivals = {str(row[0]): int(row[3]) for row in claims}
        waiting = {str(row[0]) for row in claims if not row[4]}
        blocked = {str(row[0]) for row in claims if row[5] not in ready}
        for product, limit in limits.items():
            if product not in needs(taker):
                continue
            held = sum(int(row[2]) for row in claims if row[1] == product and row[4])
            if limit is None or held > limit or limit > self.configured[product]:
                self.wrong.append(f"{held} seats of {product} held, limit {limit}, configured {self.configured[product]}")
            for job_id in waiting - blocked:
                fits = all(count <= capacities[key] for key, count in needs(job_id).items())
                if fits and product in needs(job_id) and arrivals[job_id] < arrivals[taker]:
                    self.wrong.append(f"{taker} was served before {job_id}")


class FakeDialer:
    """In the place of `probe.Dialer`: ports answer or refuse."""

    outside: Outside

    async def connect(self, _host: str, port: int) -> None:
        if port in self.outside.down:
            raise ConnectionRefusedError


class FakeLmutil:
    """In the place of `lmutil.Lmutil`: a server tells what others and the jobs that are really there use."""

    outside: Outside

    def __init__(self, _program: str, _clock: FakeClock) -> None: ...

    async def ask(self, addresses: Sequence[tuple[str, int]]) -> Answer:
        key = PRODUCTS[addresses[0][1] - 1].key
        ours = sum(needs(job_id).get(key, 0) for job_id in self.outside.alive())
        return Answer({"solver": FeatureUse(self.outside.totals[key], self.outside.others[key] + ours)}, "")


class Machine(SecretsBackend):
    def __init__(self, outside: Outside, power: Power) -> None:
        super().__init__(outside.machine)
        self._outside, self._power = outside, power

    async def submit(self, spec: ReplicaSpec) -> None:
        await self._power.cross()
        if spec.job_id not in self.machine.jobs:
            self._outside.order.append(spec.job_id)
        await super().submit(spec)
        self._outside.judge_machine()
        await self._power.cross()


def asked(job_id: str) -> tuple[list[str], int]:
    """Licenses and replicas of a job: always the same, for its create may be repeated."""
    dice = Random(f"job {job_id}")
    return dice.sample(list(LICENSES), dice.randint(1, 3)), dice.choice([1, 1, 2, 3, 4])


def needs(job_id: str) -> dict[str, int]:
    """Product → seats."""
    licenses, replicas = asked(job_id)
    found: dict[str, int] = {}
    for license_id in licenses:
        product = LICENSES[license_id]
        found[product.key] = found.get(product.key, 0) + (replicas if product is PER_REPLICA else 1)
    return found


class World:
    def __init__(self, folder: Path, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch, self.dice = folder, patch, Random(seed)
        self.outside, self.clock = Outside(Random(seed + 1)), FakeClock()
        self.asked = self.crashes = 0
        self.over = False
        """Nothing new comes, and all seats are there."""
        self._changes: set[asyncio.Task[object]] = set()
        self.refused: set[str] = set()
        self.stopped: set[str] = set()
        self.deleted: set[str] = set()
        patch.setattr(seats, "take", self.outside.take)
        patch.setattr(servers, "Dialer", FakeDialer)
        patch.setattr(servers, "Lmutil", FakeLmutil)
        patch.setattr(FakeDialer, "outside", self.outside, raising=False)
        patch.setattr(FakeLmutil, "outside", self.outside, raising=False)

    async def life(self) -> None:
        """One process, until its power goes out or every job is over."""
        power = Power()
        power.left = self.dice.randint(1, 300) if self.dice.random() < 0.3 else self.dice.randint(1_000, 12_000)
        self._patch.setattr(main, "open_store", powered_open_store(power))
        self._patch.setattr(sqlite, "SqliteLink", powered_link(power))
        backend = Machine(self.outside, power)
        process = asyncio.create_task(self._serve(backend))
        while power.on and not process.done():
            self.clock.move(self.dice.choice([1, 50, 2_000]))
            if not self.over:
                self.outside.move()
            self._end_some(backend)
            await asyncio.sleep(0)
            if power.busy:
                await power.calm()
        self.crashes += not power.on
        power.cut()
        process.cancel()
        for change in self._changes:
            # What an operator began would be waited for, and waits for an answer that never comes.
            change.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await process

    async def _serve(self, backend: Machine) -> None:
        pacing = Pacing(probe_every_ms=5_000, probes_to_fail=2, observe_every_ms=10_000)
        plan = LicensesPlan(self.folder / "licenses.key", products=tuple(PRODUCTS), pacing=pacing, lmutil="lmutil")
        async with core_on(self.folder, backend, self.clock, licenses=plan) as core:
            self._changes = core.licensing.servers._changes
            there = {server.name for server in await core.store.licenses.servers()}
            for place, product in enumerate(PRODUCTS):
                if product.id not in there:
                    message = server_message(place + 1, MOST, name=product.id, product=product, per_replica=product is PER_REPLICA)
                    await core.licensing.servers.add(message, b"")
            await core.licensing.of_core.create(
                [license_message(name, product=LICENSES[name]) for name in LICENSES if name not in self.deleted]
            )
            while self.asked < JOBS:
                await self._user(core)
                await self._operator(core)
            self.over = True
            self.outside.calm()
            for product in PRODUCTS:
                await self._resize(core, product, MOST)
            while await core.store.active_records():
                await asyncio.sleep(0)

    async def _user(self, core: Core) -> None:
        """One more job, stopped again or not; one more license deleted or not."""
        job_id = str(100_000 + self.asked)
        licenses, replicas = asked(job_id)
        try:
            # A create whose answer got lost is repeated, and changes nothing.
            await core.jobs.create([licensed_job(job_id, "hang", licenses=licenses, replicas=replicas, minutes=0)])
        except REFUSALS:
            self.refused.add(job_id)
        self.asked += 1
        if job_id not in self.refused and self.dice.random() < 0.1:
            self.stopped.add(job_id)
            await terminate(core, job_id)
        if self.dice.random() < 4 / JOBS:
            doomed = self.dice.choice(sorted(set(LICENSES) - LASTING))
            self.deleted.add(doomed)
            await core.licensing.of_core.delete([license_message(doomed, product=LICENSES[doomed])])

    async def _operator(self, core: Core) -> None:
        if self.dice.random() < 0.15:
            await self._resize(core, self.dice.choice(PRODUCTS), self.dice.randint(1, MOST))
        for _ in range(self.dice.choice([0, 0, 20])):
            await asyncio.sleep(0)

    async def _resize(self, core: Core, product: LicenseProduct, count: int) -> None:
        configured = self.outside.configured
        configured[product.key] = max(configured[product.key], count)
        await core.licensing.servers.set_seats(product.id, [LicenseFeature(name="solver", seats=count)])
        configured[product.key] = count

    def _end_some(self, backend: Machine) -> None:
        for job_id in self.outside.alive():
            job = self.outside.machine.jobs[job_id].observation
            if job.phase is Phase.RUNNING and self.dice.random() < 0.03:
                end = self.dice.choice([End.EXITED, End.OUT_OF_MEMORY, End.LOST])
                for replica in job.replicas:
                    backend.end(job_id, replica.rank, end, exit_code=0 if end is End.EXITED else None)


@pytest.mark.timeout(3_000 if LONG else 120)
@pytest.mark.parametrize("seed", range(6) if LONG else [2])
async def test_everybody_who_can_ever_have_seats_has_them_in_order(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than the limit of the moment, first come first served among those who compete for a product and could have it; who waits
    for a deleted license is told so; nothing is left over."""
    world = World(tmp_path, seed, monkeypatch)
    outside = world.outside
    while True:
        await world.life()
        async with open_store(f"sqlite:///{tmp_path / 'serai.db'}", lambda _: None) as store:
            if world.asked == JOBS and not await store.active_records():
                rows = {name: await store.job(name) for name in (str(100_000 + n) for n in range(JOBS))}
                lines, bound = await store.licenses.lines(), await store.licenses.bound_to(list(LICENSES))
                break
    gone = {name for name, row in rows.items() if row is not None and row.status == causes.LICENSE_GONE}
    print(
        f"seed {seed}: {JOBS} jobs, {len(outside.order)} ran, {len(gone)} without license, {len(world.refused)} refused,"
        f" {len(world.stopped)} stopped, {world.crashes} crashes"
    )
    assert outside.wrong[:3] == []
    assert len(set(outside.order)) == len(outside.order)  # no job was started twice
    assert set(rows) - set(outside.order) <= gone | world.refused | world.stopped  # all others ran
    assert all(set(asked(name)[0]) & world.deleted for name in gone)
    assert lines == {}
    assert not any(bound.values())
    assert world.crashes >= 1
    assert len(outside.order) > JOBS // 4
