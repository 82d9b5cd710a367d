"""The operator's use cases: license servers, their keys and seats, and maintenance windows.

Nothing that leaves here has a key, sealed or not.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence

import structlog
from serai.core.v1.resources_pb2 import ProductReference
from serai.licenses.v1 import license_servers_service_pb2 as pb
from serai.licenses.v1.license_pb2 import Maintenance, MaintenanceAvailability

from serai_server.errors import LicenseServerUnknown, WrongState
from serai_server.licenses.ports import Standing
from serai_server.licenses.products import LicenseCatalog
from serai_server.licenses.servers import requests as checks
from serai_server.licenses.servers.observation import use_of
from serai_server.licenses.servers.registry import Servers
from serai_server.licenses.servers.vault import VaultError
from serai_server.licenses.servers.watcher import Watcher
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import Line, StoredWindow

log = structlog.get_logger("serai.licenses")

_STATES: Mapping[Standing, pb.LicenseServerState.ValueType] = {
    Standing.UNKNOWN: pb.LICENSE_SERVER_STATE_UNKNOWN,
    Standing.UP: pb.LICENSE_SERVER_STATE_UP,
    Standing.DOWN: pb.LICENSE_SERVER_STATE_DOWN,
}


class LicenseServerOperations:
    """All may raise SeraiError and what the store raises."""

    def __init__(
        self,
        servers: Servers,
        store: LicenseStore,
        catalog: LicenseCatalog,
        wall: Callable[[], int],
        new_id: Callable[[], str] = lambda: secrets.token_hex(6),
    ) -> None:
        """`wall` is the time of day in ms, in which operators plan."""
        self._servers = servers
        self._store = store
        self._catalog = catalog
        self._wall = wall
        self._new_id = new_id

    async def add(self, server: pb.LicenseServer, key: bytes) -> pb.LicenseServerReport:
        checks.check_server(server, self._catalog)
        checks.check_key(key)
        with _vault_in_words():
            watcher = await self._servers.add(server, key)
        log.info("license_server.added", server=server.name, product=watcher.product, features=len(server.features), has_key=bool(key))
        return await self._report(watcher)

    async def list(self) -> Sequence[pb.LicenseServerReport]:
        lines, counts = await self._store.lines(), await self._store.count()
        return [await self._report_of(watcher, lines, counts) for watcher in self._servers.watchers()]

    async def get(self, name: str) -> pb.LicenseServerReport:
        return await self._report(self._servers.watcher(name))

    async def remove(self, name: str, *, force: bool) -> None:
        watcher = self._servers.watcher(name)
        line = (await self._store.lines()).get(watcher.product)
        if line is not None and line.held and not force:
            seats = f"{line.held} seat{'s' if line.held != 1 else ''}"
            words = f"{line.holders} job{'s hold' if line.holders != 1 else ' holds'} {seats} of license server {name!r}"
            raise WrongState(
                f"{words}; wait until {'they are' if line.holders != 1 else 'it is'} over, or remove it all the same with --force"
            )
        await self._servers.remove(name)
        log.info("license_server.removed", server=name, product=watcher.product, held=line.held if line is not None else 0)

    async def set_key(self, name: str, key: bytes) -> None:
        checks.check_key(key)
        with _vault_in_words():
            await self._servers.set_key(name, key)
        log.info("license_server.key_set", server=name, has_key=bool(key))

    async def set_seats(self, name: str, features: Sequence[pb.LicenseFeature]) -> pb.LicenseServerReport:
        self._servers.watcher(name)
        checks.check_features(features, "features")
        watcher = await self._servers.set_seats(name, features)
        log.info("license_server.seats_set", server=name, seats={feature.name: feature.seats for feature in features})
        return await self._report(watcher)

    async def set_addresses(
        self, name: str, addresses: Sequence[pb.LicenseServerAddress], vendor_port: int | None
    ) -> pb.LicenseServerReport:
        self._servers.watcher(name)
        checks.check_addresses(addresses, "addresses")
        if vendor_port is not None:
            checks.check_vendor_port(vendor_port, "vendor_port")
        watcher = await self._servers.set_addresses(name, addresses, vendor_port)
        log.info(
            "license_server.addresses_set",
            server=name,
            addresses=[f"{port}@{host}" for host, port in watcher.addresses],
            vendor_port=watcher.server.vendor_port,
        )
        return await self._report(watcher)

    async def probe(self, name: str) -> pb.LicenseServerReport:
        watcher = self._servers.watcher(name)
        await watcher.look()
        await watcher.ask()
        return await self._report(watcher)

    async def rotate_key(self) -> int:
        with _vault_in_words():
            count = await self._servers.rotate()
        log.info("license_servers.key_rotated", resealed=count)
        return count

    async def add_maintenance(self, product: ProductReference, maintenance: Maintenance) -> pb.MaintenanceWindow:
        found = checks.find_product(product, self._catalog, "product")
        checks.check_maintenance(maintenance, self._wall())
        ends_ms = maintenance.estimated_ends_at if maintenance.HasField("estimated_ends_at") else 0
        stored = StoredWindow(self._new_id(), found.key, maintenance.starts_at, ends_ms, maintenance.SerializeToString())
        await self._store.add_window(stored)
        log.info(
            "license_maintenance.added",
            window=stored.id,
            product=found.key,
            availability=MaintenanceAvailability.Name(maintenance.availability).removeprefix("MAINTENANCE_AVAILABILITY_"),
            starts_at_ms=maintenance.starts_at,
            ends_at_ms=ends_ms,
        )
        self._servers.touch(found.key)
        return pb.MaintenanceWindow(id=stored.id, product=product, maintenance=maintenance)

    async def list_maintenance(self) -> Sequence[pb.MaintenanceWindow]:
        now_ms = self._wall()
        return [_window(window) for window in await self._store.windows() if not window.ends_at_ms or window.ends_at_ms > now_ms]

    async def remove_maintenance(self, window_id: str) -> None:
        products = [window.product for window in await self._store.windows() if window.id == window_id]
        if not products or not await self._store.remove_window(window_id):
            words = f"no maintenance window {window_id!r} is planned; `serai licenses maintenance list` shows all"
            raise LicenseServerUnknown(words, field="id")
        log.info("license_maintenance.removed", window=window_id, product=products[0])
        self._servers.touch(products[0])

    async def _report(self, watcher: Watcher) -> pb.LicenseServerReport:
        return await self._report_of(watcher, await self._store.lines(), await self._store.count())

    async def _report_of(self, watcher: Watcher, lines: Mapping[str, Line], counts: Mapping[str, int]) -> pb.LicenseServerReport:
        trouble = await self._servers.key_trouble(watcher.product)
        failures = watcher.stand.failures if watcher.status.standing is not Standing.DOWN else 0
        words = (
            trouble and f"jobs wait for its key: {trouble}",
            failures and f"{failures} of {self._servers.probes_to_fail} looks in a row have failed",
            watcher.details,
        )
        line = lines.get(watcher.product)
        return pb.LicenseServerReport(
            server=watcher.server,
            has_key=bool(watcher.stored.sealed),
            state=_STATES[watcher.status.standing],
            words="; ".join(str(part) for part in words if part),
            probed_at_ms=watcher.stand.looked_at_ms,
            observed_at_ms=watcher.observed_at_ms,
            seats=[_seats(watcher, feature, line.held if line is not None else 0) for feature in watcher.server.features],
            waiting_jobs=line.waiting if line is not None else 0,
            licenses=counts.get(watcher.product, 0),
            is_asked=self._servers.asks,
        )


@contextlib.contextmanager
def _vault_in_words() -> Generator[None]:
    """The operator is told what is wrong with the key file."""
    try:
        yield
    except VaultError as error:
        raise WrongState(str(error)) from error


def _seats(watcher: Watcher, feature: pb.LicenseFeature, held: int) -> pb.SeatsReport:
    report = pb.SeatsReport(feature=feature.name, seats=feature.seats, held=held)
    use = use_of(feature.name, watcher.seen)
    if use is not None:
        report.observed_used, report.observed_total = use.used, use.total
    return report


def _window(stored: StoredWindow) -> pb.MaintenanceWindow:
    provider, category, product_id = stored.product.split("/")
    reference = ProductReference(id=product_id, category=category, provider=provider)
    return pb.MaintenanceWindow(id=stored.id, product=reference, maintenance=Maintenance.FromString(stored.body))
