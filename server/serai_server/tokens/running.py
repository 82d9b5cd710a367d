"""The parts of identity, put together and kept running beside the server's core.

When a token was used last is noted to the day, in memory; the store is told within seconds, and when the server stops. After kill -9 the
first use of a day may not be told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import structlog

from serai_server.clock import Clock
from serai_server.store.api import Store, StoreError
from serai_server.tokens.certificates import Certificates, Client
from serai_server.tokens.registry import Registry
from serai_server.tokens.service import TokensService

log = structlog.get_logger("serai.tokens")

LOOK_S = 2.0
"""Seconds between two looks; what is refused does not wait for it, only streams that are open."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What `running_tokens` runs."""

    service: TokensService
    registry: Registry
    certificates: Certificates


@contextlib.asynccontextmanager
async def running_tokens(*, registry: Registry, store: Store, clients: Sequence[Client], clock: Clock) -> AsyncGenerator[Tokens]:
    """Tokens of the store, loaded and looked after. `registry` is fed by the store's listener. Raises StoreError."""
    registry.load(await store.tokens.all())
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_look(registry, store, clock))
        try:
            yield Tokens(TokensService(store, clock, registry.doubt), registry, Certificates(clients))
        finally:
            looking.cancel()
            await _write_down(registry, store)


async def _look(registry: Registry, store: Store, clock: Clock) -> None:
    while True:
        await _load_again(registry, store)
        registry.look(clock.now_ms())
        await _write_down(registry, store)
        await clock.sleep(LOOK_S)


async def _load_again(registry: Registry, store: Store) -> None:
    if not registry.in_doubt:
        return
    registry.in_doubt = False
    try:
        registry.load(await store.tokens.all())
    except StoreError as error:
        registry.doubt()
        log.warning("tokens.in_doubt", why=str(error))


async def _write_down(registry: Registry, store: Store) -> None:
    used = registry.take_used()
    if not used:
        return
    try:
        await store.tokens.used(used)
    except StoreError as error:
        registry.give_back(used)
        log.warning("tokens.use_not_noted", why=str(error))
