"""serai.sessions.v1.SessionsService over the use cases: messages in, messages out, no rules of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

from serai.sessions.v1 import sessions_service_pb2 as pb

from serai_server.errors import Forbidden, InvalidRequest, Unsupported
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.iterate import converted
from serai_server.rpc.ports import Sessions, Shells
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Asked, Authorized
from serai_server.store.session_model import SessionKind


class SessionsServicer:
    def __init__(self, sessions: Sessions, shells: Shells | None) -> None:
        self._sessions = sessions
        self._shells = shells

    async def Open(self, request: pb.OpenRequest, call: Call) -> pb.OpenResponse:
        kind = _kind(request.kind)
        if kind is SessionKind.CONSOLE and call.caller is Caller.CONSOLE:
            # Or who once took a cookie would stay for ever.
            raise Forbidden("the console is opened with `serai console`, not from the console")
        (opened,) = await self._sessions.open([Wanted(kind, request.job_id, request.rank)], call.user)
        return pb.OpenResponse(session=opened.session.message(), secret=opened.secret, password=opened.password)

    async def Redeem(self, request: pb.RedeemRequest, _call: Call) -> pb.RedeemResponse:
        session, cookie = await self._sessions.redeem(_asked(request))
        return pb.RedeemResponse(session=session.message(), cookie_secret=cookie)

    async def Authorize(self, request: pb.AuthorizeRequest, _call: Call) -> pb.AuthorizeResponse:
        return _authorized(await self._sessions.authorize(_asked(request)))

    def Hold(self, request: pb.HoldRequest, _call: Call) -> AsyncIterator[pb.HoldResponse]:
        return converted(self._sessions.hold(_asked(request)), lambda found: pb.HoldResponse(authorized=_authorized(found)))

    def Shell(self, requests: AsyncIterator[pb.ShellRequest], call: Call) -> AsyncIterator[pb.ShellResponse]:
        if self._shells is None:
            raise Unsupported("this server does not open shells")
        return self._shells.shell(requests, holder=call.caller is Caller.SESSION)

    async def List(self, request: pb.ListRequest, _call: Call) -> pb.ListResponse:
        return pb.ListResponse(sessions=[session.message() for session in await self._sessions.list(request.job_id)])

    async def Close(self, request: pb.CloseRequest, _call: Call) -> pb.CloseResponse:
        await self._sessions.close(request.session_id)
        return pb.CloseResponse()


def _kind(kind: pb.SessionKind.ValueType) -> SessionKind:
    try:
        return SessionKind(kind)
    except ValueError as error:
        raise InvalidRequest("expected SHELL, WEB, VNC or CONSOLE", field="kind") from error


def _asked(request: pb.RedeemRequest | pb.AuthorizeRequest | pb.HoldRequest) -> Asked:
    return Asked(request.secret, _kind(request.kind), request.job_id, request.rank)


def _authorized(found: Authorized) -> pb.AuthorizeResponse:
    answer = pb.AuthorizeResponse(session=found.session.message())
    if found.endpoint is not None:
        answer.host, answer.port = found.endpoint.host, found.endpoint.port
    return answer
