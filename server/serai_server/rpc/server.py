"""The gRPC server on its own Unix socket, for the gateway and for the operator: a place in the file system says who may come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio

from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.socket_place import SocketInUse, listen, socket_place
from serai_server.rpc.wire import OwnDoor, Wire

__all__ = ["MESSAGE_LIMIT_BYTES", "METADATA_LIMIT_BYTES", "SocketInUse", "grpc_server"]

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


@asynccontextmanager
async def grpc_server(dispatcher: Dispatcher, socket_path: Path, stop_grace_s: float = 5.0) -> AsyncGenerator[grpc.aio.Server]:
    """Serve on `socket_path` (0600, in a folder that is made 0700 when it is missing) until the block ends.

    At the end no new call is taken, unary calls get `stop_grace_s` to finish, and streams, which have no end of their own, are
    ended at once with UNAVAILABLE. Raises SocketInUse, and OSError for a folder that cannot be written.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(socket_place(socket_path))
        wire = Wire(dispatcher, OwnDoor)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((wire.handlers(),))
        listen(server, socket_path)
        await server.start()
        try:
            yield server
        finally:
            wire.end_streams()
            await server.stop(stop_grace_s)
