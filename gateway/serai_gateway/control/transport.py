"""HTTP to Core: one small place that sends, so nothing else knows the HTTP library.

A call has one time-out for all of it. What Core answered is an `Answer`, whatever its status; `CoreUnreachable` means that there
was no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import aiohttp

LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes; Core's answers are far smaller, and a wrong address must not fill the memory."""


class CoreUnreachable(Exception):
    """No answer from Core: refused, cut off, too slow, too long. The text holds neither token nor body."""


class AnswerTooLong(CoreUnreachable):
    """Core answers with more than we read."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Transport(Protocol):
    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        """POSTs JSON. `bearer` None = without token. CoreUnreachable when there is no answer."""
        ...

    async def get(self, path: str, bearer: str | None) -> Answer:
        """As `post`; `path` with its query."""
        ...


class HttpTransport:
    """aiohttp with keep-alive; use as `async with`."""

    def __init__(self, url: str, *, timeout_ms: int) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1_000)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No proxies from the environment, no cookies: what is sent is what is written here.
        self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, path: str, body: bytes, bearer: str | None) -> Answer:
        return await self._request("POST", path, body, {"Content-Type": "application/json; charset=UTF-8"}, bearer)

    async def get(self, path: str, bearer: str | None) -> Answer:
        return await self._request("GET", path, None, {}, bearer)

    async def _request(self, verb: str, path: str, body: bytes | None, headers: dict[str, str], bearer: str | None) -> Answer:
        if self._session is None:
            raise RuntimeError("the transport is used outside of `async with`")
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        try:
            async with self._session.request(verb, self._url + path, data=body, headers=headers, allow_redirects=False) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > LONGEST_ANSWER:
                        raise AnswerTooLong("the answer is too long to be Core's")
                return Answer(response.status, bytes(content))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CoreUnreachable(_words(error)) from error


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.os_error.strerror or type(error.os_error).__name__}"
    return f"the connection failed: {type(error).__name__}"
