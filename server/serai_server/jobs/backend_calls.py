"""The backend as the reconciler calls it: the same calls, counted, and the actions of traced jobs in spans.

An action belongs to the create that asked for its job. The submission, which comes at once, is part of the create's own trace; what comes
later, perhaps days later, is a trace of its own with a link to the create.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TypeVar, cast

from serai_backends.api import Backend, Suspends
from serai_backends.errors import BackendError, BackendUnavailable
from serai_backends.model import JobObservation, ReplicaSpec, WatchEvent
from serai_telemetry.spans import JOB, Kind, Span, Traces

from serai_server.counts import BackendCounts

_T = TypeVar("_T")


class BackendCalls:
    """Every call raises what the backend raises. `origin`: the traceparent of the job's create; empty = it was not traced."""

    def __init__(
        self, backend: Backend, counts: BackendCounts, traces: Traces | None = None, ticks: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        """`traces` None = no spans. `ticks` gives ns."""
        self._backend = backend
        self._counts = counts
        self._traces = traces
        self._ticks = ticks

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def suspends(self) -> Suspends | None:
        """None = it cannot. For questions; the calls are here."""
        return self._backend if isinstance(self._backend, Suspends) else None

    async def submit(self, spec: ReplicaSpec, origin: str) -> None:
        with self._span("submit", spec.job_id, origin, inside=True):
            await self._counted("submit", self._backend.submit(spec))

    async def cancel(self, job_id: str, grace_ms: int = 0, origin: str = "") -> None:
        with self._span("cancel", job_id, origin):
            await self._counted("cancel", self._backend.cancel(job_id, grace_ms))

    async def forget(self, job_id: str, origin: str = "") -> None:
        with self._span("forget", job_id, origin):
            await self._counted("forget", self._backend.forget(job_id))

    async def suspend(self, job_id: str, origin: str) -> None:
        with self._span("suspend", job_id, origin):
            await self._counted("suspend", cast("Suspends", self._backend).suspend(job_id))

    async def resume(self, job_id: str, origin: str) -> None:
        with self._span("resume", job_id, origin):
            await self._counted("resume", cast("Suspends", self._backend).resume(job_id))

    async def inspect(self, job_id: str) -> JobObservation | None:
        return await self._counted("inspect", self._backend.inspect(job_id))

    async def list(self) -> Sequence[JobObservation]:
        return await self._counted("list", self._backend.list())

    async def watch(self, after: int | None) -> AsyncGenerator[WatchEvent]:
        try:
            async with aclosing(cast("AsyncGenerator[WatchEvent]", self._backend.watch(after))) as events:
                async for event in events:
                    self._counts.up = True
                    yield event
        except BackendUnavailable:
            self._counts.up = False
            raise

    async def _counted(self, call: str, awaited: Awaitable[_T]) -> _T:
        began, outcome = self._ticks(), "failed"
        try:
            result = await awaited
            outcome = "ok"
        except BackendUnavailable:
            outcome = "unavailable"
            raise
        except BackendError:
            outcome = "refused"  # an answer, if not the one that was hoped for
            raise
        finally:
            self._counts.calls.add((call, outcome), self._ticks() - began)
            if outcome != "failed":
                self._counts.up = outcome != "unavailable"
        return result

    def _span(self, call: str, job_id: str, origin: str, *, inside: bool = False) -> AbstractContextManager[Span | None]:
        if self._traces is None or not origin:
            return nullcontext()
        notes = {JOB: job_id, "serai.backend": self._backend.name}
        name = f"backend {call}"
        if inside:
            return self._traces.span(name, Kind.CLIENT, parent=origin, notes=notes)
        return self._traces.span(name, Kind.CLIENT, links=(origin,), notes=notes)
