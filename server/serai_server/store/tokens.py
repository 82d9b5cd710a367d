"""The store's calls about tokens, and what they write inside a transaction of the owner thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import select

from serai_server.store import tables
from serai_server.store.batch import Batch
from serai_server.store.link import Link
from serai_server.store.model import Committed
from serai_server.store.owner import Owner
from serai_server.store.reads import Reader
from serai_server.store.rows import Row
from serai_server.store.token_model import Role, StoredToken

_SELECT = f"SELECT {', '.join(tables.columns(tables.tokens))} FROM tokens WHERE id = ?"  # noqa: S608  # no value in it


class SqlTokens:
    """See token_api.TokenStore for what each call does and raises."""

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader

    async def add(self, token: StoredToken) -> None:
        await self._owner.submit((), partial(_add, token))

    async def revoke(self, token_id: str, at_ms: int) -> StoredToken | None:
        return await self._owner.submit((), partial(_revoke, token_id, at_ms))

    async def used(self, days: Mapping[str, int]) -> None:
        await self._owner.submit((), partial(_used, dict(days)))

    async def all(self) -> list[StoredToken]:
        return await self._reader.run(select(tables.tokens), _as_token)


def _as_token(row: Row) -> StoredToken:
    return StoredToken(row[0], row[1], row[2], Role(row[3]), *row[4:])


def _add(token: StoredToken, _: Batch, link: Link) -> tuple[None, Committed]:
    row = (
        token.id,
        token.secret,
        token.name,
        int(token.role),
        token.project,
        token.created_at_ms,
        token.created_by,
        token.expires_at_ms,
        token.used_day_ms,
        token.revoked_at_ms,
    )
    link.insert(tables.tokens, [row])
    return None, Committed(tokens=(token,))


def _revoke(token_id: str, at_ms: int, _: Batch, link: Link) -> tuple[StoredToken | None, Committed]:
    link.execute("UPDATE tokens SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms = 0", at_ms, token_id)
    found = [_as_token(row) for row in link.query(_SELECT, token_id)]
    return (found[0] if found else None), Committed(tokens=tuple(found))


def _used(days: Mapping[str, int], _: Batch, link: Link) -> tuple[None, Committed]:
    link.update(tables.tokens, ("used_day_ms",), [(day_ms, token_id) for token_id, day_ms in days.items()])
    return None, Committed()
