"""The reconciler's calls of the backend, counted by what became of them; whether it is up is what the last one says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from fakes.backends import InstantBackend, Wrapped
from fakes.nomad_words import spec_of
from serai_backends.errors import BackendUnavailable, SubmissionRefused
from serai_backends.model import WatchEvent
from serai_server.counts import BackendCounts
from serai_server.jobs.backend_calls import BackendCalls


class Failing(Wrapped):
    """Raises what it is told to raise, at every call."""

    error: Exception | None = None

    async def before(self, call: str) -> None:
        if self.error is not None:
            raise self.error

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        return self._broken() if self.error is not None else super().watch(after)

    async def _broken(self) -> AsyncIterator[WatchEvent]:
        await self.before("watch")
        raise AssertionError
        yield


@pytest.fixture
def backend() -> Failing:
    return Failing(InstantBackend())


async def test_calls_by_outcome(backend: Failing) -> None:
    """A refusal is an answer; a call that could not be made is none; what nobody expected says nothing of the backend."""
    counts = BackendCounts()
    calls = BackendCalls(backend, counts)
    await calls.submit(spec_of("a"), "")
    assert counts.up
    backend.error = BackendUnavailable("away")
    with pytest.raises(BackendUnavailable):
        await calls.inspect("a")
    assert not counts.up
    backend.error = ValueError("a fault")
    with pytest.raises(ValueError, match="a fault"):
        await calls.cancel("a")
    assert not counts.up
    backend.error = SubmissionRefused("never")
    with pytest.raises(SubmissionRefused):
        await calls.submit(spec_of("b"), "")
    assert counts.up
    assert counts.calls.counts() == {("submit", "ok"): 1, ("inspect", "unavailable"): 1, ("cancel", "failed"): 1, ("submit", "refused"): 1}


async def test_a_watch_that_breaks_is_seen_and_one_that_brings_something_too(backend: Failing) -> None:
    """Without a job nobody would call."""
    counts = BackendCounts()
    calls = BackendCalls(backend, counts)
    backend.error = BackendUnavailable("away")
    with pytest.raises(BackendUnavailable):
        async for _ in calls.watch(None):
            pass
    assert not counts.up
    backend.error = None
    async with aclosing(calls.watch(None)) as events:

        async def first() -> WatchEvent:
            return await anext(events)

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0)  # it watches from here on
        await calls.submit(spec_of("a"), "")
        counts.up = False
        assert (await waiting).observation.job_id == "a"
    assert counts.up
