"""What an OpenTelemetry collector is to Serai: it takes spans over HTTP (OTLP, protobuf) and keeps them, as they came, for questions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Seen:
    """One span."""

    name: str
    trace: str
    id: str
    parent: str
    """Empty = it begins its trace."""
    notes: dict[str, str]
    links: tuple[tuple[str, str], ...]
    """(trace, span)."""
    failed: str
    """Empty = it did not."""
    kind: str
    began_ns: int
    ended_ns: int

    def is_in(self, other: Seen) -> bool:
        return (self.trace, self.parent) == (other.trace, other.id)


@dataclass
class Collector:
    port: int = 0
    spans: list[Seen] = field(default_factory=list[Seen])
    resources: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    raw: bytearray = field(default_factory=bytearray)
    """Every byte that came."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def named(self, name: str) -> list[Seen]:
        """In the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.began_ns)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_texts(of_resource.resource.attributes))
            self.spans += [_seen(span) for scope in of_resource.scope_spans for span in scope.spans]
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")


def _seen(span: Span) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        notes=_texts(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else "",
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
    )


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {one.key: _text(one.value) for one in attributes}


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind is not None else ""


@asynccontextmanager
async def collector() -> AsyncGenerator[Collector]:
    found = Collector()
    application = web.Application()
    application.router.add_post(PATH, found.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.port = int(runner.addresses[0][1])
        yield found
    finally:
        await runner.cleanup()
