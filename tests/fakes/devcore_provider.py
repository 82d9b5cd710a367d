"""A provider that answers the stand-in for Core what it is told to, and remembers what it heard: to test the stand-in with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from serai_devcore import DevCore, Generation, Settings
from serai_devcore.tokens import PrivateKey
from serai_devcore.wire import JsonObject, parse, read_items

from fakes.devcore_time import StillClock

G2021, G2026 = Generation.G2021, Generation.G2026


@dataclass
class Heard:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def items(self) -> list[JsonObject]:
        return read_items(parse(self.body))


@dataclass
class PlainProvider:
    """A provider that answers what it is told to, and remembers what it heard."""

    answers: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    heard: list[Heard] = field(default_factory=list[Heard])
    on_call: Callable[[], None] = lambda: None
    never: asyncio.Event | None = None
    url: str = ""

    async def serve(self, request: web.Request) -> web.Response:
        self.heard.append(Heard(request.method, request.path, dict(request.headers), await request.read()))
        self.on_call()
        if self.never is not None:
            await self.never.wait()
        init = request.path.endswith("/integration/init")
        status, body = (200, b"{}") if init else self.answers.pop(0) if self.answers else (200, b'{"responses":[null]}')
        return web.Response(status=status, body=body)


@asynccontextmanager
async def both(
    key: PrivateKey,
    generation: Generation = G2021,
    *,
    clock: StillClock | None = None,
    timeout_s: float = 5.0,
    check_support: bool = False,
    poll_every_ms: int = 0,
) -> AsyncGenerator[tuple[DevCore, PlainProvider]]:
    provider = PlainProvider()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        settings = Settings(generation=generation, provider_timeout_s=timeout_s, check_support=check_support, poll_every_ms=poll_every_ms)
        async with DevCore(settings, clock) as core:
            core.add_provider("example", url=provider.url, key=key)
            yield core, provider
    finally:
        if provider.never is not None:
            provider.never.set()
        await runner.cleanup()


def lowered(heard: Heard) -> dict[str, str]:
    return {name.lower(): value for name, value in heard.headers.items()}
