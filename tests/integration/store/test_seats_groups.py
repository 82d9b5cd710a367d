"""Many takes, ends and creates in one transaction and across transactions: never over the limit, in order of arrival, nothing left over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import cast

import pytest
from fakes.license_rows import OTHER, PRODUCT, job_with, move, new_license, note, over, submitted
from fakes.store_groups import one_group, outcomes
from serai_server.store.api import VersionConflict, WriteRefused
from serai_server.store.license_model import Claim, LicenseAway, LicenseState, SeatsFull, SeatsTaken, SeatsTooFew
from serai_server.store.model import JobChange, LedgerRow, State
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    async with open_store(url, lambda _: None) as opened:
        await opened.licenses.create([new_license("m"), new_license("n"), new_license("a", product=OTHER)])
        yield opened


def answer(outcome: object) -> object:
    """Of a take: what it answered, or the class of what it raised."""
    return cast("tuple[object, object]", outcome)[1] if isinstance(outcome, tuple) else type(outcome)


async def test_a_take_sees_what_came_before_it_in_its_group(store: SqlStore) -> None:
    """Created, taken, ended and taken by the next one, all in one transaction; a license that goes away in between is seen too."""
    take = store.licenses.take_seats
    limits = {PRODUCT: 1}
    got = await outcomes(
        store,
        lambda: store.create_jobs([job_with("1", ("m", PRODUCT, 1)), job_with("2", ("m", PRODUCT, 1)), job_with("3", ("m", PRODUCT, 1))]),
        lambda: take(submitted("2"), limits),
        lambda: take(submitted("1"), limits),
        lambda: take(submitted("1"), limits),
        lambda: take(submitted("2"), limits),
        lambda: store.change_job(over("1", 2)),
        lambda: take(submitted("3"), limits),
        lambda: take(submitted("2"), limits),
        lambda: store.change_job(over("2", 2)),
        lambda: move(store, "m", LicenseState.UNAVAILABLE, status="down"),
        lambda: take(submitted("3"), limits),
    )
    assert [got[0], got[9]] == [None, None]
    assert [answer(got[n]) for n in (1, 2, 3, 4, 6, 7, 10)] == [
        SeatsFull(PRODUCT, 0, 1, 1),
        SeatsTaken(),
        VersionConflict,
        SeatsFull(PRODUCT, 1, 1, 0),
        SeatsFull(PRODUCT, 0, 1, 1),
        SeatsTaken(),
        LicenseAway("m", False, "down"),
    ]
    assert [await store.licenses.claims(i) for i in ("1", "2")] == [[], []]
    assert await store.licenses.claims("3") == [Claim("3", "m", PRODUCT, 1, 1, 3, 0)]


async def test_a_job_that_comes_and_goes_in_one_group_leaves_nothing(store: SqlStore) -> None:
    """With and without a take in between, which is when claims are written."""
    await outcomes(
        store,
        lambda: store.create_jobs([job_with("1", ("m", PRODUCT, 1))]),
        lambda: store.change_job(over("1", 1)),
        lambda: store.create_jobs([job_with("2", ("m", PRODUCT, 1))]),
        lambda: store.licenses.take_seats(submitted("2"), {PRODUCT: 1}),
        lambda: store.change_job(over("2", 2)),
        lambda: store.create_jobs([job_with("3", ("m", PRODUCT, 1))]),
        lambda: store.licenses.take_seats(submitted("nobody"), {PRODUCT: 1}),
        lambda: store.change_job(over("3", 1)),
    )
    assert [await store.licenses.claims(i) for i in ("1", "2", "3")] == [[], [], []]
    assert await store.licenses.lines() == {}


async def test_a_refused_take_leaves_its_neighbours_alone(store: SqlStore) -> None:
    """Refused by the store and refused by the database: the others of the group have their answers and are stored."""
    await store.create_jobs([job_with(str(n), ("m", PRODUCT, 1)) for n in range(4)])
    bad = JobChange("2", 1, submitted_at_ms=1, license_notes=(note("m", "bad"),), charges=(LedgerRow("nobody", 0, 1, 1, "x", 1),))
    limits = {PRODUCT: 3}
    got = await outcomes(
        store,
        lambda: store.licenses.take_seats(submitted("0"), limits),
        lambda: store.licenses.take_seats(submitted("1", 7), limits),
        lambda: store.licenses.take_seats(submitted("1"), limits),
        lambda: store.licenses.take_seats(bad, limits),
        lambda: store.licenses.take_seats(submitted("2"), limits),
        lambda: store.licenses.take_seats(submitted("3"), limits),
    )
    assert [answer(g) for g in got] == [
        SeatsTaken(),
        VersionConflict,
        SeatsTaken(),
        WriteRefused,
        SeatsTaken(),
        SeatsFull(PRODUCT, 3, 3, 0),
    ]
    assert await store.licenses.bound_to(["m"]) == {"m": ("0", "1", "2")}
    assert await store.licenses.history(["m"], 10) == {"m": (b"first",)}


LICENSES = {"m": PRODUCT, "n": PRODUCT, "a": OTHER}
JOBS = 60


@dataclass
class Model:
    """The rules of seats in their plainest form, one call after the other."""

    limits: dict[str, int | None]
    capacities: dict[str, int] = field(default_factory=dict[str, int])
    ready: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(LICENSES, True))
    needs: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Job that is not over → license → seats, in order of arrival."""
    held: set[str] = field(default_factory=set[str])
    versions: dict[str, int] = field(default_factory=dict[str, int])

    def waiting(self) -> list[str]:
        return [j for j in self.needs if j not in self.held]

    def seats(self, job: str, product: str) -> int:
        return sum(n for i, n in self.needs[job].items() if LICENSES[i] == product)

    def is_ready(self, job: str) -> bool:
        return all(self.ready[i] for i in self.needs[job])

    def fits(self, job: str) -> bool:
        return all(self.seats(job, product) <= most for product, most in self.capacities.items())

    def in_line(self, job: str) -> bool:
        return self.is_ready(job) and self.fits(job)

    def take(self, job: str) -> str:
        if not self.is_ready(job):
            return "away"
        if not self.fits(job):
            return "few"
        line = self.waiting()
        before = [j for j in line[: line.index(job)] if self.in_line(j)]
        for product in {LICENSES[i] for i in self.needs[job]}:
            limit = self.limits[product]
            used = sum(self.seats(j, product) for j in self.held)
            if limit is not None and (used + self.seats(job, product) > limit or any(self.seats(j, product) for j in before)):
                return "full"
        self.held.add(job)
        self.versions[job] += 1
        return "taken"

    def end(self, job: str) -> None:
        del self.needs[job]
        self.held.discard(job)


