"""`licenses.servers` over a store in memory, a clock that tests move, and a network that tests make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai_server.licenses.in_jobs import LicensesInJobs
from serai_server.licenses.ports import Reach, SeatPlan, Standing, Status
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.servers.probe import Probe
from serai_server.licenses.servers.registry import Servers, running_servers
from serai_server.licenses.servers.vault import Vault
from serai_server.licenses.servers.watcher import Pacing, Tools

from fakes.clock import FakeClock
from fakes.license_store import MemoryLicenseStore

PROVIDER, CATEGORY = "example", "licenses"


def product(name: str) -> str:
    return f"{PROVIDER}/{CATEGORY}/{name}"


def server(name: str = "solver", *, hosts: int = 1, vendor_port: int = 0, **seats: int) -> pb.LicenseServer:
    """Of the product of the same name, at `{name}-1`, …"""
    return pb.LicenseServer(
        name=name,
        addresses=[pb.LicenseServerAddress(host=f"{name}-{number}") for number in range(1, hosts + 1)],
        vendor_port=vendor_port,
        features=[pb.LicenseFeature(name=feature, seats=count) for feature, count in seats.items()],
        product=ProductReference(id=name, category=CATEGORY, provider=PROVIDER),
    )


class Network:
    """Hosts that answer, refuse, or are silent until somebody has waited long enough."""

    def __init__(self) -> None:
        self.refusing: set[str] = set()
        self.silent: set[str] = set()
        self.tried: list[tuple[str, int]] = []

    async def connect(self, host: str, port: int) -> None:
        self.tried.append((host, port))
        if host in self.silent:
            await asyncio.Event().wait()
        if host in self.refusing:
            raise ConnectionRefusedError


class Site:
    """What outlives the servers' process."""

    def __init__(self, folder: Path, lmutil: str = "") -> None:
        self.folder = folder
        self.lmutil = lmutil
        self.key_file = folder / "licenses.key"
        self.store = MemoryLicenseStore()
        self.clock = FakeClock()
        self.network = Network()
        self.stepped_ms = 0
        """How far somebody has set the time of day forward, of which clocks that run steadily know nothing."""
        self.told: list[str] = []
        """Products of which a change was told."""

    @contextlib.asynccontextmanager
    async def running(self, *, probes_to_fail: int = 3) -> AsyncGenerator[Servers]:
        async with running_servers(
            self.store,
            self.clock,
            key_file=self.key_file,
            pacing=Pacing(probes_to_fail=probes_to_fail),
            probe_timeout_ms=3_000,
            lmutil=self.lmutil,
            jitter=lambda: 0.5,
            connect=self.network.connect,
        ) as servers:
            servers.on_change(self.told.append)
            yield servers

    async def until(self, holds: Callable[[], bool], step_ms: int = 0) -> None:
        """Lets everything go on until it holds; `step_ms` moves the clock at each turn."""
        async with asyncio.timeout(20):
            while not holds():
                self.clock.move(step_ms)
                await asyncio.sleep(0.001)

    async def pass_time(self, ms: int) -> None:
        """Second by second, so that everything has its turns."""
        for _ in range(0, ms, 1_000):
            self.clock.move(1_000)
            await settle()


async def settle() -> None:
    """Whatever can go on without time or the outside has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


def no_licenses() -> LicensesInJobs:
    """What licenses are to jobs where nothing is sold and no server is known."""
    store, clock = MemoryLicenseStore(), FakeClock()
    tools = Tools(store, clock, Pacing(), Probe(clock, 3_000, Network().connect), None, lambda: 0.5)
    servers = Servers(tools, Vault(Path("there-is-no-key-file")))
    return LicensesInJobs(store=store, catalog=LicenseCatalog(()), servers=servers)


class MovableServers:
    """`ports.LicenseServers` of products whose seats a test moves; all of them are UP, and jobs alone use their seats."""

    def __init__(self, seats: dict[str, int]) -> None:
        self._seats = seats
        self._told: list[Callable[[str], None]] = []

    def resize(self, seats: dict[str, int]) -> None:
        """As an operator does; everybody is told, also when all is as before."""
        self._seats = seats
        for product_key in seats:
            for told in self._told:
                told(product_key)

    def status(self, product: str) -> Status:
        return Status(Standing.UP if product in self._seats else Standing.NONE)

    def seats(self, product: str) -> SeatPlan | None:
        return SeatPlan("solver", self._seats[product], per_replica=False) if product in self._seats else None

    def limits(self) -> Mapping[str, int | None]:
        return dict(self._seats)

    def capacities(self) -> Mapping[str, int]:
        return dict(self._seats)

    async def has_key(self, product: str) -> bool:
        return False

    async def reach(self, product: str) -> Reach:
        return Reach(((product, 27000),), b"")

    def look_soon(self, product: str) -> None:
        """They are UP."""

    def on_change(self, told: Callable[[str], None]) -> None:
        self._told.append(told)
