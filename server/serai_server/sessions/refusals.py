"""Refusals of sessions: one text for all, so that nobody learns from it what exists, and the truth in the log."""

from __future__ import annotations

import structlog

from serai_server.errors import SessionUnknown
from serai_server.jobs.ids import is_job_id
from serai_server.sessions.session import Session
from serai_server.store.session_model import SessionKind

log = structlog.get_logger("serai.sessions")

WORDS = "this session is not known here, or it is over: open a new one in UCloud"


def refused(why: str, kind: SessionKind, job_id: str = "", rank: int = 0, session: Session | None = None) -> SessionUnknown:
    """The error to raise, once it is logged. `job_id` and `rank` are what was asked for; `session` is the one whose secret was shown."""
    asked = job_id if not job_id or is_job_id(job_id) else "(no job's id)"
    known = {} if session is None else {"session": session.id, "session_job": session.job_id, "session_rank": session.rank}
    log.warning("session.refused", why=why, kind=kind.name, job=asked, rank=rank, **known)
    return SessionUnknown(WORDS)
