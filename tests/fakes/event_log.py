"""Store and event log of a test, wired as the composition root wires them."""

from __future__ import annotations

from serai_server.events.log import EventLog
from serai_server.store.model import Committed, EventSettlement, Outcome, StoredEvent
from serai_server.store.sql_store import SqlStore

from fakes.clock import FakeClock
from fakes.store_rows import new_job


class Server:
    def __init__(self) -> None:
        self.store: SqlStore
        self.log: EventLog
        self.clock = FakeClock()

    def told(self, changes: list[Committed]) -> None:
        for change in changes:
            self.log.notify(change.last_event)

    async def create(self, *ids: str) -> None:
        await self.store.create_jobs([new_job(i) for i in ids])

    async def settle(self, *sequences: int, outcome: Outcome = Outcome.DELIVERED, consumer: str = "core") -> None:
        await self.log.acknowledge(consumer, [EventSettlement(s, outcome, "", self.clock.now_ms()) for s in sequences])


def sequences(events: list[StoredEvent]) -> list[int]:
    return [e.sequence for e in events]
