"""The gRPC server on its Unix socket: raw bytes from grpc.aio into the chain, statuses out of it.

grpc.aio gets no serializers: the chain reads and writes messages, so a request that cannot be read is an error of our table, and
a call from inside the process takes the very same way.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
from google.rpc import code_pb2, status_pb2

from serai_server.rpc.chain import Chain
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.methods import Method, Request, Shape
from serai_server.rpc.status import RpcFailure

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
"""Largest message in either direction; grpc's own 4 MiB are about 5,000 jobs (facts on speed §9)."""

METADATA_LIMIT_BYTES = 128 * 1024
"""Of one call; a user's groups travel there, and grpc's own 8 KiB are about 200 of them."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
)
_LONGEST_PATH = 107
"""Bytes of a Unix socket's path, the closing zero byte left out (unix(7))."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[bytes, bytes]
"""What grpc.aio gives a handler that has no serializers."""


class SocketInUse(Exception):
    """Another server listens on the socket, or it cannot be made there; the text says what to do."""


@asynccontextmanager
async def grpc_server(dispatcher: Dispatcher, socket_path: Path, stop_grace_s: float = 5.0) -> AsyncGenerator[grpc.aio.Server]:
    """Serve on `socket_path` (0600, in a folder that is made 0700 when it is missing) until the block ends.

    At the end no new call is taken, unary calls get `stop_grace_s` to finish, and streams, which have no end of their own, are
    ended at once with UNAVAILABLE. Raises SocketInUse, and OSError for a folder that cannot be written.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(_socket_place(socket_path))
        wire = _Wire(dispatcher)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Handlers(wire.handlers()),))
        _listen(server, socket_path)
        await server.start()
        try:
            yield server
        finally:
            wire.end_streams()
            await server.stop(stop_grace_s)


def _listen(server: grpc.aio.Server, path: Path) -> None:
    # The socket is made by grpc, with the process's mask: nobody else may connect in the moment before chmod.
    before = os.umask(0o077)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise SocketInUse(f"the socket {path} could not be made; see whether its folder can be written") from error
    finally:
        os.umask(before)
    path.chmod(0o600)


@contextmanager
def _socket_place(path: Path) -> Generator[None]:
    """Hold the place for the time of the block. grpc removes whatever socket it finds, also one that another server listens on."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise SocketInUse(f"the socket's path is longer than the {_LONGEST_PATH} bytes that a Unix socket may have: {path}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SocketInUse(f"another server serves on {path}; stop it first, or set another server.socket") from error
        _remove_stale(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUse(f"{path} is there and is not a socket; move it away, or set another server.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
            raise SocketInUse(f"somebody listens on {path}; stop that program first, or set another server.socket")
    path.unlink(missing_ok=True)


class _Handlers(grpc.GenericRpcHandler):
    """A dict look-up for each call, and nothing else."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(handler_call_details.method)


class _Wire:
    """Ties each method to grpc.aio, in the form that its shape needs."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._chain: Chain = dispatcher.chain
        self._methods = dispatcher.methods
        self._streams: set[asyncio.Task[object]] = set()
        self._stopping = False

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        return {path: self._handler(method) for path, method in self._methods.items()}

    def end_streams(self) -> None:
        self._stopping = True
        for task in self._streams:
            task.cancel()

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        make = {
            Shape.UNARY_UNARY: grpc.unary_unary_rpc_method_handler,
            Shape.UNARY_STREAM: grpc.unary_stream_rpc_method_handler,
            Shape.STREAM_UNARY: grpc.stream_unary_rpc_method_handler,
            Shape.STREAM_STREAM: grpc.stream_stream_rpc_method_handler,
        }[method.shape]
        answer = self._many(method) if method.shape.many_answers else self._once(method)
        # grpc's types know the synchronous handlers only.
        return make(answer)  # pyright: ignore[reportArgumentType]

    def _once(self, method: Method) -> Callable[[Request, Context], Awaitable[bytes]]:
        once = self._chain.once

        async def handle(request: Request, context: Context) -> bytes:
            try:
                return await once(method, request, _metadata(context))
            except RpcFailure as failure:
                return await _abort(context, failure.status)

        return handle

    def _many(self, method: Method) -> Callable[[Request, Context], Awaitable[None]]:
        async def handle(request: Request, context: Context) -> None:
            task = cast("asyncio.Task[object]", asyncio.current_task())
            self._streams.add(task)
            try:
                if self._stopping:
                    await _abort(context, _stopping())
                # A coroutine that writes, not a generator: then the handler's own iterator is closed when the call ends, however it ends.
                async with aclosing(self._chain.many(method, request, _metadata(context))) as answers:
                    async for answer in answers:
                        await context.write(answer)
            except RpcFailure as failure:
                await _abort(context, failure.status)
            except asyncio.CancelledError:
                if not self._stopping or context.cancelled():
                    raise
                # Cancelled by `end_streams` and not by the caller, who must be told.
                task.uncancel()
                await _abort(context, _stopping())
            finally:
                self._streams.discard(task)

        return handle


def _stopping() -> status_pb2.Status:
    return status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the server is being stopped; ask again")


def _metadata(context: Context) -> dict[str, str]:
    # Keys that end in -bin have bytes as their value; none of ours does.
    pairs = cast("tuple[tuple[str, str], ...]", context.invocation_metadata() or ())
    return dict(pairs)


async def _abort(context: Context, status: status_pb2.Status) -> bytes:
    """Send the status with all its details. Never returns."""
    code = _CODES[status.code]
    await context.abort(code, status.message, ((_DETAILS, status.SerializeToString()),))
