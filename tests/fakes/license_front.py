"""The operator's service of license servers for real: SQLite, watchers and the gRPC front on a Unix socket, in a thread of its own.

Its log goes to a file, from debug on, for tests that search it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import structlog
from serai_backends.clock import wall_ms
from serai_server.clock import SystemClock
from serai_server.licenses.charges import Charging
from serai_server.licenses.payments import LicensePayments
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.servers.operations import LicenseServerOperations
from serai_server.licenses.servers.registry import Servers, running_servers
from serai_server.licenses.servers.watcher import Pacing
from serai_server.licenses.service import LicensesService
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

from fakes.elsewhere import Elsewhere, elsewhere
from fakes.license_servers import CATEGORY, PROVIDER
from fakes.lmgrd import FakeLmgrd
from fakes.usecases import MemoryEvents, MemoryJobs


@dataclass
class LicenseFront(Elsewhere):
    folder: Path
    socket: Path
    lmgrd: FakeLmgrd
    """A license server on loopback, with 5 seats of `solver`."""
    servers: Servers
    store: SqlStore

    @property
    def key_file(self) -> Path:
        return self.folder / "licenses.key"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def license_front(folder: Path, lmutil: str = "") -> Generator[LicenseFront]:
    with _logged(folder / "log"), elsewhere(_serving(folder, lmutil)) as running:
        yield running


@contextlib.asynccontextmanager
async def _serving(folder: Path, lmutil: str) -> AsyncGenerator[LicenseFront]:
    catalog = LicenseCatalog([LicenseProduct(name, CATEGORY, PROVIDER) for name in ("solver", "mesher", "viewer")])
    clock = SystemClock()
    async with (
        FakeLmgrd(solver=5) as lmgrd,
        open_store(f"sqlite:///{folder / 'serai.db'}", lambda _: None) as store,
        running_servers(
            store.licenses,
            clock,
            key_file=folder / "licenses.key",
            pacing=Pacing(probe_every_ms=1_000, probes_to_fail=1),
            probe_timeout_ms=2_000,
            lmutil=lmutil,
        ) as servers,
    ):
        operations = LicenseServerOperations(servers, store.licenses, catalog, clock.now_ms)
        jobs = MemoryJobs()
        licenses = LicensesService(store=store.licenses, catalog=catalog, look=lambda _: None, wall=wall_ms, register_at_core=True)
        payments = LicensePayments(
            store=store.licenses, catalog=catalog, charging=Charging(repeats=False), wall=wall_ms, look=lambda _: None
        )
        front = dispatcher(
            jobs=jobs,
            changes=jobs,
            events=MemoryEvents(),
            health=Health(),
            clock=clock,
            licenses=licenses,
            license_servers=operations,
            license_payments=payments,
        )
        async with grpc_server(front, folder / "serai.sock", 5.0):
            yield LicenseFront(folder, folder / "serai.sock", lmgrd, servers, store)


@contextlib.contextmanager
def _logged(file: Path) -> Generator[None]:
    with file.open("a") as out:
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            logger_factory=structlog.WriteLoggerFactory(out),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()
