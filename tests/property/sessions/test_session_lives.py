"""Random lives of sessions, every answer compared with an oracle that knows the rules of docs/sessions.md and nothing of the code.

Long form: SERAI_PROPERTY=long.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from fakes.clock import FakeClock
from fakes.core_on import START_MS, patiently
from fakes.sessions import CONSOLE, SHELL, VNC, WEB, Site, machine_at, reachable_job, site_in
from serai_backends.model import End
from serai_server.errors import JobUnknown, SessionUnknown, TooManySessions, WrongState
from serai_server.sessions.limits import SessionLimits
from serai_server.sessions.service import Asked
from serai_server.sessions.session import Session
from serai_server.store.session_model import SessionKind

LONG = os.environ.get("SERAI_PROPERTY") == "long"
LIVES = 300 if LONG else 12
STEPS = 120
MOST = 5
MINUTE = 60_000
IDLE = 600 * MINUTE
LATE = MINUTE + 5_000
"""Uses of the last minute, and until the keeper has looked, may not count after a crash."""
FIRST = {SHELL: 5 * MINUTE, WEB: 5 * MINUTE, VNC: IDLE, CONSOLE: MINUTE}
JOBS = ("a", "b", "c")


@dataclass
class Life:
    """A session as the oracle has it."""

    id: str
    kind: SessionKind
    job: str
    rank: int
    user: str
    secret: str
    opened: int
    used: int
    ends: float
    cookie: str = ""
    begun: bool = False
    over: bool = False
    at_least: float = 0
    """Its end may be earlier than the oracle thinks, after a crash, but not earlier than this; 0 = it is known."""
    renewals: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """When its end was moved, and to when."""
    stored: float = 0
    """Its end as of its opening or first use."""

    def lasts(self, now: int, until: float) -> None:
        self.ends, self.at_least = until, 0
        self.renewals.append((now, until))


class World:
    """The server, and the oracle beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = Random(seed)
        self.folder = folder
        self.clock = FakeClock(START_MS)
        self.machine = machine_at(self.clock)
        self.lives: list[Life] = []
        self.jobs_over: set[str] = set()
        self.ranks_over: set[tuple[str, int]] = set()
        self.done: dict[str, int] = {}
        self._stack = AsyncExitStack()
        self.site: Site

    async def start(self) -> None:
        limits = SessionLimits(most_per_job=MOST)
        self.site = await self._stack.enter_async_context(site_in(self.folder, machine=self.machine, clock=self.clock, limits=limits))

    async def stop(self) -> None:
        await self._stack.aclose()

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def living(self, job: str | None = None) -> list[Life]:
        return [one for one in self.lives if not one.over and one.ends > self.now and job in (None, one.job)]

    async def step(self) -> None:
        steps = {
            self.open: 30,
            self.redeem: 20,
            self.authorize: 30,
            self.begin: 6,
            self.time: 12,
            self.close: 4,
            self.restart: 2,
            self.end_rank: 1,
            self.end_job: 1,
        }
        (step,) = self.chance.choices(list(steps), list(steps.values()))
        self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
        await step()
        await self.compare()

    async def open(self) -> None:
        kind = self.chance.choice(list(SessionKind))
        job = "" if kind is CONSOLE else self.chance.choice(JOBS)
        rank = 0 if kind is CONSOLE else self.chance.randrange(2)
        user = self.chance.choice(("alice", "bob"))
        await self.settle_doubts(job)
        there = self.living(job)
        expected: type[Exception] | None = None
        leaves: Life | None = None
        if job in self.jobs_over or (job, rank) in self.ranks_over:
            expected = WrongState
        elif len(there) >= MOST:
            same = [one for one in there if one.kind is kind and one.user == user and kind is not SHELL]
            leaves = min(same, key=lambda one: one.used, default=None)
            if leaves is None:
                expected = TooManySessions
        try:
            opened = await self.site.open(kind, job, rank, user)
        except (WrongState, TooManySessions, JobUnknown) as error:
            assert type(error) is expected, (error, expected)
            return
        assert expected is None
        if leaves is not None:
            # Of two that were used in the same millisecond either may leave.
            ids = {session.id for session in await self.site.sessions.list()}
            gone = [one for one in there if one.id not in ids]
            assert [(one.kind, one.user, one.used) for one in gone] == [(kind, user, leaves.used)]
            gone[0].over = True
        session, ends = opened.session, self.now + FIRST[kind]
        self.lives.append(Life(session.id, kind, job, rank, user, opened.secret, self.now, self.now, ends, stored=ends))

    async def redeem(self) -> None:
        if not self.lives:
            return
        one = self.chance.choice(self.lives)
        asked = self.asked(one, one.secret)
        right = one in self.living() and one.kind in {WEB, CONSOLE} and not one.cookie and self.fits(one, asked)
        if one.kind not in {WEB, CONSOLE}:
            return
        try:
            session, cookie = await self.site.sessions.redeem(asked)
        except SessionUnknown:
            assert not right or self.doubtful(one)
            one.over = one.over or right
            return
        assert right
        assert session.id == one.id
        one.cookie, one.used = cookie, self.now
        one.lasts(self.now, self.now + (480 * MINUTE if one.kind is CONSOLE else IDLE))
        one.stored = one.ends
        one.renewals.clear()  # a first use is stored before it is answered

    async def authorize(self) -> None:
        if not self.lives:
            return
        one = self.chance.choice(self.lives)
        cookies = one.kind in {WEB, CONSOLE}
        shown = self.chance.choice([one.secret, one.cookie or "guessed", "guessed"])
        asked = self.asked(one, shown)
        right = one in self.living() and shown == (one.cookie if cookies else one.secret) and self.fits(one, asked)
        try:
            found = await self.site.sessions.authorize(asked)
        except SessionUnknown:
            assert not right or self.doubtful(one)
            one.over = one.over or right
            return
        assert right, (one, asked)
        assert found.session.id == one.id
        ports = {WEB: 8888, VNC: 5901}
        where = None if found.endpoint is None else (found.endpoint.host, found.endpoint.port)
        assert where == ((f"127.1.0.{one.rank + 1}", ports[one.kind]) if one.kind in ports else None)
        one.used = self.now
        if one.kind in ports:
            one.lasts(self.now, self.now + IDLE)

    def asked(self, one: Life, secret: str) -> Asked:
        """Mostly as it should be; else another's kind, job or rank."""
        kind, job, rank = one.kind, one.job, one.rank
        match self.chance.randrange(10):
            case 0:
                kind = self.chance.choice([k for k in (WEB, CONSOLE) if one.kind in {WEB, CONSOLE}] or [SHELL, VNC])
            case 1:
                job = self.chance.choice(JOBS)
            case 2:
                rank = 1 - rank
            case _:
                pass
        return Asked(secret, kind, job, rank)

    @staticmethod
    def fits(one: Life, asked: Asked) -> bool:
        same_place = (asked.job_id, asked.rank) == (one.job, one.rank)
        return asked.kind is one.kind and (same_place or (not asked.job_id and one.kind is not WEB))

    async def begin(self) -> None:
        shells = [one for one in self.lives if one.kind is SHELL]
        if not shells:
            return
        one = self.chance.choice(shells)
        try:
            session: Session = self.site.sessions.shell_of(one.secret)
            await self.site.sessions.begin(session)
        except SessionUnknown:
            assert one not in self.living()
            return
        assert one in self.living()
        one.begun, one.ends, one.used = True, float("inf"), self.now
        if self.chance.random() < 0.5:
            self.site.sessions.end(session, "the shell's program has ended")
            one.over = True

    async def time(self) -> None:
        self.clock.move(self.chance.choice([1, 1_000, 30_000, MINUTE, 4 * MINUTE, 60 * MINUTE, 300 * MINUTE]))
        # Sooner or later the keeper looks by itself.
        await self.site.look()

    async def close(self) -> None:
        if self.lives:
            one = self.chance.choice(self.lives)
            await self.site.sessions.close(one.id)
            one.over = True

    async def restart(self) -> None:
        """A stop, or a crash, after which nothing was saved that had not been."""
        crash = self.chance.random() < 0.5
        if crash:
            self.site.core.sessions.keeper.save = nothing
        await self.stop()
        await self.start()
        await self.site.look()  # at ranks that ended just before a crash
        for one in self.living():
            one.over = one.begun
            if crash and any(at > self.now - LATE for at, _ in one.renewals):
                safe = [until for at, until in one.renewals if at <= self.now - LATE]
                one.at_least = max([one.stored, *safe])
            if one.cookie or one.begun:
                # The last use is not kept, only the first.
                one.used = min(one.used, self.first_use(one))
            else:
                one.used = one.opened

    def first_use(self, one: Life) -> int:
        found = next((s for s in self.site.sessions._registry.all() if s.id == one.id), None)
        return found.used_at_ms if found else one.used

    async def end_rank(self) -> None:
        job, rank = self.chance.choice(JOBS), self.chance.randrange(2)
        if job in self.jobs_over or (job, 1 - rank) in self.ranks_over:
            return
        self.site.backend.end(job, rank, End.EXITED, exit_code=0)
        self.ranks_over.add((job, rank))
        await self.site.look()
        for one in self.lives:
            one.over = one.over or (one.job, one.rank) == (job, rank)

    async def end_job(self) -> None:
        job = self.chance.choice(JOBS)
        if job in self.jobs_over:
            return
        self.jobs_over.add(job)
        for rank in range(2):
            self.site.backend.end(job, rank, End.EXITED, exit_code=0)

        async def over() -> bool:
            row = await self.site.core.store.job(job)
            # The store may tell it before its listener was told.
            return row is not None and row.state.final and not any(one.job_id == job for one in await self.site.sessions.list())

        await patiently(over, self.clock)
        for one in self.lives:
            one.over = one.over or one.job == job

    def doubtful(self, one: Life) -> bool:
        return 0 < one.at_least <= self.now

    async def settle_doubts(self, job: str) -> None:
        """What may have ended early after a crash: as the server has it."""
        ids = {session.id for session in await self.site.sessions.list()}
        for one in self.living(job):
            if self.doubtful(one) and one.id not in ids:
                one.over = True

    async def compare(self) -> None:
        """The list is what the oracle says; every so often the store too."""
        told = [session.id for session in await self.site.sessions.list()]
        for one in self.living():
            if one.id not in told:
                assert self.doubtful(one), one
                one.over = True
        assert sorted(told) == sorted(one.id for one in self.living())
        if self.chance.random() < 0.1:
            await self.site.look()
            assert sorted(row.id for row in await self.site.core.store.sessions.all()) == sorted(told)


async def nothing() -> None: ...


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(LIVES))
async def test_sessions_are_what_the_oracle_says(tmp_path: Path, seed: int) -> None:
    """Opened, redeemed, used, guessed, closed, expired, ended with rank and job, across restarts: who gets in is who should."""
    world = World(tmp_path, seed)
    await world.start()
    try:
        await world.site.run(*(reachable_job(job, replicas=2) for job in JOBS))
        for _ in range(STEPS):
            await world.step()
            await asyncio.sleep(0)
        assert set(world.done) >= {"open", "redeem", "authorize", "time"}
    finally:
        await world.stop()
