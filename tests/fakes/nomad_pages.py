"""A web server that answers as a test says, in Nomad's words where the test has them; and settings that lead to it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web
from serai_backends.nomad.settings import NomadSettings


def settings(address: str = "", *, timeout_ms: int = 5_000, token_file: str = "", ca_cert: str = "") -> NomadSettings:
    return NomadSettings(
        state_dir="/nowhere/state",
        provider="test",
        drives_dir="/nowhere/drives",
        address=address,
        timeout_ms=timeout_ms,
        token_file=token_file,
        ca_cert=ca_cert,
    )


@dataclass
class Pages:
    """What was asked, and what is answered."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    address: str = ""
    asked: list[web.Request] = field(default_factory=list[web.Request])
    bodies: list[bytes] = field(default_factory=list[bytes])

    def says(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=text, headers=headers)

        self.answer = answer


async def _nothing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404)


@asynccontextmanager
async def serve(*, tls: ssl.SSLContext | None = None, socket: str = "") -> AsyncGenerator[Pages]:
    pages = Pages(_nothing)

    async def handle(request: web.Request) -> web.StreamResponse:
        pages.asked.append(request)
        pages.bodies.append(await request.read())
        return await pages.answer(request)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        if socket:
            await web.UnixSite(runner, socket).start()
            pages.address = f"unix://{socket}"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            port = cast("tuple[str, int]", runner.addresses[0])[1]
            pages.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield pages
    finally:
        await runner.cleanup()
