"""License servers, windows and lines of `store.license_api.LicenseStore` in memory, with the rules of the real one.

What a test writes survives an instance of what is tested, as a database does. Licenses and claims are not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from serai_server.store.api import StoreUnavailable
from serai_server.store.license_api import ANY_NUMBER, DecideLicense, Reseal, ServerConflict
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
from serai_server.store.model import JobChange, StoredJob


class MemoryLicenseStore:
    def __init__(self) -> None:
        self.rows: dict[str, StoredServer] = {}
        self.stored_windows: dict[str, StoredWindow] = {}
        self.held_lines: dict[str, Line] = {}
        self.counts: dict[str, int] = {}
        self.away = False
        """Every call raises StoreUnavailable while it is set."""
        self.gate = asyncio.Event()
        """Writes wait for it."""
        self.gate.set()
        self.questions: list[int] = []
        """Each `observed_at_ms` that was stored, in order."""

    async def add_server(self, server: StoredServer) -> None:
        await self._turn()
        if server.name in self.rows or any(row.product == server.product for row in self.rows.values()):
            raise ServerConflict("the name or the product has a license server already")
        self.rows[server.name] = server

    async def change_server(
        self,
        name: str,
        *,
        body: bytes | None = None,
        sealed: bytes | None = None,
        observed_at_ms: int | None = None,
        observed: bytes | None = None,
    ) -> bool:
        await self._turn()
        row = self.rows.get(name)
        if row is None:
            return False
        if observed_at_ms is not None:
            self.questions.append(observed_at_ms)
        self.rows[name] = replace(
            row,
            body=row.body if body is None else body,
            sealed=row.sealed if sealed is None else sealed,
            observed_at_ms=row.observed_at_ms if observed_at_ms is None else observed_at_ms,
            observed=row.observed if observed is None else observed,
        )
        return True

    async def remove_server(self, name: str) -> bool:
        await self._turn()
        return self.rows.pop(name, None) is not None

    async def servers(self) -> list[StoredServer]:
        self._answer()
        return [self.rows[name] for name in sorted(self.rows)]

    async def reseal(self, reseal: Reseal) -> int:
        await self._turn()
        anew = {name: replace(row, sealed=reseal(name, row.sealed)) for name, row in self.rows.items() if row.sealed}
        self.rows |= anew
        return len(anew)

    async def add_window(self, window: StoredWindow) -> None:
        await self._turn()
        self.stored_windows[window.id] = window

    async def remove_window(self, window_id: str) -> bool:
        await self._turn()
        return self.stored_windows.pop(window_id, None) is not None

    async def windows(self) -> list[StoredWindow]:
        self._answer()
        return sorted(self.stored_windows.values(), key=lambda window: window.starts_at_ms)

    async def lines(self) -> dict[str, Line]:
        self._answer()
        return dict(self.held_lines)

    async def count(self) -> dict[str, int]:
        self._answer()
        return dict(self.counts)

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("the database is away")

    async def _turn(self) -> None:
        self._answer()
        await self.gate.wait()

    # Licenses and claims: whoever needs them takes the real store.

    async def create(self, licenses: Sequence[NewLicense], quota: Quota | None = None) -> None:
        raise NotImplementedError

    async def decide(self, ids: Sequence[str], decide: DecideLicense) -> list[StoredLicense | None]:
        raise NotImplementedError

    async def license(self, license_id: str) -> StoredLicense | None:
        raise NotImplementedError

    async def find(self, names: Sequence[str]) -> dict[str, StoredLicense]:
        raise NotImplementedError

    async def page(self, condition: LicenseFilter, limit: int, token: str, skip: int = 0) -> LicensePage:
        raise NotImplementedError

    async def history(self, ids: Sequence[str], limit: int) -> dict[str, tuple[bytes, ...]]:
        raise NotImplementedError

    async def bound_to(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        raise NotImplementedError

    async def to_move(
        self, product: str, state: LicenseState, status: str, limit: int, *, keep: LicenseState | None = None
    ) -> list[StoredLicense]:
        raise NotImplementedError

    async def to_settle(self, product: str, before_ms: int, limit: int) -> list[StoredLicense]:
        raise NotImplementedError

    async def unsettled_events(self, consumer: str) -> dict[int, str]:
        raise NotImplementedError

    async def claims(self, job_id: str) -> list[Claim]:
        raise NotImplementedError

    async def take_seats(
        self, change: JobChange, limits: Mapping[str, int | None], capacities: Mapping[str, int] = ANY_NUMBER
    ) -> tuple[StoredJob | None, SeatsAnswer]:
        raise NotImplementedError

    async def first_in_line(self, product: str, limit: int, capacities: Mapping[str, int] = ANY_NUMBER) -> list[str]:
        raise NotImplementedError

    async def waiting(self, product: str, limit: int) -> list[str]:
        raise NotImplementedError

    async def without_license(self, product: str) -> list[str]:
        raise NotImplementedError
