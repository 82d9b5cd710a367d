"""The store's calls about sessions, and what they write inside a transaction of the owner thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy import select

from serai_server.store import tables
from serai_server.store.api import VersionConflict
from serai_server.store.batch import Batch
from serai_server.store.link import Link
from serai_server.store.model import Committed
from serai_server.store.owner import Owner
from serai_server.store.reads import Reader
from serai_server.store.rows import Row, Value
from serai_server.store.session_model import SessionKind, StoredSession

_COLUMNS = ", ".join(tables.columns(tables.sessions))


class SqlSessions:
    """See session_api.SessionStore for what each call does and raises."""

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader

    async def open(self, sessions: Sequence[StoredSession], versions: Mapping[str, int], instead_of: Sequence[str] = ()) -> None:
        await self._owner.submit(versions.keys(), partial(_open, tuple(sessions), dict(versions), tuple(instead_of)))

    async def redeem(self, session_id: str, cookie: bytes, at_ms: int, expires_at_ms: int) -> bool:
        return await self._owner.submit((), partial(_redeem, session_id, cookie, at_ms, expires_at_ms))

    async def renew(self, expiries: Mapping[str, int]) -> None:
        await self._owner.submit((), partial(_renew, dict(expiries)))

    async def end(self, session_ids: Sequence[str]) -> None:
        await self._owner.submit((), partial(_end, tuple(session_ids)))

    async def all(self) -> list[StoredSession]:
        return await self._reader.run(select(tables.sessions), as_session)


def as_session(row: Row) -> StoredSession:
    return StoredSession(row[0], row[1], row[2], SessionKind(row[3]), *row[4:])


def session_row(session: StoredSession) -> tuple[Value, ...]:
    return (
        session.id,
        session.secret,
        session.cookie,
        int(session.kind),
        session.job_id,
        session.rank,
        session.user,
        session.port,
        session.opened_at_ms,
        session.redeemed_at_ms,
        session.expires_at_ms,
    )


def _open(
    sessions: Sequence[StoredSession], versions: Mapping[str, int], instead_of: Sequence[str], batch: Batch, link: Link
) -> tuple[None, Committed]:
    """Raises VersionConflict before anything is written."""
    for job_id, version in versions.items():
        job = batch.job(job_id)
        if job is None or job.version != version:
            raise VersionConflict(f"job {job_id} is not at version {version}")
    if instead_of:
        _delete(instead_of, link)
    link.insert(tables.sessions, [session_row(session) for session in sessions])
    return None, Committed(sessions=tuple(sessions), sessions_gone=tuple(instead_of))


def _redeem(session_id: str, cookie: bytes, at_ms: int, expires_at_ms: int, _: Batch, link: Link) -> tuple[bool, Committed]:
    sql = "UPDATE sessions SET cookie = ?, redeemed_at_ms = ?, expires_at_ms = ? WHERE id = ? AND redeemed_at_ms = 0"
    if not link.execute(sql, cookie, at_ms, expires_at_ms, session_id):
        return False, Committed()
    rows = link.query(f"SELECT {_COLUMNS} FROM sessions WHERE id = ?", session_id)  # noqa: S608  # no value in it
    return True, Committed(sessions=tuple(map(as_session, rows)))


def _renew(expiries: Mapping[str, int], _: Batch, link: Link) -> tuple[None, Committed]:
    link.update(tables.sessions, ("expires_at_ms",), [(at_ms, session_id) for session_id, at_ms in expiries.items()])
    return None, Committed()


def _end(session_ids: Sequence[str], _: Batch, link: Link) -> tuple[None, Committed]:
    _delete(session_ids, link)
    return None, Committed(sessions_gone=tuple(session_ids))


def _delete(session_ids: Sequence[str], link: Link) -> None:
    link.execute(f"DELETE FROM sessions WHERE {link.among('id')}", link.listed(session_ids))  # noqa: S608  # no value in it
