"""Core's side of the calls to the provider, as Core makes them: headers of each generation, and a memory of every answer.

2021 §6.5; today §3. A call is given three times the time that it may take, so that a slow answer is still an answer: that it was slow
is one rule's business, not every rule's.
"""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp

from serai_conformance import tls
from serai_conformance.model import Generation, Target
from serai_conformance.tokens import Signer
from serai_conformance.wire import Json, NotJson, dump, parse, shown, text_at

GRACE = 3
"""Times the time that a call may take, until the kit gives up on it."""
MOST_BYTES = 16 << 20
REPEAT_ON = frozenset({449, 503})
REPEATS = 4
PAUSE_S = 0.2
"""Between two attempts, as Core of 2021."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider said to one call."""

    call: str
    """`POST /ucloud/example/jobs`, for reasons."""
    status: int
    """0 = nothing came."""
    raw: bytes
    body: Json
    """None = no body, `null`, or no JSON."""
    is_json: bool
    took_s: float
    problem: str = ""
    """Why nothing came, in words."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """How it was answered, for reasons."""
        if self.status == 0:
            return f"{self.call} was not answered: {self.problem}"
        why = text_at(self.body, "why") or shown(self.raw)
        return f"{self.call} was answered {self.status}" + (f" ({why})" if why else "")


@dataclass(slots=True)
class Client:
    """Use as `async with`."""

    target: Target
    signer: Signer
    answers: list[Answer] = field(default_factory=list[Answer])
    """Of all calls, for rules that look at all of them."""
    _session: aiohttp.ClientSession | None = None
    _token: str = ""
    _token_until_s: float = 0.0

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    def token(self) -> str:
        """One of Core's that is good; the same for many calls, as Core does."""
        if time.monotonic() > self._token_until_s:
            self._token = self.signer.core()
            self._token_until_s = time.monotonic() + 300
        return self._token

    async def call(
        self,
        method: str,
        path: str,
        body: Json | bytes = None,
        *,
        username: str | None = None,
        authorization: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One call. `path` is below the provider's base, or whole when it begins with `/ucloud`. `username` None = Core's own business;
        `authorization` "" = Core's good token, None = none at all. Never raises for what the provider does."""
        full = path if path.startswith("/ucloud") else self.target.base + path
        raw = body if isinstance(body, bytes) else b"" if body is None else dump(body)
        given = self._headers(raw, username, f"Bearer {self.token()}" if authorization == "" else authorization) | (headers or {})
        answer = await self._send(method, full, raw, given)
        for _ in range(REPEATS if username is not None else 0):
            if answer.status not in REPEAT_ON:
                break
            # As Core does for its users (2021 §1.3, today §6.2).
            await self._send(
                "POST",
                f"{self.target.base}/integration/init",
                dump({"username": username}),
                self._headers(b"{}", None, given.get("Authorization")),
            )
            await asyncio.sleep(PAUSE_S)
            answer = await self._send(method, full, raw, given)
        self.answers.append(answer)
        return answer

    async def post(self, path: str, body: Json | bytes, *, username: str | None = None) -> Answer:
        return await self.call("POST", path, body, username=username)

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def _send(self, method: str, path: str, raw: bytes, headers: dict[str, str]) -> Answer:
        if self._session is None:
            raise RuntimeError("the client is used outside of `async with`")
        call, limit_s, began = f"{method} {path}", self.target.answer_within_s * GRACE, time.monotonic()

        def nothing(problem: str) -> Answer:
            return Answer(call, 0, b"", None, is_json=False, took_s=time.monotonic() - began, problem=problem)

        try:
            async with (
                asyncio.timeout(limit_s),
                self._session.request(
                    method,
                    self.target.url.rstrip("/") + path,
                    data=raw or None,
                    headers=headers,
                    skip_auto_headers=("Content-Type", "Accept", "User-Agent"),
                    allow_redirects=False,
                    ssl=True if self.target.trust is None else self.target.trust,
                ) as response,
            ):
                content = await response.content.read(MOST_BYTES)
        except TimeoutError:
            return nothing(f"nothing came within {limit_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return nothing(tls.words_of(error) or f"the connection failed: {error or type(error).__name__}")
        took_s = time.monotonic() - began
        try:
            body, is_json = parse(content), True
        except NotJson:
            body, is_json = None, False
        return Answer(call, response.status, content, body, is_json, took_s)

    def _headers(self, raw: bytes, username: str | None, authorization: str | None) -> dict[str, str]:
        headers = {} if authorization is None else {"Authorization": authorization}
        if self.target.generation is Generation.G2021:
            if raw:
                headers["Content-Type"] = "application/json; charset=UTF-8"
            if username is not None:
                headers["UCloud-Username"] = username
        else:
            headers["User-Agent"] = "Go-http-client/1.1"
            if username is not None:
                headers["Ucloud-Username"] = base64.b64encode(username.encode()).decode()
        return headers | {"Accept-Encoding": "gzip"}
