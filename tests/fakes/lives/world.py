"""One store, one server at a time, a machine, Core, and a few hundred lives on one clock.

The clock moves when nothing more happens by itself: to the next thing that is due, or a little past it, as on a machine that is busy. So a
seed repeats plan, dice and moments; who comes first within one ms is left to the threads of the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from serai.core.v1.resources_pb2 import SimpleDuration
from serai.jobs.v1.job_pb2 import Job
from serai.jobs.v1.jobs_service_pb2 import ExtendItem
from serai_backends.common.work_queue import WorkQueue
from serai_backends.model import Resources
from serai_devcore.accounts import WalletKey
from serai_devcore.wire import Generation
from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls
from serai_gateway.control.client import CoreClient
from serai_gateway.control.deliveries import Deliveries
from serai_gateway.settings import CoreSettings
from serai_gateway.tokens import Tokens
from serai_gateway.upstream import InProcessUpstream
from serai_server import main
from serai_server.errors import WrongState
from serai_server.jobs.products import Product
from serai_server.jobs.requests import Policy
from serai_server.rpc.health import Health
from serai_server.rpc.services import dispatcher
from serai_server.store import sqlite

from fakes.clock import FakeClock
from fakes.core_on import job as job_message
from fakes.lives.machine import Machine
from fakes.lives.plan import DAY, HOUR, MINUTE, PERIODS, PRICE, SECOND, SPAN_MS, Life, Wish, lives, log_uniform
from fakes.lives.power import Power, powered_link, powered_open_store
from fakes.lives.surroundings import CATEGORY, PROVIDER, CoreSide, CoreTransport, MachineBackend, PoweredUpstream

START_MS = 1_700_000_000_123
_TURNS = 25
"""Turns of the event loop without anybody who waits: then nothing more happens by itself. The longest chain of steps has about 10."""
_LONGEST_MS = 20 * DAY
"""By then every life is over, or something keeps it from ending."""


@dataclass
class _Process:
    """One life of the server, gateway included."""

    power: Power
    task: asyncio.Task[None] | None = None
    core: main.Core | None = None
    queue: WorkQueue | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Outcome:
    """What became of a world, for the oracle and for the count of what was tried."""

    lives: list[Life]
    machine: Machine
    core: CoreSide
    database: Path
    limits_ms: dict[str, set[int]]
    """By job: the limits that it may have, more than one when the answer to an extension was lost."""
    terminated: set[str]
    crashes: int = 0
    moments: int = 0


class World:
    def __init__(self, folder: Path, seed: int, count: int, generation: Generation, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._patch = patch
        self._dice = Random(f"{seed} {generation.value}")
        self._clock = FakeClock(START_MS)
        planned = lives(seed, count)
        self._machine = Machine({life.id: life.script for life in planned})
        self._core = CoreSide(generation, self._clock, planned, self._dice)
        for life in planned:
            if life.quota is not None:
                self._core.accounts.set_credits(wallet(life), life.quota)
        self.outcome = Outcome(planned, self._machine, self._core, folder / "serai.db", {}, set())
        for life in planned:
            self.outcome.limits_ms[life.id] = {life.limit_s * SECOND}
        order = itertools.count()
        self._wishes = [(START_MS + wish.at_ms, next(order), life, wish) for life in planned for wish in life.wishes]
        heapq.heapify(self._wishes)
        self._order = order
        self._asking: dict[asyncio.Task[None], tuple[Life, Wish]] = {}
        self._created: set[str] = set()
        self._codec = Codec()
        self._charge_every_ms = self._dice.choice([15 * MINUTE, HOUR, 4 * HOUR])
        self._late_ms = self._dice.choice([SECOND, 10 * MINUTE, 10 * MINUTE, HOUR])
        """How late things are seen at most, while the server is up."""
        self._crash_at_ms = START_MS + log_uniform(self._dice, MINUTE, HOUR)
        self._away_at_ms = START_MS + log_uniform(self._dice, MINUTE, 12 * HOUR)
        (folder / "refresh.token").write_text("the refresh token")

    async def run(self) -> Outcome:
        process = await self._start()
        try:
            while not await self._over(process):
                if not process.power.on:
                    self.outcome.crashes += 1
                    await self._bury(process)
                    self._move(self._clock.now_ms() + self._dice.choice([0, 0, log_uniform(self._dice, 1, 12 * HOUR)]))
                    process = await self._start()
                    continue
                self._next_moment(process)
                await self._settle(process)
                if process.task is not None and process.task.done():
                    process.task.result()
        finally:
            await self._bury(process)
        return self.outcome

    # --- time -------------------------------------------------------------------------------------------------------------------------

    def _next_moment(self, process: _Process) -> None:
        now_ms = self._clock.now_ms()
        times = [now_ms + 30 * MINUTE, self._crash_at_ms]
        if (due_ms := self._machine.next_ms()) is not None:
            times.append(due_ms)
        if self._wishes:
            times.append(self._wishes[0][0])
        if process.core is not None:
            registry = process.core.registry
            times += [r.wake_at_ms for i in registry.ids() if (r := registry.get(i)) is not None and r.wake_at_ms > now_ms]
        at_ms = max(min(times), now_ms + 1)
        self._move(at_ms + self._dice.choice([0, 1, log_uniform(self._dice, 1, self._late_ms), self._dice.randint(1, self._late_ms)]))
        self._fate(process)
        while self._wishes and self._wishes[0][0] <= self._clock.now_ms():
            _, _, life, wish = heapq.heappop(self._wishes)
            self._asking[asyncio.create_task(self._ask(process, life, wish))] = (life, wish)

    def _move(self, at_ms: int) -> None:
        """The machine first: what the server sees at a moment is what is true by then."""
        self.outcome.moments += 1
        self._machine.advance(at_ms)
        self._clock.move(at_ms - self._clock.now_ms())

    def _fate(self, process: _Process) -> None:
        now_ms = self._clock.now_ms()
        if now_ms >= self._crash_at_ms:
            self._crash_at_ms = now_ms + log_uniform(self._dice, MINUTE, 12 * HOUR)
            process.power.left = self._dice.choice([1, self._dice.randint(1, 30), self._dice.randint(1, 300)])
        if now_ms >= self._away_at_ms:
            self._core.away_until_ms = now_ms + log_uniform(self._dice, SECOND, DAY)
            self._away_at_ms = self._core.away_until_ms + log_uniform(self._dice, MINUTE, DAY)

    async def _settle(self, process: _Process) -> None:
        """Until nothing more happens by itself, or the power is out."""
        still = 0
        while process.power.on and still < _TURNS and not (process.task is not None and process.task.done()):
            if process.power.busy:
                still = 0
                await process.power.calm()
                continue
            await asyncio.sleep(0)
            asked = [task for task in self._asking if not task.done()]
            still = 0 if asked or process.queue is None or not process.queue.idle else still + 1
        for task in [t for t in self._asking if t.done()]:
            self._asking.pop(task)
            task.result()

    # --- the server -------------------------------------------------------------------------------------------------------------------

    async def _start(self) -> _Process:
        process = _Process(Power())
        self._patch.setattr(main, "open_store", powered_open_store(process.power))
        self._patch.setattr(sqlite, "SqliteLink", powered_link(process.power))

        class Queue(WorkQueue):
            def __init__(self, *values: object) -> None:
                super().__init__(*values)  # pyright: ignore[reportArgumentType] - passed on as they come
                process.queue = self

        self._patch.setattr(main, "WorkQueue", Queue)
        process.task = asyncio.create_task(self._serve(process))
        ready = asyncio.create_task(process.ready.wait())
        await asyncio.wait({ready, process.task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if process.task.done():
            process.task.result()
        await self._settle(process)
        return process

    async def _serve(self, process: _Process) -> None:
        power, clock = process.power, self._clock
        plan = main.Plan(
            store_url=f"sqlite:///{self.outcome.database}",
            products=tuple(Product(i, CATEGORY, PROVIDER, Resources(1, 1 << 30), period_ms, PRICE) for i, period_ms in PERIODS.items()),
            policy=Policy(most_replicas=100, undeclared_parameters=False, drive=lambda user, project: project or user),
            today=self._core.generation is Generation.G2026,
            charge_every_ms=self._charge_every_ms,
        )
        backend = MachineBackend(self._machine, clock, power, self._dice)
        transport = CoreTransport(self._core, power)
        settings = CoreSettings(url="http://core", public_key_file="", refresh_token_file=str(self._folder / "refresh.token"))
        async with main.running_core(plan, backend, clock, jitter=self._dice.random) as core:
            front = dispatcher(jobs=core.jobs, changes=core.changes, events=core.events, health=Health(), clock=clock)
            tokens = Tokens(transport, self._codec, self._folder / "refresh.token", clock)
            client = CoreClient(Calls(transport, tokens), self._codec, "2026" if plan.today else "2021", clock)
            upstream = PoweredUpstream(InProcessUpstream(front), power)
            deliveries = Deliveries(upstream, client, settings, clock, random=self._dice.random)
            process.core = core
            process.ready.set()
            try:
                await deliveries.run()
            finally:
                await tokens.close()

    async def _bury(self, process: _Process) -> None:
        """What is left of a process without power: nothing of it can have an effect any more."""
        if process.power.on:
            process.power.cut()
        self._machine.listener = None
        for task, (life, wish) in [*self._asking.items()]:
            await _end(task)
            if not task.cancelled() and task.exception() is None:
                continue
            if wish.kind == "extend":
                # It may have been stored, and asking again would add it twice.
                self.outcome.limits_ms[life.id] |= {limit + wish.seconds * SECOND for limit in self.outcome.limits_ms[life.id] if limit}
            else:
                self._again(life, wish)
        self._asking.clear()
        if process.task is not None:
            await _end(process.task)

    # --- users ------------------------------------------------------------------------------------------------------------------------

    def _again(self, life: Life, wish: Wish) -> None:
        heapq.heappush(self._wishes, (self._clock.now_ms() + self._dice.randint(1, MINUTE), next(self._order), life, wish))

    async def _ask(self, process: _Process, life: Life, wish: Wish) -> None:
        assert process.core is not None
        if wish.kind != "create" and life.id not in self._created:
            self._again(life, wish)  # nobody knows yet that there is such a job
            return
        jobs, changes = process.core.jobs, process.core.changes
        # Users ask for what cannot be (yet, or any more) too.
        with contextlib.suppress(WrongState):
            match wish.kind:
                case "create":
                    await jobs.create([_message(life)])
                    self._created.add(life.id)
                case "suspend":
                    await changes.suspend([life.id])
                case "resume":
                    await changes.unsuspend([life.id])
                case "extend":
                    minutes, seconds = divmod(wish.seconds, 60)
                    hours, minutes = divmod(minutes, 60)
                    span = SimpleDuration(hours=hours, minutes=minutes, seconds=seconds)
                    await changes.extend([ExtendItem(job=Job(id=life.id), requested_time=span)])
                    self.outcome.limits_ms[life.id] = {limit + wish.seconds * SECOND for limit in self.outcome.limits_ms[life.id]}
                case _:
                    self.outcome.terminated.add(life.id)
                    await changes.terminate([_message(life)], for_core=True)

    # --- the end ----------------------------------------------------------------------------------------------------------------------

    async def _over(self, process: _Process) -> bool:
        """Every life is over, and Core has been told everything."""
        now_ms = self._clock.now_ms()
        if self._wishes or not process.power.on or process.core is None:
            return False
        left = process.core.registry.ids()
        if now_ms - START_MS > _LONGEST_MS:
            raise AssertionError(f"after {_LONGEST_MS // DAY} days of the world, these jobs are not over: {left[:20]}")
        if now_ms - START_MS > SPAN_MS + DAY:
            self._crash_at_ms = self._away_at_ms = START_MS + 2 * _LONGEST_MS
        if left:
            return False
        undelivered = asyncio.create_task(_undelivered(process.core))
        await asyncio.wait({undelivered}, timeout=5)
        if undelivered.done():
            return not undelivered.result()
        await _end(undelivered)  # the power went out meanwhile
        return False


async def _undelivered(core: main.Core) -> bool:
    return bool(await core.store.events("core", 0, 1))


async def _end(task: asyncio.Task[Any]) -> None:
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)


def wallet(life: Life) -> WalletKey:
    return WalletKey(f"project:{life.project}" if life.project else f"user:{life.owner}", PROVIDER, CATEGORY)


def _message(life: Life) -> Job:
    message = job_message(life.id, "hang", replicas=life.replicas, product=life.product, minutes=0)
    message.owner.created_by = life.owner
    if life.project:
        message.owner.project = life.project
    if life.limit_s:
        minutes, seconds = divmod(life.limit_s, 60)
        hours, minutes = divmod(minutes, 60)
        message.specification.time_allocation.CopyFrom(SimpleDuration(hours=hours, minutes=minutes, seconds=seconds))
    return message
