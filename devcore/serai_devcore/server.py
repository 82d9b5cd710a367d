"""The HTTP side: Core's calls for providers, and below /devcore/ those that steer the stand-in.

One path for each call: read the body, let a fault have it, check the token, do it, keep a record, wake those who wait.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web

from serai_devcore.admin import Admin
from serai_devcore.control import Call, ControlCalls
from serai_devcore.faults import Away, Effect, Fault
from serai_devcore.records import Direction
from serai_devcore.tokens import refused_token, subject_provider, unknown_refresh_token
from serai_devcore.wire import CoreError, Generation, Json, JsonObject, dump, parse, read_items, text

if TYPE_CHECKING:
    from serai_devcore.core import DevCore

BODY_LIMIT = 16 * 1024 * 1024
GARBAGE = b"<html><body>502 Bad Gateway</body></html>"


class HttpSide:
    """Listens on loopback inside its context."""

    def __init__(self, core: DevCore) -> None:
        self._core = core
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._port = core.settings.port
        self._present = asyncio.Event()
        self._present.set()
        self._unhang = asyncio.Event()
        self._control = ControlCalls(core)

    @property
    def url(self) -> str:
        host = self._core.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=BODY_LIMIT)
        Admin(self._core).add_routes(app)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._listen(self._runner)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._present.set()
        self.clear_faults()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        self._site = web.TCPSite(runner, self._core.settings.host, self._port, reuse_address=True)
        await self._site.start()
        # Port 0 becomes a real one, and stays it when Core comes back.
        self._port = int(runner.addresses[0][1])

    async def go_away(self, how: Away) -> None:
        if how is Away.HANG:
            self._present.clear()
            return
        if self._site is None or self._runner is None:
            return
        site, self._site = self._site, None
        await site.stop()
        server = self._runner.server
        for connection in list(server.connections) if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def come_back(self) -> None:
        self._present.set()
        if self._site is None and self._runner is not None:
            await self._listen(self._runner)

    def clear_faults(self) -> None:
        """No fault is in force any more, and calls that hang go on."""
        self._core.faults.clear()
        self._unhang.set()
        self._unhang = asyncio.Event()

    # --- one call ---------------------------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        at_ms = self._core.clock.now_ms()
        hung = not self._present.is_set()
        await self._present.wait()
        fault = self._core.faults.take(request.path)
        note = f"fault: {fault.effect.value}" if fault else "was away" if hung else ""
        status, answer = 0, b""
        try:
            outcome = await self._answer(request, body, fault)
            if outcome is None:
                return _cut(request)
            status, answer = outcome
            return web.Response(status=status, body=answer, content_type="application/json", charset="utf-8")
        finally:
            self._core.requests.add(
                at_ms=at_ms,
                direction=Direction.TO_CORE,
                method=request.method,
                path=request.path,
                query=request.query_string,
                headers=request.headers,
                body=body,
                status=status,
                answer=answer,
                note=note,
            )
            self._core.changed()

    async def _answer(self, request: web.Request, body: bytes, fault: Fault | None) -> tuple[int, bytes] | None:
        """Status and body; None = cut the connection."""
        if fault is not None:
            self._core.changed()
            await self._drag(fault)
            match fault.effect:
                case Effect.STATUS:
                    return fault.status, dump(CoreError(fault.status, fault.why).body(self._core.generation))
                case Effect.GARBAGE:
                    return 200, GARBAGE
                case Effect.DROP:
                    return None
                case _:
                    pass
        try:
            result = 200, dump(await self._do(request, body))
        except CoreError as error:
            result = error.status, dump(error.body(self._core.generation))
        return None if fault is not None and fault.effect is Effect.LOSE_ANSWER else result

    async def _drag(self, fault: Fault) -> None:
        if fault.effect is Effect.HANG:
            await self._unhang.wait()
        if fault.delay_ms:
            await self._core.clock.sleep(fault.delay_ms / 1000)

    async def _do(self, request: web.Request, body: bytes) -> JsonObject:
        route = (request.method, request.path)
        if route == ("POST", "/auth/providers/refresh"):
            return self._refresh(body)
        handler, provider = self._control.of_anybody.get(route), ""
        if handler is not None and "Origin" in request.headers:
            raise CoreError(403, "not from a web page")
        if handler is None:
            handler = self._control.of_providers.get(route)
            if handler is None:
                raise CoreError(404, "Not found")
            provider = self._caller(request.headers.get("Authorization", ""))
        result = handler(Call(provider, dict(request.query), body))
        return result if isinstance(result, dict) else await result

    def _caller(self, header: str) -> str:
        """The provider whose good token this is."""
        scheme, _, token = header.partition(" ")
        provider = self._core.providers.get(subject_provider(token)) if scheme == "Bearer" else None
        if provider is None or not provider.issuer.accepts(token):
            raise refused_token(self._core.generation)
        return provider.id

    # --- the calls --------------------------------------------------------------------------------------------------------------------

    def _refresh(self, body: bytes) -> JsonObject:
        """facts 2021 §6.2: no Authorization, the refresh token in the body."""
        responses: list[Json] = []
        for index, item in enumerate(read_items(parse(body))):
            candidate = text(item, "refreshToken", f"items[{index}]")
            issuers = [p.issuer for p in self._core.providers.values() if p.issuer.is_refresh_token(candidate)]
            if not issuers:
                raise unknown_refresh_token(self._core.generation)
            response: JsonObject = {"accessToken": issuers[0].access_token()}
            if self._core.generation is Generation.G2026:
                response["csrfToken"] = ""
            responses.append(response)
        return {"responses": responses}


def _cut(request: web.Request) -> web.StreamResponse:
    """The caller gets a closed connection and no byte."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
