"""Core of 2021 as far as a registration goes (facts 2021 §6.2, §6.3): approval is asked for, signed, approved; the welcome; tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from fakes.gateway_tokens import key, sign, spki


@dataclass
class Approval:
    specification: dict[str, Any]
    signed: bool = False


@dataclass
class RegisteringCore:
    """Keys are by name, so that a test can tell pairs apart."""

    takes_requests: bool = True
    """False: as today's Core, which has no such call."""
    url: str = ""
    approvals: dict[str, Approval] = field(default_factory=dict)
    providers: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Refresh token to provider and name of its key."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Callable[[], web.Response | None] = lambda: None
    """In place of the answer to a request for approval."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[RegisteringCore]:
        app = web.Application()
        app.router.add_post("/auth/providers/refresh", self._refresh)
        if self.takes_requests:
            app.router.add_post("/api/providers/requestApproval", self._request)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def add_provider(self, provider: str, refresh_token: str, key_name: str) -> None:
        """As an administrator does by hand."""
        self.providers[refresh_token] = (provider, key_name)

    async def approve(self, token: str, refresh_token: str = "fresh-token", key_name: str = "pair") -> tuple[int, Any]:
        """Sign, approve, welcome the provider; what it answered. Only a 2xx makes it a provider."""
        specification = self.approvals[token].specification
        created = {"refreshToken": refresh_token, "publicKey": spki(key(key_name)).decode()}
        port = specification["port"]
        url = f"{'https' if specification['https'] else 'http'}://{specification['domain']}:{port}"
        path = f"/ucloud/{specification['id']}/integration/welcome"
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(url + path, json={"token": token, "createdProvider": created}) as response,
        ):
            answer = await response.json()
            if 200 <= response.status < 300:
                self.add_provider(specification["id"], refresh_token, key_name)
            return response.status, answer

    async def _request(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        body = await request.json()
        assert body["type"] == "information"
        instead = self.answer()
        if instead is not None:
            return instead
        token = f"approval-{len(self.approvals)}"
        self.approvals[token] = Approval(body["specification"])
        self.asked.set()
        return web.json_response({"type": "requires_signature", "token": token})

    async def _refresh(self, request: web.Request) -> web.Response:
        items = json.loads(await request.read())["items"]
        found = self.providers.get(items[0]["refreshToken"])
        if found is None:
            return web.json_response({"why": "Forbidden"}, status=403)
        provider, key_name = found
        now_s = int(time.time())
        claims = {"sub": f"#P_{provider}", "role": "PROVIDER", "iss": "cloud.sdu.dk", "iat": now_s, "exp": now_s + 600, "aud": "all:write"}
        return web.json_response({"responses": [{"accessToken": sign(claims, key(key_name))}]})
