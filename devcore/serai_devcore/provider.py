"""Core's side of the calls into a provider: address, headers of each generation, time-out, and the repeat after 449 and 503.

facts 2021 §1, §1.3, §6.5; today §3, §6.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import cast

import aiohttp

from serai_devcore.clock import Clock
from serai_devcore.records import Direction, Recorder
from serai_devcore.tokens import TokenIssuer
from serai_devcore.wire import Generation, Json, JsonObject, dig_text, dump

JSON_2021 = "application/json; charset=UTF-8"
REPEAT_ON = frozenset({449, 503})
ATTEMPTS = {Generation.G2021: 5, Generation.G2026: 6}
PAUSE_S = {Generation.G2021: 0.2, Generation.G2026: 0.5}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said."""

    status: int
    """0 = nothing: refused, cut or too late."""
    body: Json
    """None = no body, or not JSON."""
    raw: bytes
    problem: str = ""
    """Why there is no answer, in words."""

    @property
    def accepted(self) -> bool:
        """2xx with a JSON object."""
        return 200 <= self.status < 300 and isinstance(self.body, dict)

    @property
    def why(self) -> str:
        return self.problem or dig_text(self.body, "why")


@dataclass(slots=True)
class Provider:
    """A registered provider: name, keys, and where it listens."""

    id: str
    issuer: TokenIssuer
    url: str
    """`http://127.0.0.1:8889`; empty = not known yet."""
    path_name: str = ""
    """The name in its paths, where that is not its id (the seed's curl says `ucloud` for `example`)."""
    resource_id: str = ""
    """Core's own number for it."""
    specification: JsonObject = field(default_factory=dict[str, Json])
    """`id`, `domain`, `https`, `port`, as it was registered."""

    @property
    def base(self) -> str:
        return f"/ucloud/{self.path_name or self.id}"


class ProviderClient:
    """Calls a provider as Core does."""

    def __init__(self, session: aiohttp.ClientSession, generation: Generation, recorder: Recorder, clock: Clock, timeout_s: float) -> None:
        self._session = session
        self._generation = generation
        self._recorder = recorder
        self._clock = clock
        self._timeout_s = timeout_s

    async def call(
        self,
        provider: Provider,
        method: str,
        path: str,
        body: Json | bytes = None,
        *,
        username: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One call, with `path` below the provider's base ("/jobs/terminate"). A user's call is repeated after 449 and 503, with
        `integration/init` in between. Never raises for what the provider does."""
        raw = body if isinstance(body, bytes) else b"" if body is None else dump(body)
        attempts = ATTEMPTS[self._generation] if username is not None else 1
        for attempt in range(1, attempts + 1):
            answer = await self._once(provider, method, path, raw, self._headers(provider, raw, username) | (headers or {}))
            if answer.status not in REPEAT_ON or attempt == attempts:
                return answer
            init = dump({"username": username})
            # Captured of 2026: the init names its user in a header too.
            named = username if self._generation is Generation.G2026 else None
            started = await self._once(provider, "POST", "/integration/init", init, self._headers(provider, init, named))
            if self._generation is Generation.G2021 and not 200 <= started.status < 300:
                return answer
            await self._clock.sleep(PAUSE_S[self._generation])
        raise AssertionError("unreachable: the last attempt returns")

    async def call_once(
        self, provider: Provider, method: str, path: str, body: Json = None, *, username: str | None = None, anonymous: bool = False
    ) -> Answer:
        """One call and no repetition. `anonymous` = without a token."""
        raw = b"" if body is None else dump(body)
        headers = self._headers(provider, raw, username)
        if anonymous:
            del headers["Authorization"]
        return await self._once(provider, method, path, raw, headers)

    async def _once(self, provider: Provider, method: str, path: str, raw: bytes, headers: dict[str, str]) -> Answer:
        full = provider.base + path
        at_ms = self._clock.now_ms()
        answer = await self._send(provider, method, full, raw, headers)
        path_only, _, query = full.partition("?")
        self._recorder.add(
            at_ms=at_ms,
            direction=Direction.TO_PROVIDER,
            method=method,
            path=path_only,
            query=query,
            headers=headers,
            body=raw,
            status=answer.status,
            answer=answer.raw,
            note=answer.problem,
        )
        return answer

    async def _send(self, provider: Provider, method: str, path: str, raw: bytes, headers: dict[str, str]) -> Answer:
        if not provider.url:
            return Answer(0, None, b"", f"the address of provider {provider.id} is not known")
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.request(
                    method,
                    provider.url.rstrip("/") + path,
                    data=raw or None,
                    headers=headers,
                    skip_auto_headers=("Content-Type", "Accept", "User-Agent"),
                    allow_redirects=False,
                ) as response,
            ):
                answer = await response.read()
        except TimeoutError:
            return Answer(0, None, b"", f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(0, None, b"", f"the provider cannot be reached: {error}")
        return Answer(response.status, _json_or_none(answer), answer)

    def _headers(self, provider: Provider, raw: bytes, username: str | None) -> dict[str, str]:
        """Exactly what each generation sends beside Host, Content-Length and Accept-Encoding."""
        headers = {"Authorization": f"Bearer {provider.issuer.core_token()}"}
        if self._generation is Generation.G2021:
            if raw:
                headers["Content-Type"] = JSON_2021
            if username is not None:
                headers["UCloud-Username"] = username
        else:
            headers["User-Agent"] = "Go-http-client/1.1"
            if username is not None:
                headers["Ucloud-Username"] = base64.b64encode(username.encode()).decode()
        headers["Accept-Encoding"] = "gzip"
        return headers


def items_body(*items: JsonObject) -> JsonObject:
    return {"items": list(items)}


def _json_or_none(raw: bytes) -> Json:
    try:
        return cast("Json", json.loads(raw))
    except (ValueError, RecursionError):
        return None
