"""Deliveries between a fake event log and a fake Core, in a time that passes as fast as it is slept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from serai_gateway.codec import Codec
from serai_gateway.control.calls import Calls
from serai_gateway.control.client import CoreClient
from serai_gateway.control.deliveries import Deliveries
from serai_gateway.settings import CoreSettings
from serai_gateway.tokens import Tokens

from fakes.gateway_core import FakeCore
from fakes.gateway_events import FakeEventLog

CODEC = Codec()


class LeapingClock:
    """Whoever sleeps is awake at once, and that much time has passed."""

    def __init__(self) -> None:
        self.time_ms = 1_700_000_000_000
        self.slept_ms: list[int] = []

    def now_ms(self) -> int:
        return self.time_ms

    async def sleep(self, seconds: float) -> None:
        self.slept_ms.append(round(seconds * 1000))
        self.time_ms += round(seconds * 1000)
        await asyncio.sleep(0)


def make(log: FakeEventLog, core: FakeCore, token_file: Path, **options: int) -> Deliveries:
    files = CoreSettings(url="http://core", public_key_file="unused", refresh_token_file=str(token_file))
    core_settings = msgspec.structs.replace(files, **options)
    tokens = Tokens(core, CODEC, token_file, core.clock)
    return Deliveries(
        log, CoreClient(Calls(core, tokens), CODEC, core.generation, core.clock), core_settings, core.clock, random=lambda: 0.5
    )


@asynccontextmanager
async def delivering(log: FakeEventLog, core: FakeCore, token_file: Path, **options: int) -> AsyncGenerator[Deliveries]:
    deliveries = make(log, core, token_file, **options)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(deliveries.run())
        yield deliveries
        deliveries.stop()


async def deliver_all(log: FakeEventLog, core: FakeCore, token_file: Path, **options: int) -> None:
    async with delivering(log, core, token_file, **options):
        await log.until_settled()
