"""What a client of a WebSocket is told of what went wrong: UCloud's error, and the inside of nothing."""

from __future__ import annotations

import secrets

import structlog
from serai.core.v1 import errors_pb2

from serai_gateway import errors
from serai_gateway.errors import GatewayError
from serai_gateway.upstream import UpstreamError

_log = structlog.stdlib.get_logger("serai_gateway.ws")


def told(error: Exception, event: str, **known: str) -> GatewayError:
    """The error in words, which is logged as `event` with what is `known`; one of our own is only an id to the client."""
    found = error if isinstance(error, GatewayError) else errors.from_status(error.status) if isinstance(error, UpstreamError) else None
    if found is not None:
        _log.info(event, why=found.why, status=found.row.http_status, **known)
        return found
    error_id = secrets.token_hex(6)
    _log.error(event, error_id=error_id, exc_info=error, **known)
    return GatewayError(errors_pb2.ERROR_REASON_UNSPECIFIED, f"Internal error of the provider, id {error_id}")
