"""Backends for tests: the one in memory (fakes.instant), and badly behaved ones around any other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serai_backends.api import Suspends
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Capacity, CheckReport, Features, JobObservation, LogChunk, Phase, ReplicaSpec, Stream, WatchEvent

from fakes.instant import InstantBackend, InstantJob, InstantMachine
from fakes.reachable import FakeShell, ReachableBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from serai_backends.api import Backend

__all__ = [
    "FailsAt",
    "FakeShell",
    "ForgetfulBackend",
    "InstantBackend",
    "InstantJob",
    "InstantMachine",
    "NeverBackend",
    "ReachableBackend",
    "SlowBackend",
    "Wrapped",
]


class Wrapped:
    """A backend around another: `before` and `after` are awaited around every call that is not a stream."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    async def before(self, call: str) -> None:
        """To be overridden: what happens before the inner backend is asked."""

    async def after(self, call: str) -> None:
        """To be overridden: what happens when the inner backend has done it."""

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def features(self) -> Features:
        return self.inner.features

    async def submit(self, spec: ReplicaSpec) -> None:
        await self.before("submit")
        await self.inner.submit(spec)
        await self.after("submit")

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        await self.before("cancel")
        await self.inner.cancel(job_id, grace_ms)
        await self.after("cancel")

    async def suspend(self, job_id: str) -> None:
        await self.before("suspend")
        assert isinstance(self.inner, Suspends)
        await self.inner.suspend(job_id)
        await self.after("suspend")

    async def resume(self, job_id: str) -> None:
        await self.before("resume")
        assert isinstance(self.inner, Suspends)
        await self.inner.resume(job_id)
        await self.after("resume")

    async def inspect(self, job_id: str) -> JobObservation | None:
        await self.before("inspect")
        found = await self.inner.inspect(job_id)
        await self.after("inspect")
        return found

    async def list(self) -> Sequence[JobObservation]:
        await self.before("list")
        found = await self.inner.list()
        await self.after("list")
        return found

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        return self.inner.watch(after)

    async def forget(self, job_id: str) -> None:
        await self.before("forget")
        await self.inner.forget(job_id)
        await self.after("forget")

    def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        return self.inner.logs(job_id, rank, stream, offset, tail=tail, follow=follow, output_folder=output_folder)

    async def capacity(self) -> Capacity:
        await self.before("capacity")
        return await self.inner.capacity()

    async def check(self) -> CheckReport:
        await self.before("check")
        return await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()


class SlowBackend(Wrapped):
    """Every call waits at a gate; `waiting` says how many do. `open()` lets all through, `step()` one."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._gate = asyncio.Semaphore(0)
        self._open = False
        self.waiting = 0

    def open(self) -> None:
        self._open = True
        for _ in range(self.waiting):
            self._gate.release()

    def step(self) -> None:
        self._gate.release()

    async def before(self, call: str) -> None:
        if self._open:
            return
        self.waiting += 1
        try:
            await self._gate.acquire()
        finally:
            self.waiting -= 1


class NeverBackend(Wrapped):
    """No call is ever answered, and `watch` never says anything; only cancelling ends the wait."""

    async def before(self, call: str) -> None:
        await asyncio.Event().wait()

    async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:  # pyright: ignore[reportIncompatibleMethodOverride]  # an async generator is the same to its callers
        del after
        await asyncio.Event().wait()
        yield WatchEvent(cursor=0, observation=JobObservation(job_id="", phase=Phase.WAITING))


class FailsAt(Wrapped):
    """The n-th call (from 1) raises BackendUnavailable: before its effect, or with `late` after it, as when an answer is lost."""

    def __init__(self, inner: Backend, *numbers: int, late: bool = False) -> None:
        super().__init__(inner)
        self._numbers, self._late = frozenset(numbers), late
        self.calls: list[str] = []

    async def before(self, call: str) -> None:
        self.calls.append(call)
        if not self._late:
            self._fail()

    async def after(self, call: str) -> None:
        if self._late:
            self._fail()

    def _fail(self) -> None:
        if len(self.calls) in self._numbers:
            raise BackendUnavailable(f"call {len(self.calls)} fails")


class ForgetfulBackend(Wrapped):
    """Knows nothing any more of the jobs in `forgotten`, whatever it took on; and tells nothing of them."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.forgotten: set[str] = set()

    async def inspect(self, job_id: str) -> JobObservation | None:
        return None if job_id in self.forgotten else await self.inner.inspect(job_id)

    async def list(self) -> Sequence[JobObservation]:
        return [found for found in await self.inner.list() if found.job_id not in self.forgotten]

    async def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        async for event in self.inner.watch(after):
            if event.observation.job_id not in self.forgotten:
                yield event

    def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        if job_id in self.forgotten and not output_folder:
            raise JobNotThere(job_id)
        return self.inner.logs(job_id, rank, stream, offset, tail=tail, follow=follow, output_folder=output_folder)
