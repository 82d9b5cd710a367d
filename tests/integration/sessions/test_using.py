"""Sessions as their holders use them: addresses that work once, cookies, desktops, holds, and everything that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from fakes.core_on import until
from fakes.sessions import CONSOLE, PASSWORD, SHELL, VNC, WEB, Site, reachable_job, refusals, site_in
from serai_backends.model import End, Endpoint
from serai_server.errors import BackendDown, InvalidRequest, SessionUnknown, WrongState
from serai_server.sessions.endpoints import GOOD_MS
from serai_server.sessions.limits import CONSOLE_MS, CONSOLE_OPEN_WITHIN_MS, HOUR_MS, MINUTE_MS
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Asked
from serai_server.store.model import JobChange, State
from serai_server.store.session_model import SessionKind

WORDS = "this session is not known here, or it is over: open a new one in UCloud"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    """Jobs 1 (2 ranks) and 2, both with a page and a desktop."""
    async with site_in(tmp_path) as found:
        await found.run(reachable_job("1", replicas=2), reachable_job("2"))
        yield found


async def refuse(site: Site, asked: Asked, why: str) -> None:
    """It is refused in the words that all refusals have, and the log has the reason but not the secret."""
    with refusals() as told, pytest.raises(SessionUnknown) as caught:
        await site.sessions.authorize(asked)
    assert caught.value.text == WORDS
    assert [line["why"] for line in told] == [why]
    assert not asked.secret or asked.secret not in repr(told)


async def test_a_page_is_opened_by_its_address_once_and_then_by_its_cookie(site: Site) -> None:
    """Redeem swaps the address for a cookie; the cookie opens the replica's own port, the address nothing any more."""
    opened = await site.open(WEB, "1", rank=1, user="alice")
    asked = Asked(opened.secret, WEB, "1", 1)
    await refuse(site, asked, "nobody has this secret")  # not before it was redeemed
    session, cookie = await site.sessions.redeem(asked)
    assert session.id == opened.session.id
    found = await site.sessions.authorize(replace(asked, secret=cookie))
    assert found.endpoint == Endpoint("127.1.0.2", 8888)
    await refuse(site, asked, "nobody has this secret")
    with refusals() as told, pytest.raises(SessionUnknown, match=WORDS):
        await site.sessions.redeem(asked)
    assert told[0]["why"] == "its address was used before"
    assert told[0]["session"] == session.id


async def test_of_two_who_redeem_at_once_one_gets_the_cookie(site: Site) -> None:
    """A stolen address cannot be used beside its owner."""
    opened = await site.open(WEB, "1")
    outcomes = await asyncio.gather(*(site.cookie(opened) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, SessionUnknown) for outcome in outcomes) == 4


class UsedBefore:
    """A store whose row was used although memory does not know it: its commit was never answered."""

    def __init__(self) -> None:
        self.sessions = self

    async def redeem(self, *_: object) -> bool:
        return False


async def test_what_the_store_says_was_used_is_used(site: Site) -> None:
    """A first use whose commit was in doubt does not happen twice."""
    opened = await site.open(WEB, "1")
    site.sessions._store = UsedBefore()  # pyright: ignore[reportAttributeAccessIssue]  # only what is asked here
    with refusals() as told, pytest.raises(SessionUnknown, match=WORDS):
        await site.cookie(opened)
    assert told[0]["why"] == "it was used before, or it is over"


async def test_a_desktop_has_a_password_and_is_opened_again_and_again(site: Site) -> None:
    """A VNC session's own secret opens it as often as its holder comes back; the password is the application's."""
    opened = await site.open(VNC, "1")
    assert opened.password == PASSWORD
    for _ in range(2):
        found = await site.sessions.authorize(Asked(opened.secret, VNC))
        assert found.endpoint == Endpoint("127.1.0.1", 5901)
    with pytest.raises(InvalidRequest, match="WEB and CONSOLE"):
        await site.sessions.redeem(Asked(opened.secret, VNC))


async def test_a_cookie_opens_its_own_job_and_rank_only(site: Site) -> None:
    """Cookies of other jobs, ranks and kinds are refused in the same words."""
    cookie = await site.cookie(await site.open(WEB, "1"))
    await refuse(site, Asked(cookie, WEB, "2", 0), "it is of another job")
    await refuse(site, Asked(cookie, WEB, "1", 1), "it is of another rank")
    await refuse(site, Asked(cookie, WEB, "", 0), "it is of another job")
    await refuse(site, Asked(cookie, WEB, "../x\n", 0), "it is of another job")
    await refuse(site, Asked(cookie, CONSOLE), "it is of another kind")
    await refuse(site, Asked(cookie, VNC, "1", 0), "nobody has this secret")
    shell = await site.open(SHELL, "1")
    await refuse(site, Asked(shell.secret, VNC, "1", 0), "it is of another kind")
    assert (await site.sessions.authorize(Asked(cookie, WEB, "1", 0))).endpoint is not None


