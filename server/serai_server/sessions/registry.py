"""All sessions that are not over, in memory. Fed by the store's listener, so that a session is here exactly when it is on disk, whoever
was cancelled while it was written; after kill -9 `load` finds what was stored.

But for one case: a commit whose outcome was lost with the connection to the database. What it wrote of sessions is not told afterwards. One
that was opened so is on disk and not here, and nobody has its secret; one that was used so has its cookie on disk only, and is refused at
its next first use, because the store knows better; one that was ended so is here, and is ended again by whoever wanted that. All of them
go with their job, or at the next start when they have expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from serai_server.sessions.session import Session, hash_of
from serai_server.store.model import Committed, State
from serai_server.store.session_model import SessionKind, StoredSession

log = structlog.get_logger("serai.sessions")

JOB_OVER = "the job is over"
CLOSED = "the session was closed"


class Registry:
    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_secret: dict[bytes, Session] = {}
        self._by_cookie: dict[bytes, Session] = {}
        self._by_job: dict[str, dict[str, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def load(self, rows: Iterable[StoredSession], now_ms: int) -> list[str]:
        """The sessions of the store, at start. Returns the ids of those that are over: expired, and shells that had begun, because they
        ended with the server that ran them."""
        over: list[str] = []
        for row in rows:
            if 0 < row.expires_at_ms <= now_ms or (row.kind is SessionKind.SHELL and row.redeemed_at_ms):
                over.append(row.id)
            else:
                self._put(row)
        return over

    def committed(self, changes: Sequence[Committed]) -> None:
        for change in changes:
            for row in change.sessions:
                self._put(row)
            for session_id in change.sessions_gone:
                self._end_id(session_id, CLOSED)
            for record in change.records:
                if record.id in self._by_job and State(record.state).final:
                    self._end_job(record.id)
            for job_id in change.gone:
                self._end_job(job_id)

    def add(self, row: StoredSession) -> Session:
        """One that is not stored (Session.stored)."""
        return self._put(row)

    def end(self, session: Session, why: str) -> None:
        """Over: not found any more, and whoever waits for that is told. No effect when it is over already."""
        if session.over.is_set():
            return
        del self._by_id[session.id]
        self._by_secret.pop(session.row.secret, None)
        self._by_cookie.pop(session.row.cookie, None)
        of_job = self._by_job[session.job_id]
        del of_job[session.id]
        if not of_job:
            del self._by_job[session.job_id]
        session.why_over = why
        session.over.set()
        log.info("session.ended", session=session.id, kind=session.kind.name, job=session.job_id, rank=session.rank, why=why)

    def by_secret(self, secret: str) -> Session | None:
        return self._by_secret.get(hash_of(secret))

    def by_cookie(self, secret: str) -> Session | None:
        return self._by_cookie.get(hash_of(secret))

    def by_id(self, session_id: str) -> Session | None:
        return self._by_id.get(session_id)

    def of_job(self, job_id: str) -> list[Session]:
        """In the order in which they were opened; "" = the operators' own."""
        return list(self._by_job.get(job_id, {}).values())

    def jobs(self) -> list[str]:
        """Those that have sessions."""
        return [job_id for job_id in self._by_job if job_id]

    def all(self) -> list[Session]:
        return list(self._by_id.values())

    def _put(self, row: StoredSession) -> Session:
        session = self._by_id.get(row.id)
        if session is None:
            session = Session(row)
            self._by_id[row.id] = session
            self._by_job.setdefault(row.job_id, {})[row.id] = session
        else:
            session.row = row
            session.expires_at_ms = row.expires_at_ms
        if row.secret:
            self._by_secret[row.secret] = session
        if row.cookie:
            self._by_cookie[row.cookie] = session
        return session

    def saved(self, session: Session, expires_at_ms: int) -> None:
        """The store has this time now."""
        session.row = replace(session.row, expires_at_ms=expires_at_ms)

    def _end_id(self, session_id: str, why: str) -> None:
        session = self._by_id.get(session_id)
        if session is not None:
            self.end(session, why)

    def _end_job(self, job_id: str) -> None:
        for session in self.of_job(job_id):
            self.end(session, JOB_OVER)
