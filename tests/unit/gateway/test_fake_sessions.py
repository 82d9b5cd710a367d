"""The stand-in for SessionsService keeps the contract's rules: what tests of the gateway rely on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.gateway_sessions import OPEN_WITHIN_MS, SERVICE, UNKNOWN, FakeSessions
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.upstream import UpstreamError

HOLDER = {"serai-caller": "session"}
WEB = pb2.SESSION_KIND_WEB


def _sessions() -> FakeSessions:
    sessions = FakeSessions()
    sessions.run("1", 0, web=("127.0.0.1", 8000))
    sessions.run("1", 1, web=("127.0.0.1", 8001))
    return sessions


async def _redeem(sessions: FakeSessions, secret: str, rank: int = 0) -> str:
    request = pb2.RedeemRequest(secret=secret, kind=WEB, job_id="1", rank=rank)
    answer = await sessions.unary(SERVICE + "Redeem", request.SerializeToString(), HOLDER, 1.0)
    return pb2.RedeemResponse.FromString(answer).cookie_secret


async def _authorize(sessions: FakeSessions, secret: str, rank: int = 0) -> int:
    request = pb2.AuthorizeRequest(secret=secret, kind=WEB, job_id="1", rank=rank)
    return pb2.AuthorizeResponse.FromString(await sessions.unary(SERVICE + "Authorize", request.SerializeToString(), HOLDER, 1.0)).port


async def test_an_address_works_once_and_its_cookie_for_its_rank_only() -> None:
    """Redeem once, then Authorize by the cookie; another rank, a second redeem and the address' own secret are refused alike."""
    sessions = _sessions()
    one = sessions.open(WEB, "1", 0)
    cookie = await _redeem(sessions, one.secret)
    assert await _authorize(sessions, cookie) == 8000
    for attempt in (_redeem(sessions, one.secret), _authorize(sessions, cookie, 1), _authorize(sessions, one.secret)):
        with pytest.raises(UpstreamError, match=UNKNOWN):
            await attempt


async def test_an_address_that_waited_too_long_is_unknown() -> None:
    sessions = _sessions()
    one = sessions.open(WEB, "1", 0)
    sessions.now_ms += OPEN_WITHIN_MS
    with pytest.raises(UpstreamError, match=UNKNOWN):
        await _redeem(sessions, one.secret)


async def test_a_hold_ends_with_its_job() -> None:
    """One message at first, then nothing until the job ends."""
    sessions = _sessions()
    cookie = await _redeem(sessions, sessions.open(WEB, "1", 0).secret)
    request = pb2.HoldRequest(secret=cookie, kind=WEB, job_id="1", rank=0).SerializeToString()
    hold = sessions.stream(SERVICE + "Hold", request, HOLDER)
    assert pb2.HoldResponse.FromString(await anext(hold)).authorized.port == 8000
    rest = asyncio.ensure_future(anext(hold, None))
    sessions.end("1")
    assert await rest is None


async def test_a_shell_echoes_and_comes_back_with_its_last_output() -> None:
    """What was typed comes back; a second connection gets it again and is told that the shell was there already."""
    sessions = _sessions()
    one = sessions.open(pb2.SESSION_KIND_SHELL, "1", 0)

    async def connect(*typed: bytes) -> tuple[bool, bytes]:
        leave = asyncio.Event()

        async def requests() -> AsyncIterator[bytes]:
            yield pb2.ShellRequest(open=pb2.ShellOpen(secret=one.secret, size=pb2.TerminalSize(columns=80, rows=24))).SerializeToString()
            for data in typed:
                yield pb2.ShellRequest(input=data).SerializeToString()
            await leave.wait()

        answers = sessions.exchange(SERVICE + "Shell", requests(), HOLDER)
        opened = pb2.ShellResponse.FromString(await anext(answers)).opened
        output = pb2.ShellResponse.FromString(await anext(answers)).output
        await answers.aclose()  # type: ignore[attr-defined]
        return opened.resumed, output

    assert await connect(b"ls\n") == (False, b"ls\n")
    assert await connect() == (True, b"ls\n")
