"""Metrics and traces of a process, made from the settings: the one place that knows Prometheus' registry and OpenTelemetry's provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import Metric as Family
from serai_telemetry.exposition import Exposition, Source
from serai_telemetry.families import Metric
from serai_telemetry.listener import Listener, listening
from serai_telemetry.spans import Traces

from serai_server.cli.exits import CliError
from serai_server.settings import TracesSettings

BUILD = Metric("serai_build_info", "gauge", "", "1; its labels say what runs", ("version", "part"))
_LAST_SPANS_S = 5.0
"""At the end of a process, for spans that were not sent yet."""


class _Build:
    """A Source."""

    def __init__(self, part: str) -> None:
        self._labels = (version("serai"), part)

    async def fetch(self) -> None:
        """All is at hand."""

    def collect(self) -> Iterable[Family]:
        yield BUILD.family({self._labels: 1})


def exposition(part: str, sources: Sequence[Source]) -> Exposition:
    """Of one process; `part` as `serai serve` names it."""
    registry = CollectorRegistry()
    for make in (ProcessCollector, PlatformCollector, GCCollector):
        make(registry=registry)
    return Exposition(registry, (_Build(part), *sources))


@asynccontextmanager
async def metrics_served(
    listen: str, part: str, sources: Sequence[Source], down: Callable[[], Sequence[str]] = tuple
) -> AsyncGenerator[str]:
    """Where they are served; empty = nowhere, as `listen` says. `down`: names of the parts that do not work now. OSError when the address
    cannot be had."""
    if not listen:
        yield ""
        return
    host, _, port = listen.rpartition(":")
    found = exposition(part, sources)
    async with listening(host.strip("[]"), int(port), Listener(found.text, down)) as url:
        yield url


@asynccontextmanager
async def traces_sent(settings: TracesSettings) -> AsyncGenerator[Traces | None]:
    """None = traces are off. Raises CliError when what they need is not installed."""
    if not settings.endpoint:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - of an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
        from serai_telemetry.otel import OtelTraces  # noqa: PLC0415
    except ModuleNotFoundError as error:
        packages = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        raise CliError(f"traces.endpoint is set, and OpenTelemetry is not installed: pip install {packages}") from error
    resource = Resource.create({"service.name": "serai", "service.version": version("serai")})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(settings.sample_ratio), resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint)))
    try:
        yield OtelTraces(provider)
    finally:
        # Blocks for as long as the collector is slow.
        ending = asyncio.ensure_future(asyncio.to_thread(provider.shutdown))
        await asyncio.wait((ending,), timeout=_LAST_SPANS_S)
