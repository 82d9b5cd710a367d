"""The stream and the lists together: nothing that one of them does not say is missed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fakes.nomad_words import alloc, view_of
from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client import Event, EventBatch
from serai_backends.nomad.feed import Feed
from serai_backends.nomad.records import Stage
from serai_backends.nomad.settings import NomadSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from serai_backends.nomad.wire import Allocation, Job, Node

SETTINGS = NomadSettings(state_dir="/x", provider="p", drives_dir="/d", sweep_ms=30_000)
VIEW = view_of(Stage.OPENED)


class Time:
    """Sleeps end when the test says so."""

    def __init__(self) -> None:
        self.sleepers: list[tuple[float, asyncio.Event]] = []

    def now_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self.sleepers.append((seconds, event))
        await event.wait()

    def pass_all(self) -> list[float]:
        now, self.sleepers = self.sleepers, []
        for _, event in now:
            event.set()
        return [seconds for seconds, _ in now]


@dataclass
class Cluster:
    """A stream that the test feeds, and lists of what it says is there."""

    batches: asyncio.Queue[EventBatch | None] = field(default_factory=asyncio.Queue[EventBatch | None])
    there: list[Allocation] = field(default_factory=list["Allocation"])
    resumed_at: list[int] = field(default_factory=list[int])
    lists: int = 0
    away: bool = False

    async def events(self, index: int) -> AsyncIterator[EventBatch]:
        self.resumed_at.append(index)
        if self.away:
            raise BackendUnavailable("Nomad is away")
        while (batch := await self.batches.get()) is not None:
            yield batch

    async def allocations(self, page: int = 500) -> AsyncIterator[list[Allocation]]:
        if self.away:
            raise BackendUnavailable("Nomad is away")
        self.lists += 1
        yield list(self.there)

    async def jobs(self, prefix: str) -> tuple[list[Job], int]:
        return [], 7

    async def nodes(self) -> list[Node]:
        if self.away:
            raise BackendUnavailable("Nomad is away")
        return []

    async def used(self) -> list[Allocation]:
        return []


@dataclass
class Ear:
    heard: list[str] = field(default_factory=list[str])
    looks: int = 0

    def saw_event(self, event: Event) -> None:
        self.heard.append(f"event {event.index}")

    def saw_allocations(self, allocations: Sequence[Allocation]) -> None:
        self.heard += [f"list {allocation.id}" for allocation in allocations]

    def saw_everything(self, jobs: Sequence[Job], allocation_ids: set[str]) -> None:
        self.looks += 1

    def saw_cluster(self, nodes: Sequence[Node], used: Sequence[Allocation]) -> None: ...


@dataclass
class Site:
    cluster: Cluster
    ear: Ear
    time: Time
    feed: Feed

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    cluster, ear, time = Cluster(), Ear(), Time()
    site = Site(cluster, ear, time, Feed(cluster, ear, SETTINGS, time))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(site.feed.run())
        await site.settle()
        yield site
        running.cancel()


def event(index: int) -> EventBatch:
    return EventBatch(index, (Event("Allocation", "AllocationUpdated", "a", index, allocation=alloc(VIEW)),))


async def test_the_first_word_of_a_connection_has_everything_listed(site: Site) -> None:
    """A heartbeat will do: what happened before it is in the list."""
    assert site.ear.looks == 1
    site.cluster.there = [alloc(VIEW)]
    site.time.pass_all()
    await site.settle()
    site.cluster.batches.put_nowait(EventBatch(0, ()))
    await site.settle()
    assert site.ear.looks == 2
    assert site.ear.heard == ["list alloc-0"]
    assert site.feed.listed.is_set()


async def test_a_broken_stream_is_resumed_at_its_last_index(site: Site) -> None:
    """At it and not after it: one index can be two lines. And everything is listed again."""
    for index in (41, 42):
        site.cluster.batches.put_nowait(event(index))
    site.cluster.batches.put_nowait(None)
    await site.settle()
    assert site.feed.trouble
    for _ in range(3):
        site.time.pass_all()
        await site.settle()
    assert site.cluster.resumed_at == [0, 42]
    looks = site.ear.looks
    site.cluster.batches.put_nowait(event(42))
    await site.settle()
    site.time.pass_all()
    await site.settle()
    assert site.ear.looks == looks + 1
    assert not site.feed.trouble


async def test_everything_is_listed_every_now_and_then(site: Site) -> None:
    """Whatever the stream says, or does not."""
    slept: list[float] = []
    for _ in range(6):
        slept += site.time.pass_all()
        await site.settle()
    assert site.ear.looks >= 3
    assert SETTINGS.sweep_ms / 1000 in slept


async def test_an_absent_nomad_is_asked_ever_more_slowly(site: Site) -> None:
    """And its trouble is known; when it is back, all is well."""
    site.cluster.away = True
    site.cluster.batches.put_nowait(None)
    pauses: list[float] = []
    for _ in range(12):
        await site.settle()
        pauses += site.time.pass_all()
    assert site.feed.trouble == "Nomad is away"
    assert max(pauses) <= SETTINGS.sweep_ms / 1000
    assert 10.0 in pauses
    site.cluster.away = False
    for _ in range(3):
        site.time.pass_all()
        await site.settle()
    site.cluster.batches.put_nowait(EventBatch(0, ()))
    await site.settle()
    assert not site.feed.trouble