def kind(outcome: object) -> str:
    kinds: dict[type, str] = {SeatsTaken: "taken", SeatsFull: "full", SeatsTooFew: "few", LicenseAway: "away"}
    return kinds[type(answer(outcome))]


class Life:
    """Random calls in random groups, each compared with the model."""

    def __init__(self, store: SqlStore, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.model = Model({PRODUCT: self.chance.choice([4, 5]), OTHER: self.chance.choice([None, 2, 3])})
        self.made = 0

    def create(self) -> tuple[Coroutine[object, object, object], None]:
        names = self.chance.sample(list(LICENSES), self.chance.choice([1, 1, 2, 3]))
        needs = {name: self.chance.choice([1, 1, 2]) for name in names}
        self.made += 1
        job_id = f"{self.chance.randrange(1000)}-{self.made}"
        self.model.needs[job_id], self.model.versions[job_id] = needs, 1
        claims = [(name, LICENSES[name], seats) for name, seats in needs.items()]
        return self.store.create_jobs([job_with(job_id, *claims)]), None

    def take(self, job_id: str) -> tuple[Coroutine[object, object, object], str]:
        version = self.model.versions[job_id]
        return self.store.licenses.take_seats(submitted(job_id, version), self.model.limits, dict(self.model.capacities)), self.model.take(
            job_id
        )

    def end(self, job_id: str) -> tuple[Coroutine[object, object, object], None]:
        change = over(job_id, self.model.versions[job_id], self.chance.choice([State.SUCCESS, State.FAILURE, State.EXPIRED]))
        self.model.end(job_id)
        return self.store.change_job(change), None

    def turn(self) -> tuple[Coroutine[object, object, object], None]:
        license_id = self.chance.choice(list(LICENSES))
        ready = self.model.ready[license_id] = not self.model.ready[license_id]
        return move(self.store, license_id, LicenseState.READY if ready else LicenseState.UNAVAILABLE), None

    def resize(self) -> None:
        """There are other numbers of seats from now on; those in use stay."""
        for product, limit in self.model.limits.items():
            if limit is not None:
                self.model.capacities[product] = most = self.chance.randrange(1, 6)
                self.model.limits[product] = self.chance.randrange(most + 1)

    def call(self) -> tuple[Coroutine[object, object, object], str | None]:
        what = self.chance.random()
        if self.made < JOBS and (what < 0.3 or not self.model.needs):
            return self.create()
        if what < 0.7 and self.model.waiting():
            return self.take(self.chance.choice(self.model.waiting()[:3]))
        if what < 0.9 and self.model.needs:
            return self.end(self.chance.choice([*self.model.held, *self.model.waiting()[:1]]))
        return self.turn()

    async def group(self) -> None:
        expected: list[str | None] = []
        tasks: list[asyncio.Task[object]] = []
        with one_group(self.store):
            for _ in range(self.chance.randrange(1, 12)):
                call, wanted = self.call()
                tasks.append(asyncio.create_task(call))  # pyright: ignore[reportArgumentType] - all are coroutines
                expected.append(wanted)
            await asyncio.sleep(0)
        got = await asyncio.gather(*tasks)
        assert [kind(g) if e is not None else None for g, e in zip(got, expected, strict=True)] == expected

    async def agree(self) -> None:
        model, licenses = self.model, self.store.licenses
        lines = await licenses.lines()
        for product in (PRODUCT, OTHER):
            users = [j for j in model.needs if model.seats(j, product)]
            held = sum(model.seats(j, product) for j in model.held)
            line = lines.get(product)
            found = (line.held, line.holders, line.waiting) if line else (0, 0, 0)
            assert found == (held, sum(j in model.held for j in users), sum(j not in model.held for j in users))
            expected = [j for j in model.waiting() if model.seats(j, product) and model.in_line(j)]
            assert await licenses.first_in_line(product, JOBS, model.capacities) == expected
        bound = {i: tuple(j for j in model.needs if j in model.held and i in model.needs[j]) for i in LICENSES}
        assert await licenses.bound_to(list(LICENSES)) == bound

    async def drain(self) -> None:
        """All licenses READY, seats for all: taking by turns and ending gets every job through, in its order."""
        self.model.capacities = {}
        self.model.limits = {PRODUCT: 4, OTHER: self.chance.choice([None, 2, 3])}
        for license_id in LICENSES:
            self.model.ready[license_id] = True
            await move(self.store, license_id, LicenseState.READY)
        while self.model.needs:
            for job_id in [*self.model.waiting()]:
                call, wanted = self.take(job_id)
                assert kind(await call) == wanted
            assert self.model.held
            await self.end(sorted(self.model.held)[0])[0]
        assert await self.store.licenses.lines() == {}


@pytest.mark.parametrize("seed", range(6))
async def test_seats_are_what_the_model_says(store: SqlStore, seed: int) -> None:
    """Sixty jobs that come, take, end and wait for licenses that come and go and for seats that are more and fewer, in whatever groups;
    in the end all come through."""
    life = Life(store, seed)
    while life.made < JOBS:
        if life.chance.random() < 0.2:
            life.resize()
        await life.group()
        await life.agree()
    await life.drain()


async def test_nobody_is_passed_by_when_all_ask_at_once(store: SqlStore) -> None:
    """Fifty jobs ask again and again, each on its own, while others end: seats go in the order of arrival, never too many at a time."""
    limit, count = 7, 50
    ids = [f"{n * 37 % count:02}" for n in range(count)]
    await store.create_jobs([job_with(i, ("m", PRODUCT, 1 + n % 3)) for n, i in enumerate(ids)])
    taken: list[str] = []

    async def run(job_id: str) -> None:
        while True:
            row, _ = await store.licenses.take_seats(submitted(job_id), {PRODUCT: limit})
            if row is not None:
                break
        taken.append(job_id)
        line = (await store.licenses.lines())[PRODUCT]
        assert line.held <= limit
        await store.change_job(over(job_id, row.version))

    async with asyncio.TaskGroup() as group:
        for job_id in ids:
            group.create_task(run(job_id))
    assert taken == ids
    assert await store.licenses.lines() == {}
