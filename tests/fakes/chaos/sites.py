"""A Serai that is killed again and again at fault points, the users and the Core that it has meanwhile, and the look at what became of it.

One *run* is one kill at one point; a *site* is one Serai (folder, store, Core) with some runs after each other, then a clean start, and
then everything is looked at. The same seed makes the same plan; what the machine makes of it differs in its timing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from serai_backends.local.backend import open_local
from serai_backends.local.settings import LocalSettings
from serai_devcore.faults import Away, Effect, Fault

from fakes.chaos.leftovers import leftovers
from fakes.chaos.points import MOMENT, POINTS, TABLE, Aim, Dies, Fate, Point
from fakes.chaos.verdicts import Case, ran_ranks
from fakes.chaos.victim import TESTS, Life, line_of
from fakes.chaos.wishes import WIDE_PRODUCT, Users, Wish
from fakes.stack import START_S, Stack, stack

PERIOD_MS = 1_000
CORES = 6
LIFE_S = 12.0
"""Longest that a life waits for its point to be passed; then it is ended where it is."""


class Mood(Enum):
    """How Core is meanwhile."""

    FINE = "fine"
    AWAY = "nobody listens"
    SILENT = "takes calls and answers none"
    SLOW = "answers late"
    GARBAGE = "answers with a page of HTML"
    DEAF = "does the call and loses the answer"
    BROKEN = "answers 500 or 503"
    EXPIRED = "takes no token that it gave out before"


@dataclass(frozen=True)
class Run:
    """One kill."""

    point: Point
    passing: int
    mood: Mood
    again: Point | None = None
    """A second point, for the same life: whichever is passed first."""

    def __str__(self) -> str:
        also = f" or {self.again.name}" if self.again else ""
        return f"{self.point.name}:{self.passing}{also}, Core {self.mood.value}"


async def possible() -> frozenset[Aim]:
    """What users may ask of this machine's backend."""
    if not _POSSIBLE:
        with tempfile.TemporaryDirectory() as folder:
            async with await open_local(LocalSettings(state_dir=f"{folder}/state", drives_dir=folder)) as backend:
                features = backend.features
        lacking = {Aim.PAUSE: not features.suspension, Aim.EXTEND: not features.time_extension}
        _POSSIBLE.update(aim for aim in Aim if not lacking.get(aim))
    return frozenset(_POSSIBLE)


_POSSIBLE: set[Aim] = set()


async def points_here() -> list[Point]:
    asked = await possible()
    return [point for point in TABLE if point.aim in asked]


def plan_of(seed: int, points: Sequence[Point], others: Sequence[Point]) -> list[Run]:
    """The runs of a site. `others`: those that may end a life as well."""
    dice = random.Random(f"{seed} plan")
    runs: list[Run] = []
    for point in points:
        passing = dice.choice((1, 1, 2, 3, 5)) if point.often else 1
        mood = dice.choice((Mood.FINE, Mood.FINE, Mood.FINE, *Mood))
        again = dice.choice(others) if dice.random() < 0.2 and not point.first else None
        again = again if again is not None and again.dies is Dies.SERVER and not again.first else None
        runs.append(Run(point, passing, mood, again))
    return sorted(runs, key=lambda run: not run.point.first)


@dataclass
class Victim(Stack):
    """A stack whose Serai is forked by fakes.chaos.victim."""

    mother: asyncio.subprocess.Process | None = None
    pid: int = 0

    @property
    def hurt(self) -> Path:
        return self.folder / "hurt"

    async def live(self, kill: dict[str, int] | None = None, *, passed: Path | None = None, seed: int = 0) -> None:
        """Begin a life; it may be over before it is ready."""
        if self.mother is None:
            self.mother = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fakes.chaos.victim"),
                cwd=TESTS,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        life = Life(
            config=str(self.folder / "serai.toml"),
            log=str(self.log),
            kill=kill or {},
            passed=str(passed or ""),
            hurt=str(self.hurt),
            minute_ms=PERIOD_MS,
            seed=seed,
        )
        assert self.mother.stdin is not None
        self.mother.stdin.write(line_of(life))
        self.pid = int((await self._line()).removeprefix("pid "))
        self.starts += 1

    async def _line(self) -> str:
        assert self.mother is not None and self.mother.stdout is not None
        async with asyncio.timeout(START_S):
            return (await self.mother.stdout.readline()).decode().strip()

    async def ended(self, within_s: float) -> bool:
        """Wait for the end of this life."""
        assert self.mother is not None and self.mother.stdout is not None
        if not self.pid:
            return True
        try:
            async with asyncio.timeout(within_s):
                line = await self.mother.stdout.readline()
        except TimeoutError:
            return False
        self.pid = 0
        if line.strip() not in {b"ended -9", b"ended 0"}:
            raise AssertionError(f"serai ended by itself: {line!r}\n{self.tail()}")
        return True

    async def kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself; `ended` tells how
                os.kill(self.pid, signal.SIGKILL)
            assert await self.ended(START_S)

    async def leave(self) -> None:
        """The end of the site."""
        await self.kill()
        if self.mother is not None and self.mother.stdin is not None:
            self.mother.stdin.close()
            await self.mother.wait()

    def fates(self) -> dict[str, set[Fate]]:
        """What was done to the processes of jobs, by job."""
        found: dict[str, set[Fate]] = {}
        for line in self.hurt.read_text().splitlines() if self.hurt.exists() else ():
            job_id, name = line.split()
            found.setdefault(job_id, set()).add(POINTS[name].fate)
        return found


