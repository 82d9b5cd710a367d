"""The money of licenses on a real store with the real event log: nothing runs by itself, and Core's answers are the test's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import LicenseUpdate
from serai_server.events.log import EventLog
from serai_server.licenses.charges import Charging
from serai_server.licenses.payments import LicensePayments
from serai_server.licenses.ports import Reach, Standing, Status
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.provider import LicensesOfCore
from serai_server.licenses.service import LicensesService
from serai_server.licenses.settled import LicenseSettlements
from serai_server.licenses.states import LicenseStates
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import StoredLicense
from serai_server.store.model import CORE, EventSettlement, Outcome, StoredEvent
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

from fakes.clock import FakeClock
from fakes.licensed import license_message

SOLVER = LicenseProduct("solver", "licenses", "example", price=7)
MESHER = LicenseProduct("mesher", "licenses", "example", price=9)
FREE = LicenseProduct("free", "licenses", "example")


class UpServers:
    """ports.LicenseServers of which all are up unless a test says otherwise."""

    def __init__(self) -> None:
        self.standing = Standing.UP

    def status(self, product: str) -> Status:
        del product
        return Status(self.standing)

    def seats(self, product: str) -> None:
        del product

    def limits(self) -> Mapping[str, int | None]:
        return {}

    def capacities(self) -> Mapping[str, int]:
        return {}

    async def has_key(self, product: str) -> bool:
        del product
        return False

    async def reach(self, product: str) -> Reach:
        return Reach(((product, 27_000),), b"")

    def look_soon(self, product: str) -> None:
        """Nobody looks here."""

    def on_change(self, told: Callable[[str], None]) -> None:
        """Nothing changes by itself."""


class Money:
    """One process on a store; another one on the same store is its next start."""

    def __init__(self, store: SqlStore, clock: FakeClock, *, today: bool, licenses: LicenseStore | None = None) -> None:
        """`licenses` in the place of the store's own, to pass it on with faults."""
        self.store, self.clock = store, clock
        self.licenses = licenses or store.licenses
        self.servers = UpServers()
        catalog, charging, wall = LicenseCatalog((SOLVER, MESHER, FREE)), Charging(repeats=today), clock.now_ms
        self.states = LicenseStates(
            store=self.licenses,
            catalog=catalog,
            servers=self.servers,
            charging=charging,
            clock=clock,
            wall=wall,
            moved=lambda _product, _state: None,
        )
        look = self.states.look
        self.of_core = LicensesOfCore(store=self.licenses, catalog=catalog, look=look, wall=wall)
        self.service = LicensesService(store=self.licenses, catalog=catalog, look=look, wall=wall, register_at_core=True)
        self.settlements = LicenseSettlements(store=self.licenses, catalog=catalog, charging=charging, wall=wall, look=look)
        self.log = EventLog(store, clock, licenses=self.settlements)
        self.payments = LicensePayments(store=self.licenses, catalog=catalog, charging=charging, wall=wall, look=look)

    async def bought(self, *ids: str, product: LicenseProduct = SOLVER) -> None:
        """Core made them."""
        await self.of_core.create([license_message(i, "alice", product=product) for i in ids])

    async def passes(self, hours: float = 0) -> float:
        """Time passes, and then a pass over all licenses; when the next one is wanted, in seconds."""
        self.clock.move(int(hours * 3_600_000))
        return await self.states.run_once()

    async def unsettled(self, kind: str = "") -> list[StoredEvent]:
        events = await self.store.events(CORE, 0, 1_000)
        return [e for e in events if not kind or Event.FromString(e.body).WhichOneof("change") == kind]

    async def charges(self) -> list[str]:
        """Ids of charges that Core has not answered."""
        return [Event.FromString(e.body).charge.charge_id for e in await self.unsettled("charge")]

    async def answer(self, outcome: Outcome, detail: str = "", kind: str = "charge", core_id: str = "") -> None:
        """Core answers what it was told of this kind, and takes everything else as it is. Handed out as the gateway has it."""
        if not await self.unsettled():
            return
        stream = self.log.subscribe(CORE)
        async with contextlib.aclosing(stream):
            for event in await anext(stream):
                of_kind = Event.FromString(event.body).WhichOneof("change") == kind
                settled = (outcome, detail, 0, core_id) if of_kind else (Outcome.DELIVERED, "", 0, "")
                await self.log.acknowledge(CORE, [EventSettlement(event.sequence, *settled)])

    async def rest(self) -> None:
        """Core takes all that there is but charges."""
        told = [e for e in await self.unsettled() if Event.FromString(e.body).WhichOneof("change") != "charge"]
        await self.log.acknowledge(CORE, [EventSettlement(e.sequence, Outcome.DELIVERED, "", 0) for e in told])

    async def row(self, license_id: str = "5123") -> StoredLicense:
        found = await self.store.licenses.license(license_id)
        assert found is not None
        return found

    async def lines(self, license_id: str = "5123") -> list[str]:
        """Words of its history."""
        return [LicenseUpdate.FromString(line).status for line in (await self.store.licenses.history([license_id], 100))[license_id]]


@contextlib.asynccontextmanager
async def money(folder: Path, *, today: bool) -> AsyncGenerator[Money]:
    async with open_store(f"sqlite:///{folder / 'serai.db'}", lambda _: None) as store:
        await store.register_consumer(CORE, from_now=False)
        made = Money(store, FakeClock(), today=today)
        await made.log.load()
        yield made
