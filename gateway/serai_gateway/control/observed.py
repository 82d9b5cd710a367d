"""Calls to Core and deliveries, counted and put into spans: wrappers, so that what does the work knows nothing of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from serai.events.v1 import events_service_pb2 as events_pb2
from serai_telemetry.spans import JOB, Kind, Span, Traces

from serai_gateway.clock import Clock
from serai_gateway.control.deliveries import Client
from serai_gateway.control.queues import Lane, key_of
from serai_gateway.control.results import Accepted, Failed, Rejected, Result
from serai_gateway.control.transport import Answer, AnswerTooLong, CoreUnreachable, Transport
from serai_gateway.counts import GatewayCounts, word_of

_MS = 1_000_000
_MOST_JOBS = 20
"""Ids of jobs in one span."""
_DELIVERED, _SHORT = events_pb2.SETTLEMENT_OUTCOME_DELIVERED, events_pb2.SETTLEMENT_OUTCOME_INSUFFICIENT_FUNDS


class ObservedTransport:
    """A Transport. A call is known by its path without the query, and every path of Core's API that is called is a constant."""

    def __init__(
        self, transport: Transport, counts: GatewayCounts, traces: Traces | None, ticks: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        """`traces` None = no spans. `ticks` gives ns."""
        self._transport = transport
        self._counts = counts
        self._traces = traces
        self._ticks = ticks

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        return await self._observed("POST", path, self._transport.post(path, body, bearer))

    async def get(self, path: str, bearer: str | None) -> Answer:
        return await self._observed("GET", path, self._transport.get(path, bearer))

    async def _observed(self, method: str, path: str, call: Awaitable[Answer]) -> Answer:
        call_path, began, outcome = path.partition("?")[0], self._ticks(), "cancelled"
        with self._span(f"{method} {call_path}", method, call_path) as span:
            try:
                answer = await call
                outcome = str(answer.status)
            except CoreUnreachable as error:
                outcome = "too_long" if isinstance(error, AnswerTooLong) else "unreachable"
                raise
            finally:
                self._counts.core_calls.add((call_path, outcome), self._ticks() - began)
            if span is not None:
                span.note("http.response.status_code", answer.status)
                if answer.status >= 400:
                    span.failed(outcome)
        return answer

    def _span(self, name: str, method: str, path: str) -> AbstractContextManager[Span | None]:
        if self._traces is None:
            return nullcontext()
        return self._traces.span(name, Kind.CLIENT, notes={"http.request.method": method, "url.path": path})


class ObservedClient:
    """What sends events to Core."""

    def __init__(self, client: Client, counts: GatewayCounts, traces: Traces | None, clock: Clock) -> None:
        """`traces` None = no spans. `clock` is compared with the times of events, which are the server's."""
        self._client = client
        self._counts = counts
        self._traces = traces
        self._clock = clock

    def lane_of(self, event: events_pb2.Event) -> Lane | None:
        return self._client.lane_of(event)

    async def send(self, lane: Lane, batch: Sequence[events_pb2.Event]) -> Result:
        if self._traces is None:
            result = await self._client.send(lane, batch)
        else:
            with self._traces.span(f"deliver {lane.value}", notes=_notes(batch)) as span:
                result = await self._client.send(lane, batch)
                if not isinstance(result, Accepted):
                    span.failed(type(result).__name__)
        self._count(lane, batch, result)
        return result

    def _count(self, lane: Lane, batch: Sequence[events_pb2.Event], result: Result) -> None:
        counts = self._counts
        match result:
            case Accepted(short_of_funds):
                now_ms = self._clock.now_ms()
                for event in batch:
                    outcome = _SHORT if key_of(event) in short_of_funds else _DELIVERED
                    counts.delivered.add((lane.value, word_of(outcome)))
                    counts.delivery_ns.add((lane.value,), max(now_ms - event.occurred_at_ms, 0) * _MS)
            case Rejected(outcome):
                # A batch of several is sent again in halves, until it is known what Core refuses.
                if len(batch) == 1:
                    counts.delivered.add((lane.value, word_of(outcome)))
            case Failed():
                counts.retried.add((lane.value,), len(batch))


def _notes(batch: Sequence[events_pb2.Event]) -> dict[str, str | int]:
    jobs = list(dict.fromkeys(event.job_id for event in batch if event.job_id))
    notes: dict[str, str | int] = {"serai.events": len(batch)}
    if jobs:
        notes[JOB] = ",".join(jobs[:_MOST_JOBS])
    return notes
