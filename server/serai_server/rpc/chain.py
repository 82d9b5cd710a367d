"""The one chain that every call goes through, from the socket and from inside the process, in all four call shapes.

From the outside in, and why in this order:

1. request id and log   outermost, so that each call has exactly one line with what the caller really got
2. error mapping        around all that can raise, the steps below included: nothing but an RpcFailure leaves the chain
3. caller               who it is, in the way of the door by which the call came, and whether the method is for them (access.py). Before the
                        request is read and parsed: who is not known does not reach the parser,
                        and at the tools' door not even the memory (body.py)
4. deadline             around reading and handler. The caller's own deadline is kept by gRPC or by the gateway, which cancel the
                        call; here stands the server's, so that a stuck handler does not hold a caller that set none
5. handler, encoding    inside all of it, so that an answer that cannot be encoded is an error like any other

The chain is plain code around the handler, chosen per method at start, and not a stack of grpc.aio interceptors: those look up and
wrap the handler anew for each call, need a class for each of the four shapes, and do not exist for calls inside the process.

Two habits of grpc.aio 1.85 are dealt with here. It sends the text of an unmapped exception to the client: see 2. And a
CancelledError that is not the call's own cancellation (a task that the handler awaited was cancelled) ends the handler without any
answer, so the client hangs until its deadline: such a one is an error, told apart by Task.cancelling().
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

from google.protobuf.message import Message
from google.rpc import code_pb2
from structlog.typing import FilteringBoundLogger

from serai_server.counts import RpcCounts
from serai_server.rpc.body import Coming
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.iterate import converted
from serai_server.rpc.marks import REQUEST_ID, by_marks
from serai_server.rpc.methods import Method, Request
from serai_server.rpc.status import Failures, OverLimit, RpcFailure

Identify = Callable[[Call, Mapping[str, str]], None]
"""Says in the call who makes it, from its metadata. Raises Unauthenticated."""

OPERATOR = "operator"
"""How a tool on the server's own socket is counted; one at the tools' door is "tool"."""
_CANCELLED = "CANCELLED"

LIMIT_S = 60.0
"""Longest time that one unary call may take."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Calls(Protocol):
    """What answers calls: the chain, and what is wrapped around it."""

    async def once(self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks) -> bytes:
        """Answer a call that has one answer. `identify`: the door's way to know its callers, the gateway's and the operator's if not given.

        Raises RpcFailure, and CancelledError when the call itself was cancelled."""
        ...

    def many(
        self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks
    ) -> AsyncGenerator[bytes, None]:
        """Answer a call that has a stream of answers. Raises as `once`; closing the iterator closes the handler's."""
        ...


class Chain:
    def __init__(
        self,
        failures: Failures,
        log: FilteringBoundLogger,
        *,
        counts: RpcCounts | None = None,
        limit_s: float = LIMIT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`counts` None = nobody wants to know."""
        self._counts = counts or RpcCounts()
        self._streams: set[str] = set()
        """Methods with a stream of answers, as far as they were called."""
        self._failures = failures
        self._log = log
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def once(self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks) -> bytes:
        """See Calls."""
        handler = method.once
        assert handler is not None  # noqa: S101 - who calls has looked at the shape
        began, call = self._monotonic(), self._begin(method, metadata)
        limit = asyncio.timeout(self._limit_s)
        try:
            _admit(method, call, metadata, identify)
            async with limit:
                answer = await handler(method.read(await _whole(request)), call)
            encoded = answer.SerializeToString()
        except (Exception, asyncio.CancelledError) as error:
            shown = OverLimit(self._limit_s) if isinstance(error, TimeoutError) and limit.expired() else error
            raise self._failed(shown, call, began) from error
        self._done(call, began)
        return encoded

    async def many(
        self, method: Method, request: Request | Coming, metadata: Mapping[str, str], identify: Identify = by_marks
    ) -> AsyncGenerator[bytes, None]:
        """See Calls."""
        handler = method.many
        assert handler is not None  # noqa: S101 - who calls has looked at the shape
        began, call = self._monotonic(), self._begin(method, metadata)
        self._streams.add(method.path)
        self._counts.streams_open.add((method.path,))
        try:
            _admit(method, call, metadata, identify)
            async with aclosing(converted(handler(method.read(await _whole(request)), call), _encoded)) as answers:
                async for answer in answers:
                    yield answer
        except (Exception, asyncio.CancelledError) as error:
            raise self._failed(error, call, began) from error
        except GeneratorExit:
            # Whoever read the answers has gone.
            self._count(call, began, _CANCELLED)
            raise
        finally:
            self._counts.streams_open.add((method.path,), -1)
        self._done(call, began)

    def _begin(self, method: Method, metadata: Mapping[str, str]) -> Call:
        given = metadata.get(REQUEST_ID)
        if given is None or _REQUEST_ID(given) is None:
            given = f"{self._prefix}-{next(self._numbers)}"
        return Call(method.path, given)

    def _failed(self, error: Exception | asyncio.CancelledError, call: Call, began: float) -> RpcFailure:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                self._count(call, began, _CANCELLED)
                self._log.debug("call cancelled", method=call.method, request_id=call.request_id, ms=self._ms_since(began))
                raise error
        failure = self._failures.of(error, call)
        self._count(call, began, code_pb2.Code.Name(code_pb2.Code.ValueType(failure.status.code)), failure.reason)
        return failure

    def _count(self, call: Call, began: float, code: str, reason: str = "") -> None:
        caller = call.caller.value if call.caller is not Caller.TOOL or call.peer else OPERATOR
        labels = (call.method, caller, code, reason)
        if call.method in self._streams:
            self._counts.streams.add(labels)
        else:
            self._counts.calls.add(labels, int((self._monotonic() - began) * 1e9))

    def _done(self, call: Call, began: float) -> None:
        self._count(call, began, "OK")
        self._log.debug(
            "call", method=call.method, request_id=call.request_id, caller=call.tool or call.caller.value, ms=self._ms_since(began)
        )

    def _ms_since(self, began: float) -> float:
        return round((self._monotonic() - began) * 1_000, 3)


def _encoded(message: Message) -> bytes:
    return message.SerializeToString()


async def _whole(request: Request | Coming) -> Request:
    return await request.whole() if isinstance(request, Coming) else request


def _admit(method: Method, call: Call, metadata: Mapping[str, str], identify: Identify) -> None:
    """Raises Unauthenticated, Forbidden."""
    if not method.rule.open:
        identify(call, metadata)
        method.rule.check(call)