@pytest.mark.parametrize("secret", ["", "guessed", "x" * 257, "ä\0"], ids=["empty", "guessed", "long", "odd"])
@pytest.mark.parametrize("kind", list(SessionKind))
async def test_what_is_guessed_is_refused(site: Site, secret: str, kind: SessionKind) -> None:
    """Whatever is shown, the answer is the same."""
    await site.open(WEB, "1")
    await refuse(site, Asked(secret, kind, "1", 0), "nobody has this secret")


async def test_a_refusal_logs_no_text_that_is_no_jobs_id(site: Site) -> None:
    """What an attacker writes where a job's id should be does not come into the log."""
    with refusals() as told, pytest.raises(SessionUnknown):
        await site.sessions.authorize(Asked("guessed", WEB, "<script>\n", 0))
    assert told[0]["job"] == "(no job's id)"


@pytest.mark.parametrize(
    ("kind", "within_ms"), [(SHELL, 5 * MINUTE_MS), (WEB, 5 * MINUTE_MS), (VNC, 10 * HOUR_MS), (CONSOLE, CONSOLE_OPEN_WITHIN_MS)]
)
async def test_what_is_not_used_in_time_expires(site: Site, kind: SessionKind, within_ms: int) -> None:
    """To the millisecond, whether or not the keeper has looked; after it has looked, nothing is left in the store."""
    opened = await site.open(kind, "" if kind is CONSOLE else "1")
    assert opened.session.expires_at_ms == site.clock.now_ms() + within_ms
    site.clock.move(within_ms - 1)
    assert await site.sessions.list() == [opened.session]
    site.clock.move(1)
    with pytest.raises(SessionUnknown), refusals() as told:
        if kind in {WEB, CONSOLE}:
            await site.cookie(opened)
        else:
            await site.sessions.authorize(Asked(opened.secret, kind))
    assert told[0]["why"] in {"it has expired", "nobody has this secret"}
    assert await site.sessions.list() == []
    await site.look()
    assert opened.session.over.is_set()
    assert await site.core.store.sessions.all() == []


async def test_use_makes_a_page_last_and_the_store_knows_within_a_minute(site: Site) -> None:
    """Ten hours from the last use; the store is told at most once a minute."""
    opened = await site.open(WEB, "1")
    cookie = await site.cookie(opened)
    session = opened.session
    site.clock.move(9 * HOUR_MS)
    await site.look()
    await site.sessions.authorize(Asked(cookie, WEB, "1", 0))
    assert session.expires_at_ms == site.clock.now_ms() + 10 * HOUR_MS
    await site.look()
    stored = {row.id: row.expires_at_ms for row in await site.core.store.sessions.all()}
    assert stored == {session.id: session.expires_at_ms}
    site.clock.move(10_000)
    await site.sessions.authorize(Asked(cookie, WEB, "1", 0))
    await site.look()
    assert {row.id: row.expires_at_ms for row in await site.core.store.sessions.all()} == stored
    site.clock.move(10 * HOUR_MS)
    await refuse(site, Asked(cookie, WEB, "1", 0), "it has expired")


async def test_an_operator_stays_for_a_working_day_however_much_is_done(site: Site) -> None:
    """The console's cookie is not renewed by use, and a held one ends too."""
    cookie = await site.cookie(await site.open(CONSOLE))
    asked = Asked(cookie, CONSOLE)
    async with aclosing(site.sessions.hold(asked)) as held:
        assert (await anext(held)).endpoint is None
        site.clock.move(CONSOLE_MS - 1)
        await site.look()
        await site.sessions.authorize(asked)
        site.clock.move(1)
        await site.look()
        with pytest.raises(StopAsyncIteration):
            await anext(held)
    with pytest.raises(SessionUnknown):
        await site.sessions.authorize(asked)


async def test_who_is_connected_is_using_it(site: Site) -> None:
    """A held desktop does not expire, and its ten hours begin when the connection ends."""
    opened = await site.open(VNC, "1")
    asked = Asked(opened.secret, VNC)
    async with aclosing(site.sessions.hold(asked)) as held:
        await anext(held)
        for _ in range(4):
            site.clock.move(6 * HOUR_MS)
            await site.look()
        assert not opened.session.over.is_set()
    assert opened.session.expires_at_ms == site.clock.now_ms() + 10 * HOUR_MS
    assert opened.session.holds == 0


