"""The model of the cluster as the client that the backend holds.

Each call takes a few turns of the event loop before and after, so anything may happen in between; some fail before they had an effect, some
after it; a stream ends without a word.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import structs
from serai_backends.errors import BackendUnavailable
from serai_backends.model import End, Why
from serai_backends.nomad.client import AlreadyRegistered, EventBatch, Registered, VariableConflict
from serai_backends.nomad.wire import Variable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from serai_backends.nomad.jobfile import JobFile
    from serai_backends.nomad.wire import Allocation, Evaluation, Job, Node

    from fakes.nomad_cluster.cluster import Cluster

_PAGE = 7


class Remote:
    """See serai_backends.nomad.client.api.NomadClient, whose calls these are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._rng = cluster, cluster.rng
        self.namespace = "default"
        self.failing = 0.0
        """How many of the calls fail, 0 to 1."""
        self.dead = False
        """The server was killed: nothing that it still does may reach the cluster."""
        self._news = asyncio.Event()
        self._cut = 0

    def wake(self) -> None:
        """Something was added to the log."""
        self._news.set()

    def cut(self) -> None:
        """Every stream ends."""
        self._cut += 1
        self._news.set()

    async def _before(self) -> None:
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)
        self._trouble()

    async def _after(self) -> None:
        await asyncio.sleep(0)
        self._trouble()

    def _trouble(self) -> None:
        if self.dead:
            raise asyncio.CancelledError
        if self._rng.random() < self.failing:
            raise BackendUnavailable("Nomad has a bad day")

    async def register(self, job: JobFile) -> Registered:
        await self._before()
        nomad_id, groups, meta = str(job["ID"]), job["TaskGroups"], job["Meta"]
        assert isinstance(groups, list)
        assert isinstance(meta, dict)
        names = tuple(str(group["Name"]) for group in groups if isinstance(group, dict))
        index = self._cluster.register(nomad_id, names, {name: str(value) for name, value in meta.items()})
        await self._after()
        if index is None:
            raise AlreadyRegistered(nomad_id)
        return Registered("", index, "")

    async def deregister(self, nomad_id: str, *, purge: bool = False) -> None:
        await self._before()
        self._cluster.deregister(nomad_id, purge=purge, verdict=(End.CANCELED, None, None, Why.NONE))
        await self._after()

    async def job(self, nomad_id: str) -> Job | None:
        await self._before()
        found = self._cluster.jobs.get(nomad_id)
        await self._after()
        return found.wire if found is not None else None

    async def jobs(self, prefix: str) -> tuple[list[Job], int]:
        await self._before()
        found, index = [job.wire for name, job in self._cluster.jobs.items() if name.startswith(prefix)], self._cluster.history.index
        await self._after()
        return found, index

    async def allocations(self, page: int = _PAGE) -> AsyncIterator[list[Allocation]]:
        """Pages in order of ids, each as of its own moment."""
        last = ""
        while True:
            await self._before()
            names = sorted(name for name in self._cluster.allocations if name > last)[: min(page, _PAGE)]
            found = [self._listed(self._cluster.allocations[name].wire) for name in names]
            await self._after()
            if not found:
                return
            yield found
            last = names[-1]

    async def allocations_of(self, nomad_id: str) -> list[Allocation]:
        await self._before()
        job = self._cluster.jobs.get(nomad_id)
        found = [self._listed(life.wire) for lives in job.placed.values() for life in lives] if job is not None else []
        await self._after()
        return found

    async def allocation(self, alloc_id: str) -> Allocation | None:
        await self._before()
        life = self._cluster.allocations.get(alloc_id)
        await self._after()
        return life.wire if life is not None else None

    async def evaluations_of(self, nomad_id: str) -> list[Evaluation]:
        await self._before()
        job = self._cluster.jobs.get(nomad_id)
        return list(job.evaluations) if job is not None else []

    async def nodes(self) -> list[Node]:
        await self._before()
        return self._cluster.nodes()

    async def used(self) -> list[Allocation]:
        await self._before()
        return []

    async def put_variable(self, path: str, items: Mapping[str, str], cas: int | None = None) -> int:
        await self._before()
        answer = self._cluster.put_variable(path, dict(items), cas)
        await self._after()
        if isinstance(answer, Variable):
            raise VariableConflict(path, answer)
        return answer

    async def delete_variable(self, path: str) -> None:
        await self._before()
        self._cluster.variables.pop(path, None)
        await self._after()

    async def events(self, index: int) -> AsyncIterator[EventBatch]:
        await self._before()
        history, cut = self._cluster.history, self._cut
        generation, place = history.generation, history.start(index)
        yield EventBatch(0)
        while True:
            if self._cut != cut or history.generation != generation or self.dead:
                return
            found = history.read(place)
            if found is None:
                return
            for sequence, batch in found:
                place = sequence + 1
                yield batch
                if self._rng.random() < 0.2:
                    await asyncio.sleep(0)
            if not found:
                self._news.clear()
                await self._news.wait()

    @staticmethod
    def _listed(alloc: Allocation) -> Allocation:
        return structs.replace(alloc, network_status=None)
