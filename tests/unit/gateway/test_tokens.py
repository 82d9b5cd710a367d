"""Our token for Core: renewed by time and when refused, once for all who ask, and never shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import structlog
from fakes.clock import FakeClock
from fakes.gateway_core import REFRESH, FakeCore, NoGet
from fakes.gateway_tokens import sign
from serai_gateway.codec import Codec
from serai_gateway.control.transport import Answer, CoreUnreachable
from serai_gateway.tokens import TokenError, Tokens, life_to_use_ms

CODEC = Codec()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def core(clock: FakeClock) -> FakeCore:
    return FakeCore(clock)


@pytest.fixture
def tokens(core: FakeCore, clock: FakeClock, tmp_path: Path) -> Tokens:
    file = tmp_path / "refresh"
    file.write_text("the refresh token\n")
    return Tokens(core, CODEC, file, clock)


async def test_one_token_is_used_until_it_is_time(tokens: Tokens, core: FakeCore, clock: FakeClock) -> None:
    """Of 15 minutes it is used 11 and a quarter, then renewed before it runs out."""
    first = await tokens.current()
    clock.move(675_000 - 1)
    assert await tokens.current() == first
    clock.move(1)
    assert await tokens.current() != first
    assert core.issued == 2


@pytest.mark.parametrize(
    ("life_s", "used_s"),
    [(900, 675), (600, 420), (3600, 2700), (300, 150), (60, 30), (0, 150), (-5, 150)],
)
def test_how_long_a_token_is_used(life_s: int, used_s: int) -> None:
    """Until 3/4 of its life or 3 minutes before its end, whichever is earlier; a short one for half of its life."""
    assert life_to_use_ms(sign({"iat": 1_000, "exp": 1_000 + life_s})) == used_s * 1_000


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.bm90IGpzb24.c", "a.eyJpYXQiOiJ4In0.c", sign({"exp": 5}), "ü.ü.ü"])
def test_a_token_that_does_not_tell_its_life(token: str) -> None:
    """It is used half of five minutes; nothing in it makes us fail."""
    assert life_to_use_ms(token) == 150_000


async def test_callers_share_one_renewal(tokens: Tokens, core: FakeCore) -> None:
    """Ten callers at once, and ten whose token was refused: one renewal each time; one that goes away takes nothing from the others."""
    waiting = [asyncio.create_task(tokens.current()) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    got = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert len(set(map(str, got[1:]))) == 1
    assert core.issued == 1
    refused = await tokens.current()
    renewed = await asyncio.gather(*(tokens.renewed(instead_of=refused) for _ in range(10)))
    assert set(renewed) == {await tokens.current()}
    assert refused not in renewed
    assert core.issued == 2
    assert await tokens.renewed(instead_of=refused) == renewed[0]
    assert core.issued == 2


async def test_a_renewal_by_time_that_fails_leaves_the_token(tokens: Tokens, core: FakeCore, clock: FakeClock) -> None:
    """It is renewed before it runs out, so Core being away at that moment costs nothing."""
    first = await tokens.current()
    clock.move(700_000)
    core.refresh_token = "another"
    assert await tokens.current() == first
    with pytest.raises(TokenError):
        await tokens.renewed(instead_of=first)


async def test_the_refresh_token_is_read_at_each_renewal(tokens: Tokens, core: FakeCore, tmp_path: Path) -> None:
    """An operator can replace it while we run."""
    first = await tokens.current()
    core.refresh_token = "the next one"
    (tmp_path / "refresh").write_text("the next one")
    assert await tokens.renewed(instead_of=first) != first


async def test_a_token_file_that_cannot_be_used(tokens: Tokens, tmp_path: Path) -> None:
    """Missing, empty or binary: an error to be tried again, in words that name the setting."""
    file = tmp_path / "refresh"
    for content in (b"", b" \n", b"\xff\xfe", None):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(TokenError, match=r"core\.refresh_token_file"):
            await tokens.current()


class Says(NoGet):
    """A Core whose token call has one answer."""

    def __init__(self, answer: Answer | None) -> None:
        self._answer = answer

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        assert path == REFRESH
        assert bearer is None
        if self._answer is None:
            raise CoreUnreachable("no connection")
        return self._answer


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, b'{"why":"Forbidden"}'),
        Answer(500, b""),
        Answer(200, b"<html>"),
        Answer(200, b"{}"),
        Answer(200, b'{"responses":[]}'),
        Answer(200, b'{"responses":[{"accessToken":""}]}'),
        Answer(200, json.dumps({"responses": [{"accessToken": "a\r\nX-Evil: 1"}]}).encode()),
        Answer(200, json.dumps({"responses": [{"accessToken": 5}]}).encode()),
    ],
)
async def test_no_usable_token_is_an_error_without_secrets(answer: Answer, clock: FakeClock, tmp_path: Path) -> None:
    """Whatever Core answers: TokenError, and neither the refresh token nor Core's text in it."""
    file = tmp_path / "refresh"
    file.write_text("very-secret-token")
    with pytest.raises(TokenError) as caught:
        await Tokens(Says(answer), CODEC, file, clock).current()
    assert "very-secret-token" not in repr(caught.value)
    assert "Evil" not in repr(caught.value)


async def test_core_away_is_told_as_that(clock: FakeClock, tmp_path: Path) -> None:
    """CoreUnreachable goes through, so that the caller backs off."""
    file = tmp_path / "refresh"
    file.write_text("x")
    with pytest.raises(CoreUnreachable):
        await Tokens(Says(None), CODEC, file, clock).current()


async def test_tokens_are_in_no_log_and_no_repr(tokens: Tokens) -> None:
    """Neither the refresh token nor the access token is shown anywhere."""
    with structlog.testing.capture_logs() as logs:
        access = await tokens.current()
    shown = repr(logs) + repr(tokens) + repr(vars(tokens)["_token"])
    assert logs
    assert access not in shown
    assert "the refresh token" not in shown


async def test_a_token_of_another_provider_is_refused(clock: FakeClock, tmp_path: Path) -> None:
    """With another provider's refresh token Core would know none of our jobs, and each would be stopped as disowned."""

    class OtherCore(FakeCore):
        async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
            token = sign({"sub": "#P_other", "iat": 1, "exp": 901})
            return Answer(200, json.dumps({"responses": [{"accessToken": token}]}).encode())

    file = tmp_path / "refresh"
    file.write_text("theirs")
    with pytest.raises(TokenError, match="that of provider 'other', not ours"):
        await Tokens(OtherCore(clock), CODEC, file, clock, frozenset({"example", "ucloud"})).current()
    assert await Tokens(OtherCore(clock), CODEC, file, clock, frozenset({"other"})).current()