@contextlib.asynccontextmanager
async def site(folder: Path, generation: str) -> AsyncGenerator[Victim]:
    """A Serai that has not begun to live yet."""
    async with stack(folder, generation=generation, started=False, cpu=CORES, kind=Victim) as running:
        running.core.accounts.add_product(WIDE_PRODUCT)
        settings = folder / "serai.toml"
        text = settings.read_text().replace("[gateway]", "timeout_ms = 1500\n[gateway]")
        wide = f'[[products]]\nid = "{WIDE_PRODUCT.id}"\ncategory = "{WIDE_PRODUCT.category}"\ncpu = {CORES}\nmemory_gib = 2\n'
        settings.write_text(f"{text}{wide}[jobs]\ncharge_every_ms = 1000\nstop_grace_ms = 300\n")
        try:
            yield running
        finally:
            await running.leave()


@dataclass
class Score:
    """What happened in a site."""

    kills: int = 0
    unreached: list[str] = field(default_factory=list[str])
    """Points that were not passed in time; their lives were ended by the clock instead."""
    jobs: int = 0
    updates: int = 0
    hurt: int = 0

    def add(self, other: Score) -> None:
        self.kills += other.kills
        self.unreached += other.unreached
        self.jobs += other.jobs
        self.updates += other.updates
        self.hurt += other.hurt

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({len(self.unreached)} not at their point), {self.jobs} jobs, {self.hurt} of them hurt, "
            f"{self.updates} updates"
        )


async def play(folder: Path, generation: str, seed: int, points: Sequence[Point]) -> Score:
    """One site from its first start to the look at everything. AssertionError, with what to look at, when something is wrong."""
    runs = plan_of(seed, points, await points_here())
    async with site(folder, generation) as running:
        try:
            return await _Site(running, random.Random(seed), generation, await possible()).play(runs)
        except AssertionError as error:
            kept = folder / "serai.log"
            done = "\n".join(f"  {run}" for run in runs)
            raise AssertionError(f"{error}\nlog: {kept}\nruns of the site:\n{done}") from error


