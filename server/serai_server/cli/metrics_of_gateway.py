"""The gateway's metrics: what each is called, and where it is read. docs/metrics.md has a row for each."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric as Family
from serai_gateway.gateway import Gateway
from serai_telemetry.families import Metric

REQUESTS = Metric(
    "serai_gateway_requests_total",
    "counter",
    "requests",
    "HTTP requests that were answered, by the template of their path",
    ("method", "route", "status", "reason"),
)
REQUEST_SECONDS = Metric(
    "serai_gateway_request_duration_seconds",
    "histogram",
    "seconds",
    "Time from a request's begin to its answer, of what clients sent slowly too",
    ("method", "route"),
)
SOCKETS = Metric(
    "serai_gateway_websockets_total",
    "counter",
    "WebSockets",
    "WebSockets that ended, by the status of their handshake",
    ("route", "status"),
)
SOCKETS_OPEN = Metric(
    "serai_gateway_websockets_open", "gauge", "WebSockets", "WebSockets that are open: follows, shells, consoles", ("route",)
)
SOCKET_BYTES = Metric(
    "serai_gateway_websocket_bytes_total", "counter", "bytes", "Bytes in the messages of WebSockets that ended", ("route", "direction")
)
CORE_CALLS = Metric(
    "serai_core_calls_total",
    "counter",
    "calls",
    "Calls to Core, by the status that it answered with or by what went wrong",
    ("call", "status"),
)
CORE_SECONDS = Metric("serai_core_call_duration_seconds", "histogram", "seconds", "Time that calls to Core took", ("call",))
DELIVERED = Metric("serai_delivery_events_total", "counter", "events", "Events of which Core has said its word", ("lane", "outcome"))
RETRIED = Metric(
    "serai_delivery_retries_total", "counter", "events", "Events that Core did not answer for and that are sent again", ("lane",)
)
DELIVERY_SECONDS = Metric(
    "serai_delivery_lag_seconds", "histogram", "seconds", "Time from what happened to Core's having been told", ("lane",)
)
HELD = Metric("serai_delivery_held_events", "gauge", "events", "Events that the gateway holds until Core has answered for them")

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


class GatewayMetrics:
    """A Source (serai_telemetry.exposition)."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def fetch(self) -> None:
        """All is at hand."""

    def collect(self) -> Iterable[Family]:
        counts = self._gateway.counts
        yield REQUESTS.family(counts.requests.counts())
        yield REQUEST_SECONDS.spreads(counts.requests.times(2))
        yield SOCKETS.family(counts.sockets.counts)
        yield SOCKETS_OPEN.family(counts.sockets_open.counts)
        yield SOCKET_BYTES.family(counts.socket_bytes.counts)
        yield CORE_CALLS.family(counts.core_calls.counts())
        yield CORE_SECONDS.spreads(counts.core_calls.times(1))
        yield DELIVERED.family(counts.delivered.counts)
        yield RETRIED.family(counts.retried.counts)
        yield DELIVERY_SECONDS.spreads(counts.delivery_ns.by_labels)
        yield HELD.one(self._gateway.held_events)
