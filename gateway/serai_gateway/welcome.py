"""The gateway before it has Core's key: it takes Core's welcome, shows who it is, and refuses everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from google.rpc import code_pb2

from serai_gateway.app import App
from serai_gateway.auth import AuthError
from serai_gateway.codec import Codec
from serai_gateway.gateway import EmbeddedServer
from serai_gateway.listeners import listeners
from serai_gateway.settings import Settings
from serai_gateway.upstream import UpstreamError, status


class _NoKeyYet:
    """A Check that nobody passes."""

    def check(self, authorization: bytes | None) -> None:
        raise AuthError("Unauthorized: this provider is being registered and has no key of Core yet")


class _NoServer:
    """An Upstream that is never there; only /readyz asks it."""

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        raise UpstreamError(status(code_pb2.UNAVAILABLE, "this provider is being registered"))

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        raise UpstreamError(status(code_pb2.UNAVAILABLE, "this provider is being registered"))
        yield b""


@asynccontextmanager
async def listening_for_welcome(settings: Settings, codec: Codec) -> AsyncGenerator[int]:
    """Listens where the gateway does; the TCP port. OSError when it cannot be had, which is so while the gateway itself runs."""
    http = settings.gateway
    with listeners(http) as ways:
        app = App(settings, codec, _NoServer(), _NoKeyYet(), None)
        server = EmbeddedServer(app, grace_s=http.stop_grace_ms / 1_000, request_timeout_s=http.request_timeout_ms / 1_000)
        serving = asyncio.create_task(server.serve(ways.sockets))
        try:
            await server.wait_started(serving)
            yield ways.port
        finally:
            # The answer to the welcome is on its way when its files are there: requests in flight end first.
            await server.stop(serving)
