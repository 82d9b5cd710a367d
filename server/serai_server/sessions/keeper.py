"""Looks after the sessions that are there: ends what has expired or lost its replica, and writes down how long the others last.

How long a session lasts is moved with each use, in memory; the store is told at most once a minute, and when the server stops. So after
kill -9 the uses of the last minute may not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from serai_server.clock import Clock
from serai_server.errors import BackendDown
from serai_server.jobs.registry import Registry as Jobs
from serai_server.sessions.limits import MINUTE_MS, SessionLimits
from serai_server.sessions.ranks import Ranks
from serai_server.sessions.registry import Registry
from serai_server.sessions.session import Session
from serai_server.store.api import Store, StoreError

log = structlog.get_logger("serai.sessions")

LOOK_S = 5.0
"""Seconds between two looks; what is refused does not wait for it, only who is connected."""
EXPIRED = "the session has expired"
RANK_OVER = "the rank has ended"


class Keeper:
    def __init__(self, *, store: Store, registry: Registry, jobs: Jobs, ranks: Ranks, limits: SessionLimits, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._ranks = ranks
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._dropped: dict[str, None] = {}
        """Over, and perhaps still in the store."""

    def drop(self, session_id: str) -> None:
        """At the next look. What kill -9 leaves of it is taken for over at the next start, or expires."""
        self._dropped[session_id] = None

    async def load(self) -> None:
        """Raises StoreError."""
        over = self._registry.load(await self._store.sessions.all(), self._clock.now_ms())
        if over:
            await self._store.sessions.end(over)

    async def run(self) -> None:
        """Until cancelled. What goes wrong in a look is logged, and the next one comes all the same."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                log.warning("sessions.not_kept", why=str(error))
            except Exception:
                # Nothing that a look meets may end the server with all its jobs; the next one does what is left.
                log.exception("sessions.look_failed")
            await self._clock.sleep(LOOK_S)

    async def save(self) -> None:
        """How long sessions last, to the millisecond. Raises StoreError."""
        await self._write_down([s for s in self._registry.all() if s.stored and s.expires_at_ms != s.row.expires_at_ms])

    async def look(self) -> None:
        """Raises StoreError, and then the next look does what is left."""
        now_ms = self._clock.now_ms()
        for session in self._registry.all():
            if session.holds:
                session.renew(now_ms + self._limits.idle_ms)
            if session.expired(now_ms):
                self._registry.end(session, EXPIRED)
                self.drop(session.id)
        await self._look_at_ranks()
        await self._write_down([s for s in self._registry.all() if _is_late(s)])

    async def _look_at_ranks(self) -> None:
        """Replicas end one by one; the sessions of those that did are over."""
        for job_id in self._registry.jobs():
            record = self._jobs.get(job_id)
            try:
                ended = await self._ranks.ended(job_id, record.replicas) if record is not None else frozenset[int]()
            except BackendDown:
                continue  # nothing is concluded from that
            for session in self._registry.of_job(job_id):
                if session.rank in ended:
                    self._registry.end(session, RANK_OVER)
                    self.drop(session.id)

    async def _write_down(self, late: Sequence[Session]) -> None:
        if self._dropped:
            dropped = tuple(self._dropped)
            await self._store.sessions.end(dropped)
            for session_id in dropped:
                self._dropped.pop(session_id, None)
        if late:
            times = {s.id: s.expires_at_ms for s in late}
            await self._store.sessions.renew(times)
            for session in late:
                self._registry.saved(session, times[session.id])


def _is_late(session: Session) -> bool:
    return session.stored and session.expires_at_ms - session.row.expires_at_ms >= MINUTE_MS
