"""The command line's way to the server: a plain gRPC channel on its Unix socket, and gRPC's errors as words and exit codes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub

from serai_server.cli.exits import CliError, Exit

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
CALL_S = 30.0
"""Longest time for a call that is answered at once."""

_CODES = {
    grpc.StatusCode.NOT_FOUND: Exit.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: Exit.NOT_REACHABLE,
    grpc.StatusCode.INVALID_ARGUMENT: Exit.USAGE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Exit.NOT_YET,
}


@contextmanager
def jobs_service(socket: Path) -> Generator[JobsServiceStub]:
    """The server's JobsService. Errors of calls inside the block end as CliError."""
    options = [("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES), ("grpc.enable_http_proxy", 0)]
    # An absolute path: grpc reads `unix:` names relative to nothing in particular.
    with grpc.insecure_channel(f"unix:{socket.absolute()}", options=options) as channel:
        try:
            yield JobsServiceStub(channel)
        except grpc.RpcError as error:
            raise _explained(error, socket) from error


def _explained(error: grpc.RpcError, socket: Path) -> CliError:
    if not isinstance(error, grpc.Call):
        return CliError(str(error))
    code, words = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and not _from_server(error):
        return CliError(f"no server answers on {socket}; start one with `serai serve`, or name another with --socket", Exit.NOT_REACHABLE)
    return CliError(words or f"the server answered {code.name} without words", _CODES.get(code, Exit.ERROR))


def _from_server(error: grpc.Call) -> bool:
    """Whether our server speaks, which always sends details, or grpc itself, which has not reached it."""
    return any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ())