@pytest.mark.parametrize("way", ["closed", "job over", "rank over"])
async def test_a_hold_ends_with_its_session(site: Site, way: str) -> None:
    """Whoever is connected is let go at once when the session was closed, the job is over or the rank has ended."""
    opened = await site.open(VNC, "1", rank=1)
    async with aclosing(site.sessions.hold(Asked(opened.secret, VNC))) as held:
        await anext(held)
        match way:
            case "closed":
                await site.sessions.close(opened.session.id)
            case "job over":
                site.backend.end("1", 0, End.EXITED, exit_code=0)
                site.backend.end("1", 1, End.EXITED, exit_code=0)
            case _:
                site.backend.end("1", 1, End.EXITED, exit_code=0)
                await site.look()
        async with asyncio.timeout(10):
            with pytest.raises(StopAsyncIteration):
                await anext(held)
    await site.look()
    assert await site.core.store.sessions.all() == []
    await refuse(site, Asked(opened.secret, VNC), "nobody has this secret")


async def test_sessions_of_other_ranks_go_on(site: Site) -> None:
    """Rank 1 ends; who is at rank 0 stays."""
    zero, one = await site.open(VNC, "1", rank=0), await site.open(VNC, "1", rank=1)
    site.backend.end("1", 1, End.EXITED, exit_code=0)
    await site.look()
    assert (zero.session.over.is_set(), one.session.over.is_set()) == (False, True)
    assert one.session.why_over == "the rank has ended"
    with pytest.raises(WrongState, match="rank 1 of job 1 has ended"):
        await site.open(VNC, "1", rank=1)


async def test_the_backend_is_asked_once_while_nothing_changes(site: Site) -> None:
    """A page that asks for a hundred things at once is one question to the backend."""
    cookie = await site.cookie(await site.open(WEB, "1"))
    found = await asyncio.gather(*(site.sessions.authorize(Asked(cookie, WEB, "1", 0)) for _ in range(100)))
    assert {one.endpoint for one in found} == {Endpoint("127.1.0.1", 8888)}
    assert site.backend.asked == [("1", 0, 8888)]


async def test_the_backend_is_asked_again_when_the_job_has_changed(site: Site) -> None:
    """A replica may be somewhere else after that."""
    opened = await site.open(VNC, "1")
    asked = Asked(opened.secret, VNC)
    await site.sessions.authorize(asked)
    row = await site.core.store.job("1")
    assert row is not None
    await site.core.store.change_job(JobChange("1", row.version, warned_ms=1))
    for _ in range(2):
        await site.sessions.authorize(asked)
    assert site.backend.asked == [("1", 0, 5901)] * 2


async def test_an_address_is_given_out_for_a_moment_only(site: Site) -> None:
    """The port of a replica that has ended may soon be another job's: while the backend cannot be asked, nobody is sent there."""
    asked = Asked((await site.open(VNC, "1")).secret, VNC)
    await site.sessions.authorize(asked)
    site.backend.away = True
    site.clock.move(GOOD_MS - 1)
    assert (await site.sessions.authorize(asked)).endpoint is not None
    site.clock.move(1)
    with pytest.raises(BackendDown):
        await site.sessions.authorize(asked)
    site.backend.away = False
    assert (await site.sessions.authorize(asked)).endpoint is not None


async def test_a_look_that_fails_in_an_unknown_way_ends_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the next look does what is left; the server with all its jobs goes on."""
    keeper, looks = site.core.sessions.keeper, 0

    async def broken() -> None:
        nonlocal looks
        looks += 1
        raise ValueError("inside")

    monkeypatch.setattr(keeper, "look", broken)
    with structlog.testing.capture_logs() as lines:
        running = asyncio.ensure_future(keeper.run())
        for wanted in (1, 2):
            while looks < wanted and not running.done():
                await asyncio.sleep(0.001)
            site.clock.move(5_000)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert "sessions.look_failed" in [line["event"] for line in lines]


async def test_a_backend_that_is_away_is_told_and_the_session_stays(site: Site) -> None:
    """Nothing is concluded from a machine that does not answer."""
    opened = await site.open(VNC, "1")
    site.backend.away = True
    with pytest.raises(BackendDown):
        await site.sessions.authorize(Asked(opened.secret, VNC))
    site.backend.away = False
    assert (await site.sessions.authorize(Asked(opened.secret, VNC))).endpoint is not None


async def test_a_suspended_job_lets_nobody_in_and_keeps_its_sessions(site: Site) -> None:
    """Its processes are stopped, so a connection would hang; when it goes on, the same session opens it."""
    opened = await site.open(VNC, "1")
    await site.core.changes.suspend(["1"])
    await until(site.core, "1", lambda row: row.state is State.SUSPENDED)
    with pytest.raises(WrongState, match="suspended"):
        await site.sessions.authorize(Asked(opened.secret, VNC))
    with pytest.raises(WrongState, match="suspended"):
        await site.sessions.open([Wanted(SHELL, "1")])
    await site.core.changes.unsuspend(["1"])
    await until(site.core, "1", lambda row: row.state is State.RUNNING)
    assert (await site.sessions.authorize(Asked(opened.secret, VNC))).endpoint is not None
