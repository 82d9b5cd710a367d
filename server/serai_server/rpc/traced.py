"""Calls of the server, each in a span: a wrapper of the chain, which is there only where traces are on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from google.rpc import code_pb2
from serai_telemetry.spans import LINKS, TRACEPARENT, Kind, Span, Traces

from serai_server.rpc.body import Coming
from serai_server.rpc.call import Caller
from serai_server.rpc.chain import Calls, Identify
from serai_server.rpc.marks import CALLER, by_marks
from serai_server.rpc.methods import Method, Request
from serai_server.rpc.status import RpcFailure

_CALLERS = frozenset(caller.value for caller in Caller)
_FAULTS = frozenset(
    (
        code_pb2.UNKNOWN,
        code_pb2.DEADLINE_EXCEEDED,
        code_pb2.UNIMPLEMENTED,
        code_pb2.INTERNAL,
        code_pb2.UNAVAILABLE,
        code_pb2.DATA_LOSS,
    )
)
"""Codes that make a server's span an ERROR, by OpenTelemetry's conventions for gRPC; the others are about what the caller asked."""


class TracedChain:
    """See chain.Calls."""

    def __init__(self, chain: Calls, traces: Traces) -> None:
        self._chain = chain
        self._traces = traces

    async def once(self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks) -> bytes:
        name, parent, links, notes = _described(method, metadata)
        with self._traces.span(name, Kind.SERVER, parent=parent, links=links, notes=notes) as span:
            try:
                answer = await self._chain.once(method, request, metadata, identify)
            except RpcFailure as failure:
                _note_failure(span, failure)
                raise
            except asyncio.CancelledError:
                _note_code(span, code_pb2.CANCELLED)
                raise
            _note_code(span, code_pb2.OK)
        return answer

    async def many(
        self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks
    ) -> AsyncGenerator[bytes, None]:
        name, parent, links, notes = _described(method, metadata)
        # Who reads the answers runs between them, and what they do meanwhile is not part of this call.
        with self._traces.span(name, Kind.SERVER, parent=parent, links=links, notes=notes, current=False) as span:
            try:
                async with aclosing(self._chain.many(method, request, metadata, identify)) as answers:
                    async for answer in answers:
                        yield answer
            except RpcFailure as failure:
                _note_failure(span, failure)
                raise
            except (asyncio.CancelledError, GeneratorExit):
                _note_code(span, code_pb2.CANCELLED)
                raise
            _note_code(span, code_pb2.OK)


def _described(method: Method, metadata: Mapping[str, str]) -> tuple[str, str, Sequence[str], dict[str, str | int]]:
    """The span's name, its parent, its links, its notes."""
    service, _, name = method.path.removeprefix("/").partition("/")
    caller = metadata.get(CALLER, "")
    notes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "serai.caller": caller if caller in _CALLERS else Caller.TOOL.value,
    }
    links = metadata.get(LINKS, "")
    return f"{service}/{name}", metadata.get(TRACEPARENT, ""), links.split(",") if links else (), notes


def _note_code(span: Span, code: int) -> None:
    span.note("rpc.grpc.status_code", code)


def _note_failure(span: Span, failure: RpcFailure) -> None:
    code = failure.status.code
    _note_code(span, code)
    word = failure.reason or code_pb2.Code.Name(code_pb2.Code.ValueType(code))
    if code in _FAULTS:
        span.failed(word)
    else:
        span.refused(word)
