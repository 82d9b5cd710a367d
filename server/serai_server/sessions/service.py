"""The use cases of sessions, without gRPC.

What opens a session is stored before it is answered. kill -9 in between: a session is there whose secret nobody has, and it expires; or an
address is used up whose cookie nobody has, and a new session has to be opened. Never the other way round.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from serai_backends.model import Endpoint

from serai_server.clock import Clock
from serai_server.errors import InvalidRequest, JobUnknown, SessionUnknown, TooManySessions, WrongState
from serai_server.jobs.changes import check_count
from serai_server.jobs.ids import is_job_id
from serai_server.jobs.products import Catalog
from serai_server.jobs.registry import Registry as Jobs
from serai_server.sessions.endpoints import EndpointCache
from serai_server.sessions.limits import CONSOLE_MS, CONSOLE_OPEN_WITHIN_MS, SessionLimits
from serai_server.sessions.openable import Opens, Wanted, openable
from serai_server.sessions.ranks import Ranks
from serai_server.sessions.refusals import WORDS, log, refused
from serai_server.sessions.registry import CLOSED, JOB_OVER, Registry
from serai_server.sessions.session import Session, hash_of
from serai_server.store.api import Store, VersionConflict
from serai_server.store.model import State
from serai_server.store.session_model import SessionKind, StoredSession

_LONGEST_SECRET = 256
_LONGEST_USER = 256
_TRIES = 20
"""How often a job may change between the look at it and the writing of its session."""
_COOKIES = (SessionKind.WEB, SessionKind.CONSOLE)


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody shows a secret and says what for."""

    secret: str = field(repr=False)
    kind: SessionKind
    job_id: str = ""
    """WEB: as the address names it. Empty for other kinds = not looked at."""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    session: Session
    secret: str = field(repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Authorized:
    session: Session
    endpoint: Endpoint | None
    """WEB and VNC."""


class ShellSessions(Protocol):
    """What is needed by whoever runs shells; see the package's docstring."""

    def shell_of(self, secret: str) -> Session: ...

    async def for_program(self, job_id: str, rank: int) -> Session: ...

    async def begin(self, session: Session) -> None: ...

    def not_started(self, session: Session) -> None: ...

    def end(self, session: Session, why: str) -> None: ...


class SessionsService:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        jobs: Jobs,
        catalog: Catalog,
        endpoints: EndpointCache,
        ranks: Ranks,
        limits: SessionLimits,
        clock: Clock,
        drop: Callable[[str], None],
    ) -> None:
        """`drop` has the keeper take a session that is over out of the store."""
        self._store = store
        self._registry = registry
        self._jobs = jobs
        self._catalog = catalog
        self._endpoints = endpoints
        self._ranks = ranks
        self._limits = limits
        self._clock = clock
        self._drop = drop
        self._turn = asyncio.Lock()
        """Sessions are counted and written one call after the other, so that there are never more than there may be."""
        self._redeeming: set[str] = set()
        """Sessions whose first use is being written."""

    # Opening

    async def open(self, items: Sequence[Wanted], user: str = "") -> list[Opened]:
        """One for each, all or none. Raises InvalidRequest, JobUnknown, WrongState, Unsupported, TooManySessions, StoreUnavailable."""
        check_count(items)
        for _ in range(_TRIES):
            versions, opens = await self._look(items)
            now_ms = self._clock.now_ms()
            made = [self._new(wanted, found.port, user, now_ms) for wanted, found in zip(items, opens, strict=True)]
            rows = [row for row, _ in made]
            try:
                async with self._turn:
                    await self._store.sessions.open(rows, versions, self._make_room(rows))
            except VersionConflict:
                continue
            return [self._opened(row, secret, found.password) for (row, secret), found in zip(made, opens, strict=True)]
        raise WrongState("the job changes all the time; try again")

    async def for_program(self, job_id: str, rank: int) -> Session:
        """Raises as `open`."""
        wanted = Wanted(SessionKind.SHELL, job_id, rank)
        await self._look([wanted])
        row, _secret = self._new(wanted, 0, "", self._clock.now_ms())
        async with self._turn:
            self._make_room([row])
            # Nobody can come back to it, so it need not outlive this process and is not stored.
            session = self._registry.add(replace(row, secret=b"", redeemed_at_ms=row.opened_at_ms, expires_at_ms=0))
        record = self._jobs.get(job_id)
        if record is None or State(record.state).final:
            self._registry.end(session, JOB_OVER)
            raise WrongState(f"job {job_id} is over", field="job_id")
        self._tell_opened(session)
        return session

    async def _look(self, items: Sequence[Wanted]) -> tuple[Mapping[str, int], list[Opens]]:
        """The versions of the jobs' rows, and what each item opens."""
        versions: dict[str, int] = {}
        opens: list[Opens] = []
        for wanted in items:
            if wanted.kind is SessionKind.CONSOLE:
                if wanted.job_id:
                    raise InvalidRequest("the console belongs to no job: leave it out", field=wanted.field("job_id"))
                opens.append(Opens())
                continue
            job = await self._store.job(wanted.job_id) if is_job_id(wanted.job_id) else None
            if job is None:
                raise JobUnknown(f"no job {wanted.job_id!r} is known here", field=wanted.field("job_id"))
            ended = await self._ranks.ended(job.id, job.replicas) if job.state is State.RUNNING else frozenset[int]()
            opens.append(openable(wanted, job, self._catalog, ended))
            # The first look at it counts: if it changed in between, the store says so.
            versions.setdefault(job.id, job.version)
        return versions, opens

    def _new(self, wanted: Wanted, port: int, user: str, now_ms: int) -> tuple[StoredSession, str]:
        """A row and its secret. A desktop has the time of its use from the beginning: its address is used again and again."""
        within_ms = {SessionKind.CONSOLE: CONSOLE_OPEN_WITHIN_MS, SessionKind.VNC: self._limits.idle_ms}
        secret = secrets.token_urlsafe(32)
        row = StoredSession(
            id=secrets.token_hex(6),
            secret=hash_of(secret),
            cookie=b"",
            kind=wanted.kind,
            job_id=wanted.job_id,
            rank=wanted.rank,
            user=user.replace("\0", "")[:_LONGEST_USER],
            port=port,
            opened_at_ms=now_ms,
            redeemed_at_ms=0,
            expires_at_ms=now_ms + within_ms.get(wanted.kind, self._limits.open_within_ms),
        )
        return row, secret

    def _make_room(self, new: Sequence[StoredSession]) -> list[str]:
        """Sessions that have to go for the new ones: pages and desktops of the same user that nobody is connected to, the longest unused
        first, so that whoever opens a page every hour is never refused. Raises TooManySessions."""
        now_ms, most = self._clock.now_ms(), self._limits.most_per_job
        shells = sum(row.kind is SessionKind.SHELL for row in new)
        if shells and shells + sum(s.kind is SessionKind.SHELL and not s.expired(now_ms) for s in self._registry.all()) > (
            self._limits.most_shells
        ):
            raise TooManySessions(f"{self._limits.most_shells} shells are open here, and more there may not be: try again later")
        gone: list[str] = []
        for job_id, count in Counter(row.job_id for row in new).items():
            there = [s for s in self._registry.of_job(job_id) if not s.expired(now_ms)]
            over = len(there) + count - most
            users = {(row.kind, row.user) for row in new if row.job_id == job_id and row.kind is not SessionKind.SHELL}
            idle = sorted((s for s in there if (s.kind, s.row.user) in users and not s.holds), key=lambda s: s.used_at_ms)
            if over > len(idle):
                whose = f"job {job_id}" if job_id else "the console"
                raise TooManySessions(f"{whose} has {most} sessions, and more there may not be: close one, or try again later")
            gone += [s.id for s in idle[: max(over, 0)]]
        return gone

    def _opened(self, row: StoredSession, secret: str, password: str | None) -> Opened:
        # The listener has put it there, unless it was ended in the same breath.
        session = self._registry.by_id(row.id) or Session(row)
        self._tell_opened(session)
        return Opened(session, secret, password)

    @staticmethod
    def _tell_opened(session: Session) -> None:
        log.info(
            "session.opened",
            session=session.id,
            kind=session.kind.name,
            job=session.job_id,
            rank=session.rank,
            user=session.row.user or None,
        )

    # Using

    async def redeem(self, asked: Asked) -> tuple[Session, str]:
        """The cookie's secret for an address that was not used yet. Raises SessionUnknown, InvalidRequest, StoreUnavailable."""
        if asked.kind not in _COOKIES:
            raise InvalidRequest("only sessions of kind WEB and CONSOLE are swapped for a cookie", field="kind")
        session = self._checked(asked, self._registry.by_secret)
        if session.row.redeemed_at_ms or session.id in self._redeeming:
            raise refused("its address was used before", asked.kind, asked.job_id, asked.rank, session)
        cookie, now_ms = secrets.token_urlsafe(32), self._clock.now_ms()
        lasts_ms = CONSOLE_MS if session.kind is SessionKind.CONSOLE else self._limits.idle_ms
        await self._first_use(session, hash_of(cookie), now_ms, now_ms + lasts_ms)
        log.info("session.redeemed", session=session.id, kind=session.kind.name, job=session.job_id, rank=session.rank)
        return session, cookie

    async def authorize(self, asked: Asked) -> Authorized:
        """Raises SessionUnknown; WrongState while the job is suspended or the rank has no such port; BackendDown."""
        session = self._checked(asked, self._registry.by_cookie if asked.kind in _COOKIES else self._registry.by_secret)
        self._used(session)
        endpoint = await self._endpoint(session) if session.row.port else None
        if session.over.is_set():
            raise refused("it ended while it was looked at", asked.kind, asked.job_id, asked.rank, session)
        return Authorized(session, endpoint)

    async def hold(self, asked: Asked) -> AsyncGenerator[Authorized, None]:
        """What `authorize` says, and then the end, when the session is over. Until then it counts as used."""
        found = await self.authorize(asked)
        session = found.session
        session.holds += 1
        try:
            yield found
            await session.over.wait()
        finally:
            session.holds -= 1
            self._used(session)

    async def _endpoint(self, session: Session) -> Endpoint:
        record = self._jobs.get(session.job_id)
        if record is not None and record.state == State.SUSPENDED:
            raise WrongState(f"job {session.job_id} is suspended: resume it first")
        return await self._endpoints.find(session.job_id, session.rank, session.row.port)

    def _used(self, session: Session) -> None:
        """It lasts longer; the keeper writes that down."""
        now_ms = self._clock.now_ms()
        session.used_at_ms = now_ms
        session.renew(now_ms + self._limits.idle_ms)

    def _checked(self, asked: Asked, find: Callable[[str], Session | None]) -> Session:
        """The session that this secret opens, for what it is asked for. Raises SessionUnknown."""
        session = find(asked.secret) if 0 < len(asked.secret) <= _LONGEST_SECRET else None
        why = ""
        if session is None:
            why = "nobody has this secret"
        elif session.kind is not asked.kind:
            why = "it is of another kind"
        elif session.expired(self._clock.now_ms()):
            why = "it has expired"
        elif (asked.job_id or session.kind is SessionKind.WEB) and asked.job_id != session.job_id:
            why = "it is of another job"
        elif (asked.job_id or session.kind is SessionKind.WEB) and asked.rank != session.rank:
            why = "it is of another rank"
        if session is None or why:
            raise refused(why, asked.kind, asked.job_id, asked.rank, session)
        return session

    async def _first_use(self, session: Session, cookie: bytes, now_ms: int, expires_at_ms: int) -> None:
        """Raises SessionUnknown when there was one before, or the session is over."""
        self._redeeming.add(session.id)
        try:
            done = await self._store.sessions.redeem(session.id, cookie, now_ms, expires_at_ms)
        finally:
            self._redeeming.discard(session.id)
        if not done or session.over.is_set():
            raise refused("it was used before, or it is over", session.kind, session.job_id, session.rank, session)
        session.used_at_ms = now_ms

    # Shells (ShellSessions)

    def shell_of(self, secret: str) -> Session:
        return self._checked(Asked(secret, SessionKind.SHELL), self._registry.by_secret)

    async def begin(self, session: Session) -> None:
        if session.stored and not session.row.redeemed_at_ms:
            await self._first_use(session, b"", self._clock.now_ms(), 0)
        if session.over.is_set():
            raise SessionUnknown(WORDS)
        session.expires_at_ms = 0  # also of one that was not started before

    def not_started(self, session: Session) -> None:
        # In the store it has begun. So a restart of the server ends it, as it must: nobody knows then whether something was started.
        if not session.over.is_set():
            session.expires_at_ms = self._clock.now_ms() + self._limits.open_within_ms

    def end(self, session: Session, why: str) -> None:
        if not session.over.is_set():
            self._registry.end(session, why)
            if session.stored:
                self._drop(session.id)

    # Operators

    async def list(self, job_id: str = "") -> list[Session]:
        """Newest first; empty `job_id` = all. Raises JobUnknown."""
        if job_id and (not is_job_id(job_id) or await self._store.job(job_id) is None):
            raise JobUnknown(f"no job {job_id!r} is known here", field="job_id")
        now_ms = self._clock.now_ms()
        found = self._registry.of_job(job_id) if job_id else self._registry.all()
        return sorted((s for s in found if not s.expired(now_ms)), key=lambda s: (s.row.opened_at_ms, s.id), reverse=True)

    async def close(self, session_id: str) -> None:
        """Ends it and everything that is open by it. Unknown = done."""
        session = self._registry.by_id(session_id)
        if session is None:
            return
        if session.stored:
            await self._store.sessions.end([session_id])
        self._registry.end(session, CLOSED)
