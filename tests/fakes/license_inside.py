"""The use cases of licenses on a real store, one call at a time: nothing runs by itself, time and servers stand still until a test moves
them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from serai.core.v1.resources_pb2 import ResourceOwner
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import LicenseSpecification, LicenseUpdate, Maintenance, MaintenanceAvailability
from serai_server.errors import LicenseServerUnknown
from serai_server.licenses.access import Actor
from serai_server.licenses.charges import Charging
from serai_server.licenses.in_jobs import LicensesInJobs
from serai_server.licenses.ports import Reach, SeatPlan, Standing, Status
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.provider import LicensesOfCore
from serai_server.licenses.service import LicensesService
from serai_server.licenses.settled import LicenseSettlements
from serai_server.licenses.states import LicenseStates
from serai_server.store.api import Store
from serai_server.store.license_model import LicenseState, StoredLicense, StoredWindow
from serai_server.store.model import EventSettlement, Outcome, StoredEvent
from serai_server.store.open import open_store

from fakes.clock import FakeClock
from fakes.licensed import license_message, reference

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SOLVER = LicenseProduct("solver", "licenses", "example", "Acme solver", ("acme",), price=7)
MESHER = LicenseProduct("mesher", "licenses", "example", environment=("MESHER_FILE", "LM_LICENSE_FILE"))
VIEWER = LicenseProduct("viewer", "viewers", "other", key_file=False)
ALICE = Actor("alice")


class ScriptedServers:
    """ports.LicenseServers, as a test says. A product has no server until it is given one."""

    def __init__(self) -> None:
        self.standings: dict[str, Status] = {}
        self.reaches: dict[str, Reach | Exception] = {}
        self.configured: dict[str, SeatPlan] = {}
        self._told: list[Callable[[str], None]] = []

    def stands(self, product: LicenseProduct, standing: Standing, why: str = "") -> None:
        """From now on, and whoever wants to know is told."""
        self.standings[product.key] = Status(standing, why)
        for told in self._told:
            told(product.key)

    def serves(self, product: LicenseProduct, *addresses: tuple[str, int], key: bytes = b"", seats: SeatPlan | None = None) -> None:
        self.reaches[product.key] = Reach(addresses or (("lic1", 27_000),), key)
        self.configured[product.key] = seats or SeatPlan("", 0, per_replica=False)

    def status(self, product: str) -> Status:
        return self.standings.get(product, Status(Standing.NONE))

    def seats(self, product: str) -> SeatPlan | None:
        return self.configured.get(product)

    def limits(self) -> Mapping[str, int | None]:
        return {product: seats.seats if seats.feature else None for product, seats in self.configured.items()}

    def capacities(self) -> Mapping[str, int]:
        return {product: seats.seats for product, seats in self.configured.items() if seats.feature}

    async def has_key(self, product: str) -> bool:
        found = self.reaches.get(product)
        return isinstance(found, Reach) and bool(found.key)

    async def reach(self, product: str) -> Reach:
        found = self.reaches.get(product, LicenseServerUnknown("no license server serves this product"))
        if isinstance(found, Exception):
            raise found
        return found

    def look_soon(self, product: str) -> None:
        """Nobody looks here but the test."""

    def on_change(self, told: Callable[[str], None]) -> None:
        self._told.append(told)


class Inside:
    """One process on a store. Another one on the same store is its next start."""

    def __init__(self, store: Store, clock: FakeClock, *products: LicenseProduct, register: bool = True) -> None:
        self.store, self.licenses, self.clock = store, store.licenses, clock
        self.servers = ScriptedServers()
        self.looked: list[str] = []
        """Products that were to be looked at, in order."""
        self.moved: list[str] = []
        charging = Charging(repeats=True)
        catalog = LicenseCatalog(products or (SOLVER, MESHER, VIEWER))
        self.states = LicenseStates(
            store=self.licenses,
            catalog=catalog,
            servers=self.servers,
            charging=charging,
            clock=clock,
            wall=clock.now_ms,
            moved=lambda product, _state: self.moved.append(product),
        )
        self.service = LicensesService(store=self.licenses, catalog=catalog, look=self._look, wall=clock.now_ms, register_at_core=register)
        self.of_core = LicensesOfCore(store=self.licenses, catalog=catalog, look=self._look, wall=clock.now_ms)
        self.settlements = LicenseSettlements(
            store=self.licenses, catalog=catalog, charging=charging, wall=clock.now_ms, look=self.states.look
        )
        self.in_jobs = LicensesInJobs(store=self.licenses, catalog=catalog, servers=self.servers)

    def _look(self, product: str) -> None:
        self.looked.append(product)
        self.states.look(product)

    # What tests say

    async def bought(self, license_id: str = "5123", product: LicenseProduct = SOLVER, *, owner: str = "alice", project: str = "") -> None:
        """Core made it."""
        await self.of_core.create([license_message(license_id, owner, project, product)])

    async def made(self, actor: Actor = ALICE, product: LicenseProduct = SOLVER, count: int = 1) -> list[str]:
        """A user made them here."""
        return await self.service.create([LicenseSpecification(product=reference(product))] * count, ResourceOwner(), actor)

    async def passes(self, ms: int = 0) -> float:
        """Time passes, and then a pass over all licenses; when the next one is wanted, in seconds."""
        self.clock.move(ms)
        return await self.states.run_once()

    async def window(self, name: str, starts_ms: int, ends_ms: int, availability: MaintenanceAvailability.ValueType) -> None:
        """Maintenance of the solver."""
        body = Maintenance(description=f"Work {name}.", availability=availability, starts_at=starts_ms, estimated_ends_at=ends_ms or None)
        await self.licenses.add_window(StoredWindow(name, SOLVER.key, starts_ms, ends_ms, body.SerializeToString()))

    async def settle(self, outcome: Outcome, detail: str = "", core_id: str = "", kind: str = "") -> list[Event]:
        """Core answers all that it was told and has not answered, or only events of that kind."""
        told = [event for event in await self.unsettled() if not kind or Event.FromString(event.body).WhichOneof("change") == kind]
        settled = [EventSettlement(event.sequence, outcome, detail, self.clock.now_ms(), core_id) for event in told]
        await self.settlements.settle(list(zip(told, settled, strict=True)))
        await self.store.settle("core", settled)
        return [Event.FromString(event.body) for event in told]

    # What tests look at

    async def row(self, license_id: str = "5123") -> StoredLicense:
        found = await self.licenses.license(license_id)
        assert found is not None
        return found

    async def state(self, license_id: str = "5123") -> LicenseState:
        return (await self.row(license_id)).state

    async def history(self, license_id: str = "5123") -> list[tuple[LicenseState | None, str]]:
        """State and words of each line."""
        lines = [LicenseUpdate.FromString(line) for line in (await self.licenses.history([license_id], 100))[license_id]]
        return [(LicenseState(line.state) if line.HasField("state") else None, line.status) for line in lines]

    async def unsettled(self) -> list[StoredEvent]:
        return await self.store.events("core", 0, 1_000)

    async def told(self) -> list[tuple[str, str]]:
        """What Core has not answered: the kind of each event, and what it is about in a word."""
        return [_short(Event.FromString(event.body)) for event in await self.unsettled()]


def _short(event: Event) -> tuple[str, str]:
    match event.WhichOneof("change"):
        case "license_update":
            return "update", LicenseState(event.license_update.state).name if event.license_update.state else event.license_update.status
        case "charge":
            return "charge", event.charge.charge_id
        case _:
            return "register", event.license_registration.provider_generated_id


@contextlib.asynccontextmanager
async def inside(folder: Path, *products: LicenseProduct, register: bool = True) -> AsyncGenerator[Inside]:
    async with open_store(f"sqlite:///{folder / 'serai.db'}", lambda _: None) as store:
        await store.register_consumer("core", from_now=False)
        yield Inside(store, FakeClock(START_MS), *products, register=register)
