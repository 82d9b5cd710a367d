"""Who we are: the access token that Core gives for our refresh token.

One token is used for all calls. It is renewed by time, before it runs out, and when Core refuses it; callers that ask at the same
time share one renewal. The refresh token is read from its file at each renewal, so an operator can replace it while we run, and it
is in no log, error or repr.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

import msgspec
import structlog
from serai.control.v1 import control_pb2

from serai_gateway.clock import Clock
from serai_gateway.codec import Codec, WireError
from serai_gateway.control.transport import CoreUnreachable, Transport

REFRESH_PATH = "/auth/providers/refresh"
DEFAULT_LIFE_MS = 5 * 60 * 1_000
"""Life of a token that does not tell it."""
LAST_MS = 3 * 60 * 1_000
"""Core itself renews its tokens when fewer than 3 minutes are left (facts 2021 §6.1); so do we."""

_log = structlog.stdlib.get_logger("serai_gateway.tokens")


class TokenError(Exception):
    """Core gave no token; the text says why. To be tried again, like Core being away."""


class _Claims(msgspec.Struct):
    iat: float | None = None
    exp: float | None = None
    sub: str | None = None


class _Token:
    """An access token and when to renew it, by our own clock."""

    __slots__ = ("renew_at_ms", "text")

    def __init__(self, text: str, renew_at_ms: int) -> None:
        self.text = text
        self.renew_at_ms = renew_at_ms

    def __repr__(self) -> str:
        return f"<token, to be renewed at {self.renew_at_ms}>"


class Tokens:
    """Our access token for Core."""

    def __init__(
        self, transport: Transport, codec: Codec, refresh_token_file: Path, clock: Clock, providers: frozenset[str] = frozenset()
    ) -> None:
        """`providers`: our names; a token of another provider is refused. Empty = any."""
        self._subjects = frozenset(f"#P_{name}" for name in providers)
        self._transport = transport
        self._codec = codec
        self._file = refresh_token_file
        self._clock = clock
        self._token: _Token | None = None
        self._renewal: asyncio.Task[str] | None = None

    def __repr__(self) -> str:
        return f"<Tokens from {self._file.name}>"

    async def current(self) -> str:
        """A token that is good by time. TokenError, CoreUnreachable."""
        token = self._token
        if token is not None and self._clock.now_ms() < token.renew_at_ms:
            return token.text
        try:
            return await self._share_renewal()
        except (TokenError, CoreUnreachable):
            if token is None:
                raise
            # It is renewed before it runs out, so it may still do; if not, Core says so.
            return token.text

    async def renewed(self, *, instead_of: str) -> str:
        """Another token than the one that Core refused; the present one when somebody renewed it meanwhile. TokenError, CoreUnreachable."""
        token = self._token
        if token is not None and token.text != instead_of:
            return token.text
        return await self._share_renewal()

    async def close(self) -> None:
        """Ends a renewal that nobody waits for any more."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _share_renewal(self) -> str:
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(self._renewal_ended)
        # A caller that is cancelled must not take the renewal from the others.
        return await asyncio.shield(self._renewal)

    def _renewal_ended(self, task: asyncio.Task[str]) -> None:
        self._renewal = None
        if not task.cancelled():
            task.exception()  # so that it counts as seen when all callers have gone

    async def _renew(self) -> str:
        request = control_pb2.RefreshRequest(items=[control_pb2.RefreshToken(refresh_token=self._refresh_token())])
        answer = await self._transport.post(REFRESH_PATH, self._codec.write(request), None)
        if answer.status != 200:
            raise TokenError(
                f"Core refuses to give a token ({answer.status}); is the refresh token in core.refresh_token_file still valid?"
            )
        try:
            wire = self._codec.read(control_pb2.RefreshResponse.DESCRIPTOR, answer.body)
        except WireError as error:
            raise TokenError("Core's answer to the token renewal cannot be read") from error
        responses = control_pb2.RefreshResponse.FromString(wire).responses
        if not responses or not responses[0].access_token:
            raise TokenError("Core's answer to the token renewal holds no token")
        text = responses[0].access_token
        if not is_token(text):
            raise TokenError("Core's answer to the token renewal holds no usable token")
        subject = claims_of(text).sub
        if self._subjects and subject is not None and subject.startswith("#P_") and subject not in self._subjects:
            # With it Core would know none of our jobs, and every one would be stopped as disowned.
            raise TokenError(f"the refresh token in core.refresh_token_file is that of provider {subject[3:60]!r}, not ours")
        self._token = _Token(text, self._clock.now_ms() + life_to_use_ms(text))
        _log.info("token renewed", life_ms=self._token.renew_at_ms - self._clock.now_ms())
        return text

    def _refresh_token(self) -> str:
        try:
            text = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError("core.refresh_token_file cannot be read") from error
        if not text:
            raise TokenError("core.refresh_token_file is empty")
        return text


def is_token(text: str) -> bool:
    """It can stand in a header, and in a line of a file."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def life_to_use_ms(token: str) -> int:
    """How long to use a token, ms: 3/4 of its life or until 3 minutes are left, whichever is earlier; half of a very short life.

    By exp - iat and our own clock from now on, so clocks that differ do no harm.
    """
    life_ms = DEFAULT_LIFE_MS
    claims = claims_of(token)
    if claims.iat is not None and claims.exp is not None and 0 < claims.exp - claims.iat < 1e9:
        life_ms = int((claims.exp - claims.iat) * 1_000)
    rest_ms = max(life_ms // 4, LAST_MS)
    return max(life_ms - rest_ms, life_ms // 2)


def claims_of(token: str) -> _Claims:
    """What a JWT says of itself, unverified; nothing for what is none. Only for our own token, which Core verifies."""
    parts = token.split(".")
    if len(parts) != 3:
        return _Claims()
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError):
        return _Claims()
