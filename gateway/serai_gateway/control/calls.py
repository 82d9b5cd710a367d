"""Calls of Core with our token. Core that refuses the token gets a new one, once for each call.

2021 says 401 for a token that it does not take, today's Core makes a guest of us and says 403 (facts today §3). It says 403 for some
things that have nothing to do with the token as well, in words of its own; with those it has read the request, so the token was good.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from serai_gateway.control.transport import Answer, Transport
from serai_gateway.tokens import Tokens

_LONGEST_WORDS = 500


class _ErrorBody(msgspec.Struct):
    why: str


_error_decoder = msgspec.json.Decoder(_ErrorBody)


class Calls:
    """Raises CoreUnreachable and TokenError."""

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self._transport = transport
        self._tokens = tokens

    async def post(self, path: str, body: bytes, *, is_word: Callable[[Answer], bool] = lambda _answer: False) -> Answer:
        """`is_word`: a 401 or 403 that is about the request and not about the token."""
        token = await self._tokens.current()
        answer = await self._transport.post(path, body, token)
        if answer.status not in {401, 403} or is_word(answer):
            return answer
        return await self._transport.post(path, body, await self._tokens.renewed(instead_of=token))

    async def get(self, path: str) -> Answer:
        """`path` with its query."""
        token = await self._tokens.current()
        answer = await self._transport.get(path, token)
        if answer.status not in {401, 403}:
            return answer
        return await self._transport.get(path, await self._tokens.renewed(instead_of=token))


def words_of(answer: Answer) -> str | None:
    """What Core's error body says; None = the body is not Core's."""
    try:
        return _error_decoder.decode(answer.body).why[:_LONGEST_WORDS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
