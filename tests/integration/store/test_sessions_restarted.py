"""What a restart of the server leaves of sessions, on both databases: all that holders have, and nothing of what is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.core_on import START_MS, patiently, terminate
from fakes.sessions import CONSOLE, SHELL, VNC, WEB, Site, machine_at, reachable_job, site_in
from serai_server.errors import SessionUnknown
from serai_server.sessions.limits import HOUR_MS, MINUTE_MS
from serai_server.sessions.service import Asked
from serai_server.store.api import Store
from serai_server.store.session_model import SessionKind, StoredSession


async def test_secrets_and_cookies_outlive_the_server(tmp_path: Path, url: str) -> None:
    """A page, a desktop, an operator, a shell that has not begun and an address that was not used: each goes on where it was."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.run(reachable_job("1"))
        page, desktop, operator, shell, late = [
            await site.open(kind, "" if kind is CONSOLE else "1") for kind in (WEB, VNC, CONSOLE, SHELL, WEB)
        ]
        cookie, console = await site.cookie(page), await site.cookie(operator)
        before = [session.message() for session in await site.sessions.list()]
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        assert [session.message() for session in await site.sessions.list()] == before
        assert (await site.sessions.authorize(Asked(cookie, WEB, "1", 0))).endpoint is not None
        assert (await site.sessions.authorize(Asked(desktop.secret, VNC))).endpoint is not None
        assert (await site.sessions.authorize(Asked(console, CONSOLE))).endpoint is None
        assert site.sessions.shell_of(shell.secret).id == shell.session.id
        assert await site.cookie(late)
        with pytest.raises(SessionUnknown):
            await site.cookie(page)


async def test_what_is_over_stays_over(tmp_path: Path, url: str) -> None:
    """Closed, ended with its job, expired while the server was away, and a shell that had begun: none of them comes back, in the store
    neither."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.run(reachable_job("1"), reachable_job("2"))
        closed, of_job, expired, shell = (
            await site.open(VNC, "1"),
            await site.open(VNC, "2"),
            await site.open(WEB, "1"),
            await site.open(SHELL, "1"),
        )
        await site.sessions.close(closed.session.id)
        await site.sessions.begin(shell.session)
        await terminate(site.core, "2")
        await patiently(lambda: done(of_job.session.over.is_set()), clock)
    clock.move(5 * MINUTE_MS)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        assert await site.sessions.list() == []
        assert await site.core.store.sessions.all() == []
        for opened in (closed, of_job):
            with pytest.raises(SessionUnknown):
                await site.sessions.authorize(Asked(opened.secret, VNC))
        with pytest.raises(SessionUnknown):
            await site.cookie(expired)
        with pytest.raises(SessionUnknown):
            site.sessions.shell_of(shell.secret)


async def done(value: bool) -> bool:
    return value


@pytest.mark.parametrize("kind", list(SessionKind))
async def test_killed_between_store_and_answer_of_an_opening(tmp_path: Path, url: str, kind: SessionKind) -> None:
    """The session is there, its secret nobody has; it can be listed and closed, and it expires like any other."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.run(reachable_job("1"))
        await unanswered(site, lambda: site.open(kind, "" if kind is CONSOLE else "1"), lambda: has_sessions(site, 1))
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        (left,) = await site.sessions.list()
        assert (left.kind, left.stored) == (kind, True)
        clock.move(10 * HOUR_MS)
        await site.look()
        assert await site.core.store.sessions.all() == []


async def test_killed_between_store_and_answer_of_a_first_use(tmp_path: Path, url: str) -> None:
    """The address is used up and its cookie nobody has: a new session has to be opened, and nobody else can come in by the old one."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.run(reachable_job("1"))
        opened = await site.open(WEB, "1")
        await unanswered(site, lambda: site.cookie(opened), lambda: done(bool(opened.session.row.redeemed_at_ms)))
        with pytest.raises(SessionUnknown):
            await site.cookie(opened)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        with pytest.raises(SessionUnknown):
            await site.sessions.redeem(Asked(opened.secret, WEB, "1", 0))
        assert await site.cookie(await site.open(WEB, "1"))


async def test_a_session_that_memory_does_not_have_opens_nothing_and_goes_at_the_next_start(tmp_path: Path, url: str) -> None:
    """A row whose commit was not answered: the database has it, the server may not know."""
    clock = FakeClock(START_MS)
    machine = machine_at(clock)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.run(reachable_job("1"))
        opened = await site.open(WEB, "1")
        stray = replace(opened.session.row, id="stray", secret=b"s" * 32, expires_at_ms=clock.now_ms() + 1)
        job = await site.core.store.job("1")
        assert job is not None
    clock.move(1)
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        await site.core.store.sessions.open([stray], {"1": job.version})
    async with site_in(tmp_path, machine=machine, clock=clock, store_url=url) as site:
        assert [row.id for row in await site.core.store.sessions.all()] == [opened.session.id]


async def has_sessions(site: Site, count: int) -> bool:
    return len(await site.core.store.sessions.all()) == count


class CutOff:
    """A store whose writes are carried out, and whoever asked for one is cancelled before hearing of it: what kill -9 between the two looks
    like afterwards."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: asyncio.Future[object] | None = None
        self.sessions = self
        self.job = store.job

    async def open(self, sessions: Sequence[StoredSession], versions: Mapping[str, int], instead_of: Sequence[str] = ()) -> None:
        await self._cut_off(self._store.sessions.open(sessions, versions, instead_of))

    async def redeem(self, session_id: str, cookie: bytes, at_ms: int, expires_at_ms: int) -> None:
        await self._cut_off(self._store.sessions.redeem(session_id, cookie, at_ms, expires_at_ms))

    async def _cut_off(self, write: Coroutine[object, object, object]) -> None:
        self._written = asyncio.ensure_future(write)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.shield(self._written)


async def unanswered(site: Site, call: Callable[[], Coroutine[object, object, object]], stored: Callable[[], Awaitable[bool]]) -> None:
    """Make the call, cut off, and wait until its write is there."""
    store = site.core.store
    site.sessions._store = CutOff(store)  # pyright: ignore[reportAttributeAccessIssue]  # only what is asked here
    try:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(call())
    finally:
        site.sessions._store = store
    await patiently(stored)
