"""All of the server that a gateway needs, in memory: an event log, jobs with output, sessions with shells; and a gateway in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from serai_gateway.gateway import Gateway
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings

from fakes.gateway_events import FakeEventLog
from fakes.gateway_logs import FakeLogs
from fakes.gateway_tokens import claims, key, pem, sign


@dataclass
class WholeServer(FakeLogs):
    """An Exchanging for a Gateway."""

    events: FakeEventLog = field(default_factory=FakeEventLog)

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method.startswith("/serai.events."):
            return await self.events.unary(method, request, metadata, timeout_s)
        return await super().unary(method, request, metadata, timeout_s)

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        source = (
            self.events.stream(method, request, metadata)
            if method.startswith("/serai.events.")
            else super().stream(method, request, metadata)
        )
        async with aclosing(cast("AsyncGenerator[bytes]", source)) as answers:
            async for answer in answers:
                yield answer


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway on a port of this machine."""

    port: int
    server: WholeServer

    def bearer(self) -> str:
        """A token of Core."""
        return sign(claims(int(time.time() * 1_000)), key())


@asynccontextmanager
async def served(folder: Path, server: WholeServer, settings: GatewaySettings | None = None) -> AsyncGenerator[Served]:
    """No Core is there: nothing is delivered. `settings` None = on any port."""
    (folder / "core.pem").write_bytes(pem(key()))
    (folder / "refresh").write_text("x")
    made = Settings(
        provider=ProviderSettings(id="example", aliases=("ucloud",)),
        gateway=settings or GatewaySettings(port=0, access_log=False, stop_grace_ms=1_000),
        core=CoreSettings(
            url="http://127.0.0.1:9", public_key_file="core.pem", refresh_token_file="refresh", reconcile_every_ms=0
        ).relative_to(folder),
    )
    async with asyncio.timeout(100), Gateway(made, server) as gateway:
        yield Served(gateway.port, server)
