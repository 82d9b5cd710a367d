"""Spans by OpenTelemetry, kept in memory instead of being sent."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from serai_telemetry.otel import OtelTraces


class Kept:
    def __init__(self, ratio: float = 1.0) -> None:
        """`ratio`: of the traces that begin here."""
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = OtelTraces(provider)

    def spans(self) -> dict[str, ReadableSpan]:
        """Those that have ended and are sampled, by name."""
        return {span.name: span for span in self._exporter.get_finished_spans()}
