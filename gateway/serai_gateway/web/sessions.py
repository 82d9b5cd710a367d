"""What the server knows of sessions, for the gateway on behalf of whoever holds a secret: redeem, authorize, hold.

Source: serai.sessions.v1.SessionsService.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from google.protobuf.message import Message
from google.rpc import code_pb2
from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2

from serai_gateway import errors
from serai_gateway.errors import GatewayError
from serai_gateway.upstream import HOLDER, SESSIONS, Upstream, UpstreamError, closing

UNKNOWN = "This session is not known here, or it is over: open a new one in UCloud"

_AWAY = "The provider cannot be reached right now, try again"


class ServerAway(GatewayError):
    """Nobody knows whether the session is good: the server does not answer."""


class Sessions:
    """Every call raises GatewayError: SESSION_UNKNOWN for a secret that opens nothing, ServerAway when nobody answers."""

    def __init__(self, upstream: Upstream, *, timeout_s: float) -> None:
        self._upstream = upstream
        self._timeout_s = timeout_s

    async def redeem(self, secret: str, kind: pb2.SessionKind.ValueType, job_id: str, rank: int) -> pb2.RedeemResponse:
        request = pb2.RedeemRequest(secret=secret, kind=kind, job_id=job_id, rank=rank)
        return pb2.RedeemResponse.FromString(await self._unary("Redeem", request))

    async def authorize(self, secret: str, kind: pb2.SessionKind.ValueType, job_id: str, rank: int) -> pb2.AuthorizeResponse:
        request = pb2.AuthorizeRequest(secret=secret, kind=kind, job_id=job_id, rank=rank)
        return pb2.AuthorizeResponse.FromString(await self._unary("Authorize", request))

    async def hold(self, secret: str, kind: pb2.SessionKind.ValueType, job_id: str, rank: int) -> AsyncGenerator[pb2.AuthorizeResponse]:
        """One answer, that it may go on; the stream ends when it may no longer."""
        request = pb2.HoldRequest(secret=secret, kind=kind, job_id=job_id, rank=rank).SerializeToString()
        try:
            async with closing(self._upstream.stream(SESSIONS + "Hold", request, HOLDER)) as messages:
                async for message in messages:
                    yield pb2.HoldResponse.FromString(message).authorized
        except UpstreamError as error:
            raise _told(error) from error

    async def _unary(self, name: str, request: Message) -> bytes:
        try:
            return await self._upstream.unary(SESSIONS + name, request.SerializeToString(), HOLDER, self._timeout_s)
        except UpstreamError as error:
            raise _told(error) from error


def unknown() -> GatewayError:
    """As the server says it, for what need not be asked."""
    return GatewayError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, UNKNOWN)


def _told(error: UpstreamError) -> GatewayError:
    told = errors.from_status(error.status)
    if told is None or error.status.code in (code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED):
        return ServerAway(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, told.why if told is not None else _AWAY)
    return told
