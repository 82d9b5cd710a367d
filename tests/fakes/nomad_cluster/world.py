"""The Nomad backend living on the model of a cluster, with people who use it and powers that disturb it.

Time is a fake clock's, memory takes the disk's place, and the backend is the real one: its feed, its engine, its steps. It is killed at any
await and started anew from what was stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from serai_backends.common.board import Board
from serai_backends.errors import BackendUnavailable
from serai_backends.model import JobObservation, ReplicaSpec, Resources
from serai_backends.nomad.backend import NomadBackend
from serai_backends.nomad.engine import Engine
from serai_backends.nomad.feed import Feed
from serai_backends.nomad.ground import Ground
from serai_backends.nomad.jobfile import Prepared, codes
from serai_backends.nomad.settings import NomadSettings
from serai_backends.nomad.store import Views

from fakes.clock import FakeClock
from fakes.nomad_cluster.cluster import Cluster
from fakes.nomad_cluster.judge import Judge
from fakes.nomad_cluster.remote import Remote

if TYPE_CHECKING:
    from serai_backends.common.threads import Threads
    from serai_backends.nomad.client import NomadClient
    from serai_backends.nomad.jobfile import JobFolders
    from serai_backends.nomad.records import Record, Records

_T = TypeVar("_T")
_AT_ONCE = 12
"""Jobs that are known at the same time."""
_REPLICAS = 5
_PATIENCE = 4_000
"""Turns in which a calm cluster has to come to its end."""


class Memory:
    """In the place of `Records`: durable when `save` returns, unless the server was killed before."""

    def __init__(self) -> None:
        self.rows: dict[str, Record] = {}


class _Disk:
    def __init__(self, memory: Memory) -> None:
        self._memory, self.dead = memory, False

    async def save(self, *records: Record) -> None:
        await self._turn()
        self._memory.rows.update({record.job_id: record for record in records})
        await self._turn()

    async def delete(self, job_id: str) -> None:
        await self._turn()
        self._memory.rows.pop(job_id, None)
        await self._turn()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.dead:
            raise asyncio.CancelledError


class _Inline:
    async def run(self, step: Callable[[], _T]) -> _T:
        await asyncio.sleep(0)
        return step()


class _Folders:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def marks(self, spec: ReplicaSpec, rank: int) -> frozenset[int] | None:
        body = self._cluster.bodies.get((spec.job_id, rank))
        if body is None:
            return frozenset()
        return frozenset({codes.BEGUN if body.mark is None else body.mark})

    def choose(self, spec: ReplicaSpec, used: set[int]) -> Prepared:
        del spec, used
        return Prepared(uid=None, gid=None)

    def make(self, spec: ReplicaSpec, chosen: Prepared) -> None:
        pass

    def tidy(self, spec: ReplicaSpec) -> None:
        pass


class _Told(Board):
    def __init__(self, judge: Judge, now_ms: int) -> None:
        super().__init__(now_ms)
        self._judge = judge
        self.dead = False

    def publish(self, observation: JobObservation) -> None:
        if not self.dead:
            self._judge.tell(observation)
            super().publish(observation)


class Instance:
    """One life of the server."""

    def __init__(self, cluster: Cluster, memory: Memory, judge: Judge, clock: FakeClock, settings: NomadSettings) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.remote, self._disk = Remote(cluster), _Disk(memory)
        self._board = _Told(judge, clock.now_ms())
        records = cast("Records", cast("object", self._disk))
        client = cast("NomadClient", cast("object", self.remote))
        threads, folders = cast("Threads", cast("object", _Inline())), cast("JobFolders", cast("object", _Folders(cluster)))
        ground = Ground(settings, client, records, self._board, threads, folders, clock, clock.now_ms, self.spawn)
        views = Views(records, sorted(memory.rows.values(), key=lambda row: row.sequence), shared=True)
        engine = Engine(ground, views)
        feed = Feed(self.remote, engine, settings, clock)
        engine.look, engine.look_at_room = feed.look, feed.look_at_room
        self.backend = NomadBackend(ground, views, engine, feed)
        self.spawn(engine.run())
        self.spawn(feed.run())

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(_quiet(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def kill(self) -> None:
        """As kill -9: what is not stored is gone, and nothing is told any more."""
        self.remote.dead = self._disk.dead = self._board.dead = True
        self.remote.wake()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _quiet(work: Coroutine[object, object, None]) -> None:
    with suppress(BackendUnavailable):
        await work


class World:
    def __init__(self, seed: int, events: int, drives: str) -> None:
        self._rng, self._events = random.Random(seed), events
        self._clock = FakeClock()
        self.cluster = Cluster(self._rng, now_ms=self._clock.now_ms())
        self.judge = Judge(self.cluster)
        self._memory = Memory()
        self._settings = NomadSettings(
            state_dir=f"{drives}/state", provider="serai", drives_dir=drives, placement_deadline_ms=4_000, sweep_ms=5_000
        )
        self._jobs: dict[str, ReplicaSpec] = {}
        """Known to the server that uses the backend, and not forgotten."""
        self._taken: set[str] = set()
        self._to_cancel: set[str] = set()
        self._forgetting: set[str] = set()
        self._count = 0
        self.kills = self.cuts = 0
        self._instance = self._start()

    def _start(self) -> Instance:
        return Instance(self.cluster, self._memory, self.judge, self._clock, self._settings)

    async def run(self) -> None:
        """Until so many events were told and every job is over and forgotten."""
        while self.cluster.history.told < self._events:
            await self._turn(calm=False)
        self._instance.remote.failing = 0
        for _ in range(_PATIENCE):
            self.cluster.calm()
            await self._turn(calm=True)
            if not self._jobs:
                break
        else:
            self.judge.wrong += [f"{job_id} never ended: {self._memory.rows.get(job_id)}" for job_id in self._jobs]
        await self._instance.kill()
        left = [job.wire.id for job in self.cluster.jobs.values()]
        self.judge.wrong += [f"left at Nomad: {name}" for name in [*left, *self.cluster.variables]] + self.cluster.wrong

    async def _turn(self, *, calm: bool) -> None:
        rng, cluster = self._rng, self.cluster
        self._clock.move(rng.choice((1, 5, 20, 100, 400)))
        cluster.now_ms = self._clock.now_ms()
        for _ in range(rng.randrange(8)):
            cluster.step()
        if not calm:
            await self._trouble()
        self._instance.remote.wake()
        self._use(calm=calm)
        for _ in range(rng.randrange(1, 25)):
            await asyncio.sleep(0)

    async def _trouble(self) -> None:
        rng, remote = self._rng, self._instance.remote
        if rng.random() < 0.03:
            self.cluster.disturb()
        if rng.random() < 0.01:
            self.cuts += 1
            remote.cut()
        if rng.random() < 0.005:
            remote.failing = rng.choice((0, 0, 0, 0.05, 0.3, 1))
        if rng.random() < 0.004:
            self.kills += 1
            await self._instance.kill()
            self._instance = self._start()
            self._taken &= self._memory.rows.keys()
            self._forgetting.clear()
            for job_id in [job_id for job_id in self._jobs if self.judge.ended(job_id) and job_id not in self._memory.rows]:
                self._forgotten(job_id)

    def _use(self, *, calm: bool) -> None:
        """What the server does that uses the backend: it asks again until it has its answer."""
        rng = self._rng
        if not calm and len(self._jobs) < _AT_ONCE and rng.random() < 0.5:
            self._count += 1
            name = f"job-{self._count}"
            count, resources = rng.choice((1, 1, 2, 3, _REPLICAS)), Resources(cpu=1, memory_bytes=1 << 20)
            self._jobs[name] = ReplicaSpec(name, count, ("run",), (), resources, f"d/Jobs/x/{name}", image="acme/batch")
        for job_id, spec in self._jobs.items():
            if job_id not in self._taken and rng.random() < 0.3:
                self._instance.spawn(self._submit(spec))
            elif job_id in self._taken and (job_id in self._to_cancel or rng.random() < 0.001):
                self._to_cancel.add(job_id)
                self._instance.spawn(self._cancel(job_id))
            elif self.judge.ended(job_id) and job_id not in self._forgetting and rng.random() < 0.1:
                self._forgetting.add(job_id)
                self._instance.spawn(self._forget(job_id))

    async def _submit(self, spec: ReplicaSpec) -> None:
        await self._instance.backend.submit(spec)
        self._taken.add(spec.job_id)

    async def _cancel(self, job_id: str) -> None:
        await self._instance.backend.cancel(job_id)
        self._to_cancel.discard(job_id)

    async def _forget(self, job_id: str) -> None:
        try:
            self.judge.settle(job_id)
            await self._instance.backend.forget(job_id)
            self._forgotten(job_id)
        finally:
            self._forgetting.discard(job_id)

    def _forgotten(self, job_id: str) -> None:
        """The server does not ask for it again: it has its own store of what has ended."""
        self._jobs.pop(job_id, None)
        self._taken.discard(job_id)
        self._to_cancel.discard(job_id)
        for rank in range(_REPLICAS):
            self.cluster.bodies.pop((job_id, rank), None)
