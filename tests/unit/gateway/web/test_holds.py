"""Holds: one for all that a session has open, ended with it, and not ended by a server that is away for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack

import pytest
from fakes.clock import FakeClock
from fakes.gateway_sessions import FakeSessions
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.errors import GatewayError
from serai_gateway.web.holds import AWAY_S, MOST_USES, Holds
from serai_gateway.web.sessions import Sessions

VNC = pb2.SESSION_KIND_VNC


class Made:
    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.sessions.run("1", vnc=("127.0.0.1", 5900))
        self.secret = self.sessions.open(VNC, "1").secret
        self.clock = FakeClock()
        self.holds = Holds(Sessions(self.sessions, timeout_s=1.0), self.clock)

    async def passing(self, condition: Callable[[], bool]) -> None:
        """Time passes until it is so."""
        while not condition():
            self.clock.move(100)
            for _ in range(10):
                await asyncio.sleep(0)  # whoever was woken has its turn


@pytest.fixture
async def made() -> AsyncGenerator[Made]:
    found = Made()
    async with asyncio.timeout(20):
        yield found
        await found.holds.close()


async def test_many_users_share_one_hold(made: Made) -> None:
    """The server is asked once; each user is cut when the session is over, and not after having left."""
    cut: list[str] = []
    take = made.holds.take
    async with take(made.secret, VNC, "", 0) as one, take(made.secret, VNC, "", 0) as two:
        one.when_over(lambda: cut.append("one"))
        two.when_over(lambda: cut.append("two"))
        one.when_over(lambda: cut.append("left"))()
        assert one.authorized.port == 5900
        assert made.sessions.calls == ["Hold"]
        over = asyncio.Event()
        one.when_over(over.set)
        made.sessions.end("1")
        await over.wait()
    assert cut == ["one", "two"]
    with pytest.raises(GatewayError):
        async with take(made.secret, VNC, "", 0):
            pass


async def test_who_leaves_while_it_is_asked_takes_nothing_from_others(made: Made) -> None:
    """Two ask at once, the first is cancelled: the second gets the answer."""

    async def use() -> int:
        async with made.holds.take(made.secret, VNC, "", 0) as hold:
            return hold.authorized.port

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 5900
    assert made.sessions.calls.count("Hold") == 1


async def test_a_server_that_is_away_ends_nothing_at_once(made: Made) -> None:
    """Its streams break; it comes back and says yes: what is open goes on. It stays away for longer: that is an end."""
    async with made.holds.take(made.secret, VNC, "", 0) as hold:
        over = asyncio.Event()
        hold.when_over(over.set)
        made.sessions.away = True
        made.sessions.drop()
        await made.passing(lambda: made.sessions.calls.count("Hold") == 3)
        made.sessions.away = False
        await made.passing(lambda: made.sessions.held[0].holds == 1)
        assert not over.is_set()
        made.sessions.away = True
        made.sessions.drop()
        began_ms = made.clock.now_ms()
        await made.passing(over.is_set)
        assert AWAY_S <= (made.clock.now_ms() - began_ms) / 1_000 < AWAY_S + 10


async def test_one_session_has_only_so_much_open(made: Made) -> None:
    """What is more is refused as such, and let in again when something has ended; who else uses another session is not."""
    other = made.sessions.open(VNC, "1").secret
    async with AsyncExitStack() as stack:
        for _ in range(MOST_USES - 1):
            await stack.enter_async_context(made.holds.take(made.secret, VNC, "", 0))
        async with made.holds.take(made.secret, VNC, "", 0), made.holds.take(other, VNC, "", 0):
            with pytest.raises(GatewayError, match="Too much is open"):
                await stack.enter_async_context(made.holds.take(made.secret, VNC, "", 0))
        await stack.enter_async_context(made.holds.take(made.secret, VNC, "", 0))


async def test_who_asks_late_is_cut_at_once(made: Made) -> None:
    """A desktop takes seconds to be reached, and its session may end meanwhile."""
    cut: list[str] = []
    async with made.holds.take(made.secret, VNC, "", 0) as hold:
        over = asyncio.Event()
        hold.when_over(over.set)
        made.sessions.end("1")
        await over.wait()
        hold.when_over(lambda: cut.append("late"))()
    assert cut == ["late"]


@pytest.mark.parametrize("turns", range(8))
async def test_who_comes_when_an_unused_hold_ends_is_not_cut_with_it(made: Made, turns: int) -> None:
    """Whatever turn of the loop it is: a page that asks for something as often as holds linger."""
    holds, cut = Holds(Sessions(made.sessions, timeout_s=1.0), made.clock, linger_s=0), list[str]()
    async with holds.take(made.secret, VNC, "", 0):
        pass
    for _ in range(turns):
        await asyncio.sleep(0)
    async with holds.take(made.secret, VNC, "", 0) as hold:
        hold.when_over(lambda: cut.append("cut"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert cut == []
    await holds.close()
    assert made.sessions.held[0].holds == 0
