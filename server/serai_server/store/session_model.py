"""What the store keeps of sessions: people at their running jobs, by shell, web page or desktop, and operators at Serai's own page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class SessionKind(IntEnum):
    """Numbers are those of serai.sessions.v1.SessionKind."""

    SHELL = 1
    WEB = 2
    VNC = 3
    CONSOLE = 4


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session that is not over. It goes with its job's final state, in the same transaction."""

    id: str
    """No secret: for lists, logs and closing."""
    secret: bytes
    """SHA-256 of the secret that was given out."""
    cookie: bytes
    """SHA-256 of the secret that a browser keeps; empty = it has none (yet)."""
    kind: SessionKind
    job_id: str
    """Empty for CONSOLE."""
    rank: int
    user: str
    """UCloud's; empty = not told, or an operator's."""
    port: int
    """WEB and VNC: the TCP port of the replica that it opens, as the job's application says; else 0."""
    opened_at_ms: int
    redeemed_at_ms: int
    """When its secret was swapped for the cookie, or its shell began; 0 = not yet."""
    expires_at_ms: int
    """0 = it has no time of its own: a shell that began."""
