"""One session in memory: the row that is stored, and what changes too often to be written each time."""

from __future__ import annotations

import asyncio
import hashlib

from serai.sessions.v1 import sessions_service_pb2 as pb

from serai_server.store.session_model import SessionKind, StoredSession


class Session:
    """Not over, until `over` is set. Made and ended by the registry alone."""

    def __init__(self, row: StoredSession) -> None:
        self.row = row
        """As stored, but for `expires_at_ms`."""
        self.expires_at_ms = row.expires_at_ms
        """0 = it has no time of its own."""
        self.used_at_ms = row.redeemed_at_ms or row.opened_at_ms
        """Last use; after a start of the server, the first one."""
        self.attached = False
        """SHELL: somebody is connected."""
        self.holds = 0
        """Who has been told that it may go on and is still connected; while there is anybody, it is in use."""
        self.over = asyncio.Event()
        self.why_over = ""
        """Words for people, once it is over."""

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def kind(self) -> SessionKind:
        return self.row.kind

    @property
    def job_id(self) -> str:
        """Empty for CONSOLE."""
        return self.row.job_id

    @property
    def rank(self) -> int:
        return self.row.rank

    @property
    def stored(self) -> bool:
        """False = an operator's program, which nobody can come back to."""
        return bool(self.row.secret)

    def expired(self, now_ms: int) -> bool:
        return 0 < self.expires_at_ms <= now_ms

    def renew(self, until_ms: int) -> None:
        """Of a page or a desktop that is in use: others have a time that use does not move. It never gets less."""
        if self.kind in (SessionKind.WEB, SessionKind.VNC):
            self.expires_at_ms = max(self.expires_at_ms, until_ms)

    def message(self) -> pb.Session:
        """What may be told of it."""
        return pb.Session(
            id=self.id,
            kind=pb.SessionKind.ValueType(int(self.kind)),
            job_id=self.job_id,
            rank=self.rank,
            user=self.row.user,
            opened_at_ms=self.row.opened_at_ms,
            expires_at_ms=self.expires_at_ms,
            attached=self.attached,
        )


def hash_of(secret: str) -> bytes:
    """How a secret is kept. It is random and long, so that a plain hash cannot be turned back."""
    return hashlib.sha256(secret.encode()).digest()
