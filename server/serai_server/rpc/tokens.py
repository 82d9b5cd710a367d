"""serai.tokens.v1.TokensService over the use cases: messages in, messages out, no rules of its own."""

from __future__ import annotations

from serai.access.v1 import access_pb2
from serai.tokens.v1 import tokens_service_pb2 as pb

from serai_server.rpc.call import Call
from serai_server.rpc.ports import Tokens
from serai_server.store.token_model import StoredToken


class TokensServicer:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def Create(self, request: pb.CreateRequest, call: Call) -> pb.CreateResponse:
        lifetime_ms = request.lifetime_ms if request.HasField("lifetime_ms") else None
        row, text = await self._tokens.create(request.name, request.role, request.project, lifetime_ms, call.tool)
        return pb.CreateResponse(token=_message(row), secret=text)

    async def List(self, request: pb.ListRequest, _call: Call) -> pb.ListResponse:
        return pb.ListResponse(tokens=map(_message, await self._tokens.list(every=request.all)))

    async def Revoke(self, request: pb.RevokeRequest, call: Call) -> pb.RevokeResponse:
        return pb.RevokeResponse(token=_message(await self._tokens.revoke(request.token_id, call.tool)))


def _message(row: StoredToken) -> pb.Token:
    return pb.Token(
        id=row.id,
        name=row.name,
        role=access_pb2.Role.ValueType(int(row.role)),
        project=row.project,
        created_at_ms=row.created_at_ms,
        expires_at_ms=row.expires_at_ms or None,
        last_used_day_ms=row.used_day_ms or None,
        revoked_at_ms=row.revoked_at_ms or None,
        created_by=row.created_by,
    )
