"""The store's calls about licenses, put together: writes go to the owner thread, reads to the readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from serai_server.store import license_servers, license_writes, seats
from serai_server.store.license_api import ANY_NUMBER, DecideLicense, Reseal
from serai_server.store.license_model import (
    Claim,
    LicenseFilter,
    LicensePage,
    LicenseState,
    Line,
    NewLicense,
    Quota,
    SeatsAnswer,
    StoredLicense,
    StoredServer,
    StoredWindow,
)
from serai_server.store.license_pages import Pages
from serai_server.store.license_reads import LicenseReader
from serai_server.store.model import JobChange, StoredJob
from serai_server.store.owner import Owner
from serai_server.store.reads import Reader
from serai_server.store.rows import Value


class SqlLicenses:
    """See license_api.LicenseStore for what each call does and raises."""

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = LicenseReader(reader)
        self._pages = Pages(reader)

    async def create(self, licenses: Sequence[NewLicense], quota: Quota | None = None) -> None:
        await self._owner.submit((), partial(license_writes.create, tuple(licenses), quota))

    async def decide(self, ids: Sequence[str], decide: DecideLicense) -> list[StoredLicense | None]:
        outcome = await self._owner.submit((), partial(license_writes.decide, tuple(ids), decide))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def license(self, license_id: str) -> StoredLicense | None:
        return await self._reader.license(license_id)

    async def find(self, names: Sequence[str]) -> dict[str, StoredLicense]:
        return await self._reader.find(names)

    async def page(self, condition: LicenseFilter, limit: int, token: str, skip: int = 0) -> LicensePage:
        return await self._pages.page(condition, limit, token, skip)

    async def history(self, ids: Sequence[str], limit: int) -> dict[str, tuple[bytes, ...]]:
        return await self._reader.history(ids, limit)

    async def bound_to(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return await self._reader.bound_to(ids)

    async def to_move(
        self, product: str, state: LicenseState, status: str, limit: int, *, keep: LicenseState | None = None
    ) -> list[StoredLicense]:
        return await self._reader.to_move(product, state, status, limit, keep)

    async def to_settle(self, product: str, before_ms: int, limit: int) -> list[StoredLicense]:
        return await self._reader.to_settle(product, before_ms, limit)

    async def unsettled_events(self, consumer: str) -> dict[int, str]:
        return await self._reader.unsettled_events(consumer)

    async def count(self) -> dict[str, int]:
        return await self._reader.count()

    async def claims(self, job_id: str) -> list[Claim]:
        return await self._reader.claims(job_id)

    async def take_seats(
        self, change: JobChange, limits: Mapping[str, int | None], capacities: Mapping[str, int] = ANY_NUMBER
    ) -> tuple[StoredJob | None, SeatsAnswer]:
        return await self._owner.submit((change.job_id,), partial(seats.take, change, dict(limits), dict(capacities)))

    async def first_in_line(self, product: str, limit: int, capacities: Mapping[str, int] = ANY_NUMBER) -> list[str]:
        return await self._reader.first_in_line(product, limit, capacities)

    async def waiting(self, product: str, limit: int) -> list[str]:
        return await self._reader.waiting(product, limit)

    async def without_license(self, product: str) -> list[str]:
        return await self._reader.without_license(product)

    async def lines(self) -> dict[str, Line]:
        return await self._reader.lines()

    async def add_server(self, server: StoredServer) -> None:
        await self._owner.submit((), partial(license_servers.add_server, server))

    async def change_server(
        self,
        name: str,
        *,
        body: bytes | None = None,
        sealed: bytes | None = None,
        observed_at_ms: int | None = None,
        observed: bytes | None = None,
    ) -> bool:
        given: dict[str, Value | None] = {"body": body, "sealed": sealed, "observed_at_ms": observed_at_ms, "observed": observed}
        changed = {column: value for column, value in given.items() if value is not None}
        return await self._owner.submit((), partial(license_servers.change_server, name, changed))

    async def remove_server(self, name: str) -> bool:
        return await self._owner.submit((), partial(license_servers.remove_server, name))

    async def servers(self) -> list[StoredServer]:
        return await self._reader.servers()

    async def reseal(self, reseal: Reseal) -> int:
        outcome = await self._owner.submit((), partial(license_servers.reseal, reseal))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def add_window(self, window: StoredWindow) -> None:
        await self._owner.submit((), partial(license_servers.add_window, window))

    async def remove_window(self, window_id: str) -> bool:
        return await self._owner.submit((), partial(license_servers.remove_window, window_id))

    async def windows(self) -> list[StoredWindow]:
        return await self._reader.windows()
