"""All license servers: a watcher for each that the store has, and what licenses, seats and jobs may ask (`ports.LicenseServers`).

The store is the truth. Each change is written there and then read back, in a task of its own, so that a caller who goes away leaves memory
and store at one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.clock import Clock
from serai_server.errors import LicenseServerConflict, LicenseServerUnknown
from serai_server.licenses.ports import Reach, SeatPlan, Standing, Status
from serai_server.licenses.products import key_of
from serai_server.licenses.servers.lmutil import Lmutil
from serai_server.licenses.servers.probe import Connect, Dialer, Probe
from serai_server.licenses.servers.vault import Vault, VaultError
from serai_server.licenses.servers.watcher import Pacing, Tools, Watcher
from serai_server.store.api import StoreError
from serai_server.store.license_api import LicenseStore, ServerConflict
from serai_server.store.license_model import StoredServer

log = structlog.get_logger("serai.licenses")

_RETRY_S = 5.0

_T = TypeVar("_T")


class Servers:
    def __init__(self, tools: Tools, vault: Vault) -> None:
        self._tools = tools
        self._store = tools.store
        self._vault = vault
        self._watchers: dict[str, Watcher] = {}
        """By name."""
        self._by_product: dict[str, Watcher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._told: list[Callable[[str], None]] = []
        self._lock = asyncio.Lock()
        """Around each change of servers and keys: nothing is sealed while keys are rotated."""
        self._stale = asyncio.Event()
        """What is here may be other than what is stored."""
        self._changes: set[asyncio.Task[object]] = set()

    # As ports.LicenseServers

    def status(self, product: str) -> Status:
        watcher = self._by_product.get(product)
        return watcher.status if watcher is not None else Status(Standing.NONE)

    def seats(self, product: str) -> SeatPlan | None:
        watcher = self._by_product.get(product)
        if watcher is None:
            return None
        per_replica = watcher.server.seats_per == pb.SEATS_PER_REPLICA
        scarcest = min(watcher.server.features, key=lambda feature: feature.seats, default=None)
        return SeatPlan(scarcest.name, scarcest.seats, per_replica) if scarcest is not None else SeatPlan("", 0, per_replica)

    def limits(self) -> Mapping[str, int | None]:
        return {product: watcher.limit for product, watcher in self._by_product.items()}

    def capacities(self) -> Mapping[str, int]:
        return {product: most for product, watcher in self._by_product.items() if (most := watcher.capacity) is not None}

    async def has_key(self, product: str) -> bool:
        watcher = self._by_product.get(product)
        return watcher is not None and bool(watcher.stored.sealed)

    async def reach(self, product: str) -> Reach:
        while True:
            watcher = self._by_product.get(product)
            if watcher is None:
                raise LicenseServerUnknown("no license server serves this product")
            stored, addresses = watcher.stored, watcher.addresses
            if not stored.sealed:
                return Reach(addresses, b"")
            try:
                return Reach(addresses, await asyncio.to_thread(self._vault.unseal, stored.name, stored.sealed))
            except VaultError:
                # Keys were rotated in between; what is here now was sealed anew.
                now = self._by_product.get(product)
                if now is not None and now.stored.sealed == stored.sealed:
                    raise

    async def key_trouble(self, product: str) -> str:
        """Why the vendor's key cannot be unsealed now; empty = it can, or there is none."""
        try:
            await self.reach(product)
        except VaultError as error:
            return str(error)
        except LicenseServerUnknown:
            pass
        return ""

    def look_soon(self, product: str) -> None:
        if product in self._by_product:
            self._by_product[product].look_soon()

    def on_change(self, told: Callable[[str], None]) -> None:
        self._told.append(told)

    def touch(self, product: str) -> None:
        """Something else of the product has changed, such as its maintenance: have it looked at."""
        for told in self._told:
            told(product)

    # For the operator

    @property
    def probes_to_fail(self) -> int:
        return self._tools.pacing.probes_to_fail

    @property
    def asks(self) -> bool:
        """Whether servers are asked for the seats in use."""
        return self._tools.lmutil is not None

    def watchers(self) -> Sequence[Watcher]:
        """By name."""
        return [self._watchers[name] for name in sorted(self._watchers)]

    def watcher(self, name: str) -> Watcher:
        """Raises LicenseServerUnknown."""
        if name not in self._watchers:
            raise LicenseServerUnknown(f"no license server is called {name!r}; `serai licenses server list` shows all", field="name")
        return self._watchers[name]

    async def add(self, server: pb.LicenseServer, key: bytes) -> Watcher:
        """Raises LicenseServerConflict, VaultError, StoreError."""
        await self._whole(self._add(server, key))
        return self.watcher(server.name)

    async def _add(self, server: pb.LicenseServer, key: bytes) -> None:
        sealed = await self._sealed(server.name, key)
        stored = StoredServer(server.name, key_of(server.product), server.SerializeToString(deterministic=True), sealed, 0)
        try:
            await self._store.add_server(stored)
        except ServerConflict as error:
            raise self._conflict(server) from error

    def _conflict(self, server: pb.LicenseServer) -> LicenseServerConflict:
        product = f"{server.product.category}/{server.product.id}"
        has = self._by_product.get(key_of(server.product))
        change = "set-address, set-seats and set-key change it, remove takes it away"
        if server.name in self._watchers or has is None:
            words = f"there is a license server {server.name!r} already (`serai licenses server show {server.name}`); {change}"
            return LicenseServerConflict(words, field="server.name")
        words = f"product {product} has the license server {has.stored.name!r} already, and a product has one; {change}"
        return LicenseServerConflict(words, field="server.product")

    async def set_key(self, name: str, key: bytes) -> None:
        """Empty = it needs none any more. Raises LicenseServerUnknown, VaultError, StoreError."""
        await self._whole(self._set_key(name, key))

    async def _set_key(self, name: str, key: bytes) -> None:
        self.watcher(name)
        await self._changed(name, sealed=await self._sealed(name, key))

    async def set_seats(self, name: str, features: Sequence[pb.LicenseFeature]) -> Watcher:
        """Raises LicenseServerUnknown, StoreError."""
        await self._whole(self._set_seats(name, features))
        return self.watcher(name)

    async def _set_seats(self, name: str, features: Sequence[pb.LicenseFeature]) -> None:
        server = pb.LicenseServer()
        server.CopyFrom(self.watcher(name).server)
        del server.features[:]
        server.features.extend(features)
        await self._changed(name, body=server.SerializeToString(deterministic=True))

    async def set_addresses(self, name: str, addresses: Sequence[pb.LicenseServerAddress], vendor_port: int | None) -> Watcher:
        """`vendor_port` None = as it is. Raises LicenseServerUnknown, StoreError."""
        await self._whole(self._set_addresses(name, addresses, vendor_port))
        watcher = self.watcher(name)
        # Whether the machine of before answered says nothing of this one.
        watcher.look_soon()
        return watcher

    async def _set_addresses(self, name: str, addresses: Sequence[pb.LicenseServerAddress], vendor_port: int | None) -> None:
        server = pb.LicenseServer()
        server.CopyFrom(self.watcher(name).server)
        del server.addresses[:]
        server.addresses.extend(addresses)
        if vendor_port is not None:
            server.vendor_port = vendor_port
        await self._changed(name, body=server.SerializeToString(deterministic=True))

    async def remove(self, name: str) -> None:
        """Raises LicenseServerUnknown, StoreError."""
        await self._whole(self._remove(name))

    async def _remove(self, name: str) -> None:
        self.watcher(name)
        await self._store.remove_server(name)

    async def rotate(self) -> int:
        """A new encryption key for every vendor's key; how many those are. Raises VaultError, StoreError."""
        return await self._whole(self._rotate())

    async def _rotate(self) -> int:
        await asyncio.to_thread(self._vault.begin_rotation, first=not self._any_sealed())
        count = await self._store.reseal(self._vault.reseal)
        # What is sealed with the old keys is nowhere any more but in memory; `reach` looks again when it meets that.
        await self._reload()
        await asyncio.to_thread(self._vault.end_rotation)
        return count

    async def _changed(self, name: str, *, body: bytes | None = None, sealed: bytes | None = None) -> None:
        if not await self._store.change_server(name, body=body, sealed=sealed):
            raise LicenseServerUnknown(f"license server {name!r} is gone", field="name")

    async def _sealed(self, name: str, key: bytes) -> bytes:
        if not key:
            return b""
        return await asyncio.to_thread(self._vault.seal, name, key, first=not self._any_sealed(but=name))

    def _any_sealed(self, but: str = "") -> bool:
        return any(watcher.stored.sealed for name, watcher in self._watchers.items() if name != but)

    async def _whole(self, change: Coroutine[object, object, _T]) -> _T:
        """The change, to its end also when the caller goes away, and what it made of the store read back."""

        async def work() -> _T:
            async with self._lock:
                try:
                    result = await change
                    await self._reload()
                except StoreError:
                    # Whether it was stored is not known for certain.
                    self._stale.set()
                    raise
                return result

        task = asyncio.create_task(work())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    # What runs

    async def load(self) -> None:
        """Before anything else is asked. Raises StoreError."""
        async with self._lock:
            await self._reload()

    async def _reload(self) -> None:
        rows = {row.name: row for row in await self._store.servers()}
        # One that serves another product now was removed and added again.
        gone = [name for name, watcher in self._watchers.items() if name not in rows or rows[name].product != watcher.product]
        changed = [self._drop(name) for name in gone]
        for name, row in rows.items():
            watcher = self._watchers.get(name)
            if watcher is None:
                changed.append(self._adopt(row))
            elif watcher.update(row):
                changed.append(row.product)
        for product in dict.fromkeys(changed):
            self.touch(product)

    def _adopt(self, row: StoredServer) -> str:
        watcher = Watcher(row, self._tools, self.touch)
        self._watchers[row.name] = self._by_product[watcher.product] = watcher
        self._start(watcher)
        return watcher.product

    def _drop(self, name: str) -> str:
        watcher = self._watchers.pop(name)
        del self._by_product[watcher.product]
        if name in self._tasks:
            self._tasks.pop(name).cancel()
        return watcher.product

    def _start(self, watcher: Watcher) -> None:
        if self._group is not None:
            self._tasks[watcher.stored.name] = self._group.create_task(watcher.run())

    async def run(self) -> None:
        """Watches every server until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for watcher in self._watchers.values():
                    self._start(watcher)
                await self._keep_fresh()
            finally:
                self._group = None

    async def settle(self) -> None:
        """Until changes that have begun are done."""
        if self._changes:
            await asyncio.wait(self._changes)

    async def _keep_fresh(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self.load()
            except StoreError as error:
                log.warning("license_servers.not_read", why=str(error))
                self._stale.set()
                await self._tools.clock.sleep(_RETRY_S)


@contextlib.asynccontextmanager
async def running_servers(
    store: LicenseStore,
    clock: Clock,
    *,
    key_file: Path,
    pacing: Pacing,
    probe_timeout_ms: int,
    lmutil: str = "",
    jitter: Callable[[], float] = random.random,
    connect: Connect | None = None,
) -> AsyncGenerator[Servers]:
    """Loaded, and watched until the end. `lmutil` empty = only seats of our own jobs are counted; `connect` None = for real.

    Raises StoreError.
    """
    probe = Probe(clock, probe_timeout_ms, connect or Dialer().connect)
    tools = Tools(store, clock, pacing, probe, Lmutil(lmutil, clock) if lmutil else None, jitter)
    servers = Servers(tools, Vault(key_file))
    await servers.load()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(servers.run())
        try:
            yield servers
        finally:
            await servers.settle()
            watching.cancel()
