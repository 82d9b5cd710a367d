"""How a provider becomes known: asking, signing, approving and the welcome of 2021; the administrator's call of 2026."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from fakes.devcore_time import StillClock
from serai_devcore import DevCore, Generation, Settings
from serai_devcore.registration import registered_at, url_of
from serai_devcore.wire import Json, JsonObject, dig

G2021, G2026 = Generation.G2021, Generation.G2026
REQUEST, APPROVE = "/api/providers/requestApproval", "/api/providers/approve"


@dataclass
class NewProvider:
    """A provider that nobody knows yet: it waits for its welcome."""

    status: int = 200
    heard: list[tuple[str, dict[str, str], JsonObject]] = field(default_factory=list[tuple[str, dict[str, str], JsonObject]])
    port: int = 0

    async def serve(self, request: web.Request) -> web.Response:
        self.heard.append((request.path, dict(request.headers), cast("JsonObject", await request.json())))
        return web.json_response({"why": "Not mine"} if self.status >= 400 else {}, status=self.status)

    @property
    def specification(self) -> JsonObject:
        return {"id": "example", "domain": "127.0.0.1", "https": False, "port": self.port}


@dataclass
class Both:
    core: DevCore
    provider: NewProvider
    clock: StillClock
    session: aiohttp.ClientSession

    async def call(
        self, path: str, body: Json = None, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, JsonObject]:
        async with self.session.request(method, self.core.url + path, json=body, headers=headers) as answer:
            return answer.status, cast("JsonObject", await answer.json())

    async def ask(self) -> str:
        status, answer = await self.call(REQUEST, {"type": "information", "specification": self.provider.specification})
        assert (status, answer["type"]) == (200, "requires_signature")
        return str(answer["token"])


@asynccontextmanager
async def unknown(generation: Generation = G2021) -> AsyncGenerator[Both]:
    """A Core that knows no provider, and a provider that would like to be known."""
    provider, clock = NewProvider(), StillClock()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.port = int(runner.addresses[0][1])
        async with DevCore(Settings(generation=generation), clock) as core, aiohttp.ClientSession() as session:
            yield Both(core, provider, clock, session)
    finally:
        await runner.cleanup()


async def test_a_provider_asks_is_signed_approved_and_greeted() -> None:
    """2021 §6.3, §0.2 #15: information, sign, approve; the welcome has no Authorization, and its secrets work at once."""
    async with unknown() as both:
        token = await both.ask()
        assert await both.call(REQUEST, {"type": "sign", "token": token}) == (200, {"type": "awaiting_admin_approval", "token": token})
        status, answer = await both.call(APPROVE, {"token": token})
        assert status == 200
        assert str(answer["id"]).isdecimal()
        ((path, headers, welcome),) = both.provider.heard
        assert path == "/ucloud/example/integration/welcome"
        assert "Authorization" not in headers
        assert welcome["token"] == token
        created = welcome["createdProvider"]
        issuer = both.core.providers["example"].issuer
        assert created == {"refreshToken": issuer.refresh_token, "publicKey": issuer.public_key_der_base64}
        status, answer = await both.call("/auth/providers/refresh", {"items": [{"refreshToken": issuer.refresh_token}]})
        assert status == 200
        assert issuer.accepts(str(dig(cast("list[Json]", answer["responses"])[0], "accessToken")))
        assert (await both.call(APPROVE, {"token": token}))[0] == 400
        exchanges = both.core.requests.find()
        assert issuer.refresh_token not in repr(exchanges)
        assert token not in repr(exchanges)


async def test_a_person_can_play_it_through() -> None:
    """The same by /devcore/: the list shows who asks; sign and approve take the token from it."""
    async with unknown() as both:
        token = await both.ask()
        _, listed = await both.call("/devcore/providers", method="GET")
        asked: JsonObject = {"token": token, "state": "requires_signature", "specification": both.provider.specification}
        assert listed == {"providers": [], "registrations": [asked]}
        assert (await both.call(f"/devcore/registrations/{token}/sign"))[1]["type"] == "awaiting_admin_approval"
        status, answer = await both.call(f"/devcore/registrations/{token}/approve")
        assert status == 200
        _, found = await both.call(f"/devcore/providers/{answer['id']}", method="GET")
        assert found["specification"] == both.provider.specification
        assert found["refreshToken"] == both.core.providers["example"].issuer.refresh_token


