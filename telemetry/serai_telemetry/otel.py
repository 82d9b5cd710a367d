"""Traces by OpenTelemetry. Imported only when they are switched on; the SDK and the exporter come with the extra `serai[otel]`.

No provider is made the process's global one: two stacks in one process do not see each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TracerProvider

from serai_telemetry.spans import MOST_LINKS, NOTHING, REASON, Kind, Span, is_traceparent

_KINDS: Mapping[Kind, SpanKind] = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}


class OtelTraces:
    """See spans.Traces."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("serai")

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        *,
        parent: str = "",
        links: Sequence[str] = (),
        notes: Mapping[str, str | int] = NOTHING,
        current: bool = True,
    ) -> Generator[Span]:
        span = self._tracer.start_span(
            name,
            context=_context_of(parent),
            kind=_KINDS[kind],
            attributes=notes,
            links=[Link(found) for text in links[:MOST_LINKS] if (found := _place_of(text)) is not None],
            # The text of an exception may hold what no trace may.
            record_exception=False,
            set_status_on_exception=False,
        )
        told = _Told(span)
        try:
            if current:
                with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                    yield told
            else:
                yield told
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            told.failed(type(error).__name__)
            raise
        finally:
            span.end()

    def current(self) -> str:
        place = trace.get_current_span().get_span_context()
        if not place.is_valid:
            return ""
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"


class _Told:
    """A Span over OpenTelemetry's."""

    __slots__ = ("_is_told", "_span")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._is_told = False
        """How it ended."""

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, key: str, value: str | int) -> None:
        self._span.set_attribute(key, value)

    def failed(self, word: str) -> None:
        if not self._is_told:  # the first word is nearest to the cause
            self._is_told = True
            self._span.set_attribute("error.type", word)
            self._span.set_status(Status(StatusCode.ERROR, word))

    def refused(self, word: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._span.set_attribute(REASON, word)


def _place_of(traceparent: str) -> SpanContext | None:
    if not is_traceparent(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16) & TraceFlags.SAMPLED))


def _context_of(parent: str) -> Context | None:
    """None = the caller's own."""
    place = _place_of(parent)
    return None if place is None else trace.set_span_in_context(trace.NonRecordingSpan(place), Context())
