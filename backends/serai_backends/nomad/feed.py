"""The truth about the cluster, gathered: the event stream for what happens, lists for what the stream did not say.

The stream alone is not enough: it starts silently at the oldest entry that is kept, its buffer is small, it is not durable, and it ends
without a word (facts: nomad-tried §5). So: on each connection first the stream, then everything is listed, and both are applied by
ModifyIndex; a later connection resumes *at* the last index, since one index can come as two lines; and every `sweep_ms` everything is
listed once more, whatever the stream says.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from serai_backends.common.time import sleep_or
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from serai_backends.common.time import Clock
    from serai_backends.nomad.client import Event, EventBatch
    from serai_backends.nomad.settings import NomadSettings
    from serai_backends.nomad.wire import Allocation, Job, Node

log = structlog.get_logger("serai.nomad")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_BETWEEN_S = 0.5
"""At least, between two lists; a list that took long is followed by a longer pause, so that listing is never most of the work."""
_PAUSES = 3


class Source(Protocol):
    """What the feed needs of the client."""

    def events(self, index: int) -> AsyncIterator[EventBatch]: ...

    def allocations(self, page: int = 500) -> AsyncIterator[list[Allocation]]: ...

    async def jobs(self, prefix: str) -> tuple[list[Job], int]: ...

    async def nodes(self) -> list[Node]: ...

    async def used(self) -> list[Allocation]: ...


class Sink(Protocol):
    """Who is told. Plain calls: nothing waits."""

    def saw_event(self, event: Event) -> None: ...

    def saw_allocations(self, allocations: Sequence[Allocation]) -> None: ...

    def saw_everything(self, jobs: Sequence[Job], allocation_ids: set[str]) -> None:
        """A complete look: jobs of our prefix, and every allocation that was there a moment later."""
        ...

    def saw_cluster(self, nodes: Sequence[Node], used: Sequence[Allocation]) -> None: ...


class Feed:
    def __init__(self, source: Source, sink: Sink, settings: NomadSettings, clock: Clock) -> None:
        self._source, self._sink, self._settings, self._clock = source, sink, settings, clock
        self._index = 0
        self._listed_ms = 0
        self._wanted, self._everything = asyncio.Event(), True
        self.listed = asyncio.Event()
        """Everything was looked at once."""
        self.trouble = ""
        """Why Nomad cannot be followed now; empty = it can."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._sweep())

    def look(self) -> None:
        """Have everything listed soon."""
        self._everything = True
        self._wanted.set()

    def look_at_room(self) -> None:
        """Have the cluster's room looked at soon, and nothing else."""
        self._wanted.set()

    async def _follow(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async for batch in self._source.events(self._index):
                    if pause_s or self.trouble:
                        # The first word, mostly a heartbeat: what happened before it is found by the list.
                        pause_s, self.trouble = 0.0, ""
                        self.look()
                    self._apply(batch)
                why = "the stream ended"
            except BackendUnavailable as error:
                why = str(error)
            if why != self.trouble:
                log.warning("nomad.stream_broke", why=why)
            self.trouble = why
            pause_s = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            await self._clock.sleep(pause_s)

    def _apply(self, batch: EventBatch) -> None:
        self._index = max(self._index, batch.index)
        for event in batch.events:
            self._sink.saw_event(event)

    async def _sweep(self) -> None:
        failures = 0
        while True:
            self._wanted.clear()
            everything, self._everything = self._everything, False
            began_ms = self._clock.now_ms()
            try:
                await self._list_room()
                if everything:
                    await self._list()
                failures = 0
            except BackendUnavailable as error:
                self._everything = self._everything or everything
                failures += 1
                if failures == 1:
                    log.warning("nomad.not_listed", why=str(error))
                await self._clock.sleep(min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))
                continue
            took_s = (self._clock.now_ms() - began_ms) / 1000
            await self._clock.sleep(max(_BETWEEN_S, min(_PAUSES * took_s, _LONGEST_PAUSE_S)))
            await self._until_wanted()

    async def _until_wanted(self) -> None:
        due_ms = self._listed_ms + self._settings.sweep_ms
        over = await sleep_or(self._clock, max(0, due_ms - self._clock.now_ms()) / 1000, self._wanted)
        if over or self._clock.now_ms() >= due_ms:
            self._everything = True

    async def _list_room(self) -> None:
        nodes, used = await self._source.nodes(), await self._source.used()
        self._sink.saw_cluster(nodes, used)

    async def _list(self) -> None:
        # Jobs first: an allocation that is listed later than its job was missed cannot make the job look gone.
        jobs, _ = await self._source.jobs(names.PREFIX)
        found: set[str] = set()
        async for page in self._source.allocations():
            self._sink.saw_allocations(page)
            found.update(allocation.id for allocation in page)
        self._sink.saw_everything(jobs, found)
        self._listed_ms = self._clock.now_ms()
        self.listed.set()