async def test_what_is_out_of_order_is_a_400() -> None:
    """2021 §6.3: unknown, expired after 5 min, signed already; not signed yet."""
    async with unknown() as both:
        assert (await both.call(REQUEST, {"type": "sign", "token": "guess"}))[0] == 400
        assert (await both.call(APPROVE, {"token": "guess"}))[0] == 400
        token = await both.ask()
        assert (await both.call(APPROVE, {"token": token}))[0] == 400
        assert both.provider.heard == []
        assert (await both.call(REQUEST, {"type": "sign", "token": token}))[0] == 200
        assert (await both.call(REQUEST, {"type": "sign", "token": token}))[0] == 400
        late = await both.ask()
        both.clock.now += 5 * 60_000 + 1
        assert (await both.call(REQUEST, {"type": "sign", "token": late}))[0] == 400


async def test_a_provider_that_refuses_its_welcome_is_not_known() -> None:
    """2021 §6.3 step 4: approve fails with 400; it can be tried again."""
    async with unknown() as both:
        token = await both.ask()
        await both.call(REQUEST, {"type": "sign", "token": token})
        both.provider.status = 403
        status, answer = await both.call(APPROVE, {"token": token})
        assert status == 400
        assert "it answered 403 Not mine" in str(answer["why"])
        assert both.core.providers == {}
        both.provider.status = 200
        assert (await both.call(APPROVE, {"token": token}))[0] == 200
        again = await both.ask()
        await both.call(REQUEST, {"type": "sign", "token": again})
        assert (await both.call(APPROVE, {"token": again}))[0] == 409


@pytest.mark.parametrize(
    "change", [{"https": "yes"}, {"domain": ""}, {"domain": "a/b"}, {"id": 7}, {"port": 70000}, {"port": "80"}, {"id": None}]
)
async def test_a_bad_specification_is_a_400(change: JsonObject) -> None:
    """2021 §7: undecodable bodies."""
    async with unknown() as both:
        body: JsonObject = {"type": "information", "specification": both.provider.specification | change}
        assert (await both.call(REQUEST, body))[0] == 400
        assert (await both.call(REQUEST, {"type": "other"}))[0] == 400
        assert len(both.core.registrations) == 0


async def test_a_web_page_may_not_register() -> None:
    async with unknown() as both:
        body: JsonObject = {"type": "information", "specification": both.provider.specification}
        assert (await both.call(REQUEST, body, headers={"Origin": "http://evil.example"}))[0] == 403


async def test_an_administrator_of_today_creates_and_reads() -> None:
    """today §2 steps 6 and 7: id, secrets and specification; 409 for a known name; the flow of 2021 is not there."""
    async with unknown(G2026) as both:
        status, made = await both.call("/devcore/providers", both.provider.specification)
        assert status == 200
        issuer = both.core.providers["example"].issuer
        assert (made["refreshToken"], made["publicKey"]) == (issuer.refresh_token, issuer.public_key_der_base64)
        assert await both.call(f"/devcore/providers/{made['id']}", method="GET") == (200, made)
        assert (await both.call("/devcore/providers", both.provider.specification))[0] == 409
        assert (await both.call("/devcore/providers/none", method="GET"))[0] == 404
        assert (await both.call(REQUEST, {"type": "information", "specification": both.provider.specification}))[0] == 404
    async with unknown(G2021) as both:
        assert (await both.call("/devcore/providers", both.provider.specification))[0] == 404


@pytest.mark.parametrize(
    ("https", "domain", "port", "url"),
    [
        (True, "a.example", None, "https://a.example"),
        (True, "a.example", 443, "https://a.example"),
        (False, "127.0.0.1", 8889, "http://127.0.0.1:8889"),
        (False, "::1", 80, "http://[::1]"),
    ],
)
def test_a_providers_address(https: bool, domain: str, port: int | None, url: str) -> None:
    """today §3: default ports are omitted; §2: the domain may be an address."""
    assert url_of({"id": "x", "domain": domain, "https": https, "port": port}) == url
    assert url_of(registered_at("x", url)) == url