class _Site:
    def __init__(self, running: Victim, dice: random.Random, generation: str, asked: frozenset[Aim]) -> None:
        self._running, self._dice, self._generation = running, dice, generation
        self._users = Users(running.core, dice, possible=asked)
        self._score = Score()

    async def play(self, runs: Sequence[Run]) -> Score:
        async with asyncio.TaskGroup() as group:
            users: list[asyncio.Task[None]] = []
            for run in runs:
                await self._life(run, group, users)
                self._score.kills += 1
            self._users.enough = True
            await self._make_up()
            await self._running.live()
            await self._running.until_ready()
            async with asyncio.timeout(120):
                await asyncio.wait(users)
        await self._look()
        await self._running.kill()
        return self._score

    # One run

    async def _life(self, run: Run, group: asyncio.TaskGroup, users: list[asyncio.Task[None]]) -> None:
        running, dice = self._running, self._dice
        self._users.aim = run.point.aim if run.point.aim is not Aim.ANY or run.again is None else run.again.aim
        kill = {} if run.point is MOMENT else {run.point.name: run.passing}
        if run.again is not None:
            kill[run.again.name] = dice.choice((1, 2))
        hurt_before = self._hurt_count()
        async with self._mood(run.mood):
            await running.live(kill, seed=dice.getrandbits(32))
            if not users:
                users += [group.create_task(self._users.live()) for _ in range(3)]
            if run.point is MOMENT:
                await running.ended(dice.uniform(0, 2.5))
            elif run.point.dies is Dies.SERVER:
                if not await running.ended(LIFE_S):
                    self._score.unreached.append(str(run))
            else:
                await self._until_hurt(run, hurt_before)
                await running.ended(dice.uniform(0, 0.6))
            await running.kill()

    async def _until_hurt(self, run: Run, before: int) -> None:
        """A job's own process was ended; the server lives."""
        for _ in range(int(LIFE_S / 0.05)):
            if self._hurt_count() > before or await self._running.ended(0.05):
                return
        self._score.unreached.append(str(run))

    def _hurt_count(self) -> int:
        file = self._running.hurt
        return len(file.read_text().splitlines()) if file.exists() else 0

    @contextlib.asynccontextmanager
    async def _mood(self, mood: Mood) -> AsyncGenerator[None]:
        """Core is so for a part of the life."""
        over = asyncio.Event()
        task = asyncio.create_task(self._be(mood, over))
        try:
            yield
        finally:
            # Not cancelled: half a way back would be neither here nor away.
            over.set()
            await task
            await self._make_up()

    async def _be(self, mood: Mood, over: asyncio.Event) -> None:
        core, dice = self._running.core, self._dice
        control, some = "/api/", dice.randrange(1, 5)

        async def while_it_lasts(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await over.wait()

        await while_it_lasts(dice.uniform(0, 1))
        match mood:
            case Mood.FINE:
                return
            case Mood.AWAY | Mood.SILENT:
                await core.go_away(Away.REFUSE if mood is Mood.AWAY else Away.HANG)
                await while_it_lasts(dice.uniform(0.3, 3))
                await core.come_back()
            case Mood.SLOW:
                core.faults.add(Fault(Effect.SLOW, path=control, probability=0.5, delay_ms=dice.choice((100, 400, 2000))))
            case Mood.GARBAGE:
                core.faults.add(Fault(Effect.GARBAGE, path=dice.choice((control, "")), times=some))
            case Mood.DEAF:
                core.faults.add(Fault(dice.choice((Effect.LOSE_ANSWER, Effect.DROP)), path=control, times=some))
            case Mood.BROKEN:
                core.faults.add(Fault(Effect.STATUS, status=dice.choice((500, 503)), path=control, times=some))
            case Mood.EXPIRED:
                for _ in range(3):
                    core.expire_tokens()
                    await while_it_lasts(dice.uniform(0.2, 0.8))

    async def _make_up(self) -> None:
        self._running.core.clear_faults()
        await self._running.core.come_back()

    # The look at the end

    async def _look(self) -> None:
        running, wishes = self._running, self._users.wishes
        accepted = [w for w in wishes if w.accepted]
        await running.until_final(*(w.job_id for w in accepted), timeout_s=120)
        await running.until_none_active()
        problems = [*self._problems(accepted)]
        deadline = asyncio.get_running_loop().time() + 30
        while problems and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.2)  # a bill comes after the final state; what is still wrong at the end is wrong
            problems = [*self._problems(accepted)]
        assert not problems, "\n".join(problems)
        for wish in wishes:
            ranks = ran_ranks(running.work(wish.job_id))
            assert len(set(ranks)) == len(ranks), f"job {wish.job_id}, which Core forgot, ran twice: {ranks}"
        left = await leftovers(running.folder)
        assert not left, "left behind: " + "; ".join(left)
        self._score.jobs = len(accepted)
        self._score.hurt = len(running.fates())
        self._score.updates = sum(len(running.core.jobs[w.job_id].arrivals) for w in accepted)

    def _problems(self, accepted: Sequence[Wish]) -> list[str]:
        running, fates = self._running, self._running.fates()
        found: list[str] = []
        for wish in accepted:
            case = Case(
                wish=wish,
                job=running.core.jobs[wish.job_id],
                work=running.work(wish.job_id),
                accounts=running.core.accounts,
                fates=frozenset(fates.get(wish.job_id, set())),
                period_ms=PERIOD_MS,
                generation=self._generation,
            )
            if problem := case.problem():
                found.append(f"job {wish.job_id} ({wish.aim.value}, {wish.request.product.id}, x{wish.request.replicas}): {problem}")
        return found
