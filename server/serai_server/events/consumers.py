"""Which consumers there are. Subscribing makes one, and nothing else; each keeps what it has not settled from being dropped, so there are
not any number of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serai_server.errors import InvalidRequest, TooManyConsumers
from serai_server.store.api import Store
from serai_server.store.model import CORE, EventSettlement

MOST = 100
"""Consumers besides Core's."""


class Consumers:
    def __init__(self, store: Store, most: int = MOST) -> None:
        self._store = store
        self._most = most
        self._known: frozenset[str] = frozenset()
        """As far as they were asked for; this process alone makes them, and none goes."""
        self._one_by_one = asyncio.Lock()

    async def register(self, consumer: str, *, from_now: bool) -> None:
        """Make it known; see Store.register_consumer. Raises TooManyConsumers and StoreUnavailable."""
        async with self._one_by_one:
            if consumer != CORE and not await self._is_known(consumer) and len(self._known - {CORE}) >= self._most:
                text = f"there are {self._most} consumers of events, and more there may not be: use one of those"
                raise TooManyConsumers(text, field="consumer")
            await self._store.register_consumer(consumer, from_now=from_now)
            self._known |= {consumer}

    async def check(self, consumer: str, settlements: Sequence[EventSettlement]) -> None:
        """Raises InvalidRequest for one that never subscribed, and for what is no event yet; and StoreUnavailable."""
        if not await self._is_known(consumer):
            raise InvalidRequest(f"no consumer {consumer!r} is known here; Subscribe makes it", field="consumer")
        last = await self._store.last_event()
        for index, settlement in enumerate(settlements):
            if not 1 <= settlement.sequence <= last:
                text = f"no event {settlement.sequence} has happened; expected the sequence of one that was received"
                raise InvalidRequest(text, field=f"settlements[{index}].sequence")

    async def _is_known(self, consumer: str) -> bool:
        if consumer not in self._known:
            self._known = await self._store.consumers()
        return consumer in self._known
