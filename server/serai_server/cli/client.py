"""The command line's way to the server: a gRPC channel on its Unix socket or to an address, and gRPC's errors as words and exit codes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import Server
from serai_server.cli.remote import Remote
from serai_server.cli.remote_channel import open_remote

Stub = TypeVar("Stub")

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
def service_of(stub: Callable[[grpc.Channel], Stub], server: Server) -> Generator[Stub]:
    """A service of the server by its generated `stub`, as an operator's tool sees it. Errors of calls inside the block end as CliError."""
    with _channel(server) as channel:
        yield stub(channel)


@contextmanager
def _channel(server: Server) -> Generator[grpc.Channel]:
    options: list[tuple[str, object]] = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.enable_http_proxy", 0),
        # A server that is started anew is found again soon by who follows a job.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # How long a connection may take to be made, whatever its name says: on a busy machine or from afar it is no matter of 100 ms.
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    with _open(server, options) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise _explained(error, server) from error


def _open(server: Server, options: list[tuple[str, object]]) -> grpc.Channel:
    if isinstance(server, Remote):
        return open_remote(server, options)
    # An absolute path: grpc reads `unix:` names relative to nothing in particular.
    return grpc.insecure_channel(f"unix:{server.absolute()}", options=options)


def _explained(error: grpc.RpcError, server: Server) -> CliError:
    if not isinstance(error, grpc.Call):
        return CliError(str(error))
    code, details = error.code(), said(error)
    if code is grpc.StatusCode.UNAVAILABLE and details is None:
        return CliError(_unreachable(server, error.details() or ""), Exit.NOT_REACHABLE)
    words = (details and _about_fields(details)) or error.details()
    return CliError(words or f"the server answered {code.name} without words", _CODES.get(code, Exit.ERROR))


def _unreachable(server: Server, why: str) -> str:
    if isinstance(server, Remote):
        return f"no server answers at {server.address}: {why}"
    return f"no server answers on {server}; start one with `serai serve`, or name another with --socket"


def said(error: grpc.Call) -> status_pb2.Status | None:
    """The details that our server always sends; None = grpc itself speaks, which has not reached it."""
    details = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), None)
    return status_pb2.Status.FromString(details) if isinstance(details, bytes) else None


def _about_fields(status: status_pb2.Status) -> str:
    """What is wrong with a request, without the names of its fields: people know options."""
    violations: list[str] = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations += [violation.description for violation in bad.field_violations]
    return "; ".join(violations)
