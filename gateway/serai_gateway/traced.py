"""Spans around what the gateway does, as wrappers of its parts: where traces are off none of them is there, so nothing is paid.

Where the settings say so (gateway.trust_traces), a request's span belongs to the trace of the `traceparent` that it came with; else no
stranger decides which traces are kept, also where no Envoy stands in front to take theirs away. The server is told of it by the same word
in the call's metadata, also in one process. Nothing is told to Core: its traces are not ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import cast

from serai_telemetry.spans import TRACEPARENT, Kind, Span, Traces

from serai_gateway.app import HEALTH_PATHS
from serai_gateway.counts import METHODS
from serai_gateway.door import Further
from serai_gateway.http import Message, Receive, Scope, Send
from serai_gateway.routes import Match, match
from serai_gateway.upstream import Exchanging, closing


class TracedCalls:
    """Core's and users' calls, each in a span."""

    def __init__(self, calls: Further, traces: Traces, providers: frozenset[str], *, follow: bool) -> None:
        """`follow`: whether callers may say to which trace a request belongs."""
        self._follow = follow
        self._calls = calls
        self._traces = traces
        self._providers = providers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") in HEALTH_PATHS:
            await self._calls(scope, receive, send)
            return
        method = scope.get("method", "")
        shown = method if method in METHODS else "other"
        found = match(method, scope.get("path", ""), self._providers)
        name = f"{shown} {found.route.path}" if isinstance(found, Match) else shown
        notes: dict[str, str | int] = {"http.request.method": shown}
        if isinstance(found, Match):
            notes["http.route"] = found.route.path
        with self._traces.span(name, Kind.SERVER, parent=_parent(scope) if self._follow else "", notes=notes) as span:
            await self._calls(scope, receive, _noting_status(send, span))


def _parent(scope: Scope) -> str:
    for name, value in scope.get("headers", ()):
        if name == b"traceparent":
            return value.decode("latin-1")
    return ""


def _noting_status(send: Send, span: Span) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = cast("int", message["status"])
            span.note("http.response.status_code", status)
            if status >= 500:
                span.failed(str(status))
        await send(message)

    return noting


class TracedUpstream:
    """The way to the server, with word of the span from which it is asked."""

    def __init__(self, upstream: Exchanging, traces: Traces) -> None:
        self._upstream = upstream
        self._traces = traces

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        return await self._upstream.unary(method, request, self._with_span(metadata), timeout_s)

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        async with closing(self._upstream.stream(method, request, self._with_span(metadata))) as answers:
            async for answer in answers:
                yield answer

    async def exchange(self, method: str, requests: AsyncIterator[bytes], metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        async with closing(self._upstream.exchange(method, requests, self._with_span(metadata))) as answers:
            async for answer in answers:
                yield answer

    def _with_span(self, metadata: Mapping[str, str]) -> Mapping[str, str]:
        current = self._traces.current()
        return {**metadata, TRACEPARENT: current} if current else metadata
