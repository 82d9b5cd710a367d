"""From grpc.aio to the chain and back: raw bytes in, statuses out, each call known in the way of the door by which it came.

grpc.aio gets no serializers: the chain reads and writes messages, so a request that cannot be read is an error of our table, and
a call from inside the process takes the very same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Protocol, cast

import grpc
import grpc.aio
from google.rpc import code_pb2, status_pb2

from serai_server.rpc.body import Bodies, Coming
from serai_server.rpc.call import Call
from serai_server.rpc.chain import Calls
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.marks import by_marks
from serai_server.rpc.methods import Method, Request, Shape
from serai_server.rpc.opening import Opening
from serai_server.rpc.status import RpcFailure

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[bytes, bytes]
"""What grpc.aio gives a handler that has no serializers."""


class Visit(Protocol):
    """One call at a door."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the chain may see of it."""
        ...

    def identify(self, call: Call, metadata: Mapping[str, str]) -> None:
        """See chain.Identify."""
        ...

    def streams(self, task: asyncio.Task[object]) -> None:
        """It has a stream of answers, in this task: to be cancelled when its caller may no longer call."""
        ...

    def over(self) -> status_pb2.Status | None:
        """What a stream that was cancelled by the door is told; None = it was not."""
        ...

    def leave(self) -> None:
        """The stream has ended."""
        ...


Door = Callable[[Context], Visit]


class OwnDoor:
    """The server's own socket, where a place in the file system says who may come: nobody is sent away later."""

    def __init__(self, context: Context) -> None:
        self.metadata = dict(pairs(context))

    def identify(self, call: Call, metadata: Mapping[str, str]) -> None:
        by_marks(call, metadata)

    def streams(self, task: asyncio.Task[object]) -> None: ...

    def over(self) -> status_pb2.Status | None:
        return None

    def leave(self) -> None: ...


def pairs(context: Context) -> tuple[tuple[str, str], ...]:
    """The call's metadata as it came. Keys that end in -bin have bytes as their value; none of ours does."""
    return cast("tuple[tuple[str, str], ...]", context.invocation_metadata() or ())


class Handlers(grpc.GenericRpcHandler):
    """A dict look-up for each call, and nothing else."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(handler_call_details.method)


class Wire:
    """Ties each method to grpc.aio, in the form that its shape needs."""

    def __init__(self, dispatcher: Dispatcher, door: Door, bodies: Bodies | None = None) -> None:
        """`bodies`: requests are read in this way after it is known who sends them; None = before, by grpc.aio."""
        self._bodies = bodies
        self._chain: Calls = dispatcher.chain
        self._methods = dispatcher.methods
        self._door = door
        self._streams: set[asyncio.Task[object]] = set()
        self._stopping = False

    def handlers(self) -> Handlers:
        return Handlers({path: self._handler(method) for path, method in self._methods.items()})

    def end_streams(self) -> None:
        """Tells all streams that the server is being stopped, and for good: those that begin later too."""
        self._stopping = True
        for task in self._streams:
            task.cancel()

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        make = {
            Shape.UNARY_UNARY: grpc.unary_unary_rpc_method_handler,
            Shape.UNARY_STREAM: grpc.unary_stream_rpc_method_handler,
            Shape.STREAM_UNARY: grpc.stream_unary_rpc_method_handler,
            Shape.STREAM_STREAM: grpc.stream_stream_rpc_method_handler,
        }[method.shape if self._bodies is None else Shape((True, method.shape.many_answers))]
        answer = self._many(method) if method.shape.many_answers else self._once(method)
        # grpc's types know the synchronous handlers only.
        return make(answer)  # pyright: ignore[reportArgumentType]

    def _request_of(self, method: Method) -> Callable[[Request, Context], Request | Coming]:
        bodies, of_anybody = self._bodies, method.rule.open
        if bodies is None or method.shape.many_requests:
            return lambda request, _context: request
        # grpc's types do not know that what is read may be EOF.
        return lambda _request, context: bodies.coming(cast("Callable[[], Awaitable[object]]", context.read), of_anybody=of_anybody)

    def _once(self, method: Method) -> Callable[[Request, Context], Awaitable[bytes]]:
        once, door, request_of = self._chain.once, self._door, self._request_of(method)

        async def handle(request: Request, context: Context) -> bytes:
            visit = door(context)
            try:
                return await once(method, request_of(request, context), visit.metadata, visit.identify)
            except RpcFailure as failure:
                return await _abort(context, failure.status)

        return handle

    def _many(self, method: Method) -> Callable[[Request, Context], Awaitable[None]]:
        many, door, request_of = self._chain.many, self._door, self._request_of(method)

        async def handle(request: Request, context: Context) -> None:
            task = cast("asyncio.Task[object]", asyncio.current_task())
            visit = door(context)
            visit.streams(task)
            self._streams.add(task)
            opening = Opening(context)
            try:
                if self._stopping:
                    await _abort(context, _stopping())
                # A coroutine that writes, not a generator: then the handler's own iterator is closed when the call ends, however it ends.
                async with aclosing(many(method, request_of(request, context), visit.metadata, visit.identify)) as answers:
                    async for answer in answers:
                        await opening.settle()
                        await context.write(answer)
                await opening.settle()
            except RpcFailure as failure:
                await opening.settle()
                await _abort(context, failure.status)
            except asyncio.CancelledError:
                told = _stopping() if self._stopping else visit.over()
                if told is None or context.cancelled():
                    raise
                # Cancelled from this side and not by the caller, who must be told.
                task.uncancel()
                await opening.settle()
                await _abort(context, told)
            finally:
                opening.leave()
                self._streams.discard(task)
                visit.leave()

        return handle


def _stopping() -> status_pb2.Status:
    return status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the server is being stopped; ask again")


async def _abort(context: Context, status: status_pb2.Status) -> bytes:
    """Send the status with all its details. Never returns."""
    code = _CODES[status.code]
    await context.abort(code, status.message, ((_DETAILS, status.SerializeToString()),))
