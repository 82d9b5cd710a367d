"""Moves licenses: each follows its product's server, the maintenance windows and what was paid, and every change is noted and told.

How the licenses of a product ought to stand is a pure function of those (`wanted`); a pass moves the ones that stand otherwise, some
hundreds in a transaction. kill -9 in between leaves the rest where they were, and the next pass goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from serai.licenses.v1.license_pb2 import MAINTENANCE_AVAILABILITY_NO_SERVICE, Maintenance
from serai_backends.common.time import sleep_or

from serai_server.clock import Clock
from serai_server.licenses import maintenance, words
from serai_server.licenses.bodies import charge_note, update_note
from serai_server.licenses.ports import LicenseServers, Standing, Status
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.store.api import StoreError
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, LicenseNote, LicenseState, Payment, StoredLicense, StoredWindow

log = structlog.get_logger("serai.licenses")

PASS_S = 15.0
"""Longest time between two passes; what is known to change sooner begins one sooner."""
WHOLE_PASS_MS = 600_000
"""A pass looks only at products of which something is new, and so often at all of them."""
CHARGE_AGAIN_MS = 3_600_000
"""After a wallet could not pay for a license."""
_AT_ONCE = 200
"""Licenses moved in one transaction."""
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the licenses of a product ought to stand."""

    state: LicenseState
    status: str


def wanted(status: Status, window: Maintenance | None, *, sold: bool) -> Wanted | None:
    """None = they stay as they are: nothing is known of their server since the process began. Pure."""
    if not sold:
        return Wanted(LicenseState.UNAVAILABLE, words.NOT_SOLD)
    if window is not None and window.availability == MAINTENANCE_AVAILABILITY_NO_SERVICE:
        return Wanted(LicenseState.UNAVAILABLE, words.maintained(window))
    match status.standing:
        case Standing.UP:
            return Wanted(LicenseState.READY, words.maintained(window) if window is not None else words.READY)
        case Standing.DOWN:
            return Wanted(LicenseState.UNAVAILABLE, words.down(status.words))
        case Standing.NONE:
            return Wanted(LicenseState.UNAVAILABLE, words.NO_SERVER)
        case Standing.UNKNOWN:
            return None


class LicenseStates:
    def __init__(
        self,
        *,
        store: LicenseStore,
        catalog: LicenseCatalog,
        servers: LicenseServers,
        clock: Clock,
        wall: Callable[[], int],
        moved: Callable[[str, LicenseState], None],
    ) -> None:
        """`wall` is the time of day in ms. `moved` is told each product whose licenses were moved, and to which state."""
        self._moved = moved
        self._store = store
        self._catalog = catalog
        self._servers = servers
        self._clock = clock
        self._wall = wall
        self._news = asyncio.Event()
        self._still: dict[str, Wanted] = {}
        """Products whose licenses all stand as it says here, as far as anybody has told since."""
        self._whole_at_ms = 0
        servers.on_change(self.look)

    def look(self, product: str) -> None:
        """Something of this product is new: a license, what was paid, its server."""
        self._still.pop(product, None)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            pause_s = _RETRY_S
            try:
                pause_s = await self.run_once()
            except StoreError as error:
                log.warning("licenses.later", why=str(error))
            except Exception:
                # One license that cannot be moved must not stop the others for ever.
                log.exception("licenses.failed")
            await sleep_or(self._clock, pause_s, self._news)

    async def run_once(self) -> float:
        """One pass over everything. In how many seconds there is something to do again."""
        now_ms = self._wall()
        if not 0 <= now_ms - self._whole_at_ms < WHOLE_PASS_MS:
            # Whatever was missed, it is found now.
            self._whole_at_ms = now_ms
            self._still.clear()
        windows = await self._store.windows()
        open_now = maintenance.open_now(windows, now_ms)
        for product in await self._store.count():
            await self._move(product, open_now.get(product))
        await self._charge_again(now_ms)
        return _pause_s(windows, now_ms)

    async def _move(self, product: str, window: Maintenance | None) -> None:
        sold = self._catalog.by_key(product)
        aim = wanted(self._servers.status(product), window, sold=sold is not None)
        if aim is None or self._still.get(product) == aim:
            return
        self._still[product] = aim
        # A license that never had a server may still get one.
        keep = LicenseState.PREPARING if aim.status == words.NO_SERVER else None
        while rows := await self._store.to_move(product, aim.state, aim.status, _AT_ONCE, keep=keep):
            now_ms = self._wall()
            # As they are inside the transaction: some may have been deleted or found unpaid meanwhile.
            await self._store.decide([row.id for row in rows], lambda _, row: _moved(row, aim, sold, now_ms))  # noqa: B023 - called at once
            self._moved(product, aim.state)

    async def _charge_again(self, now_ms: int) -> None:
        """An answer that pays brings the license back (`settled`)."""
        rows = await self._store.unpaid(now_ms - CHARGE_AGAIN_MS, _AT_ONCE)

        def charged(_place: int, row: StoredLicense | None) -> LicenseChange | None:
            product = self._catalog.by_key(row.product) if row is not None else None
            if row is None or product is None or row.deleted_at_ms or row.payment is not Payment.UNPAID:
                return None
            attempt = row.charges + 1
            note = charge_note(row, product, attempt, now_ms)
            return LicenseChange(row.id, row.version, charges=attempt, payment_at_ms=now_ms, notes=(note,))

        if rows:
            await self._store.decide([row.id for row in rows], charged)


def _moved(row: StoredLicense | None, aim: Wanted, product: LicenseProduct | None, now_ms: int) -> LicenseChange | None:
    if row is None or row.deleted_at_ms or row.payment is Payment.UNPAID:
        return None
    state, status = aim.state, aim.status
    if (row.state, row.status) == (state, status):
        return None
    notes: tuple[LicenseNote, ...] = (update_note(row, now_ms, state if state is not row.state else None, status),)
    if state is not LicenseState.READY or product is None:
        return LicenseChange(row.id, row.version, state=state, status=status, notes=notes)
    return first_charge(row, product, LicenseChange(row.id, row.version, state=state, status=status, notes=notes), now_ms)


def first_charge(row: StoredLicense, product: LicenseProduct, change: LicenseChange, now_ms: int) -> LicenseChange:
    """The change, and with it the charge of a license that is READY for the first time. Nothing is charged that Core does not know yet."""
    if row.payment is not Payment.OPEN or row.at_core is AtCore.WANTED:
        return change
    if not product.price or row.at_core is AtCore.UNTOLD:
        return replace(change, payment=Payment.CHARGED, payment_at_ms=now_ms)
    note = charge_note(row, product, 1, now_ms)
    return replace(change, payment=Payment.CHARGED, charges=1, payment_at_ms=now_ms, notes=(*change.notes, note))


def _pause_s(windows: list[StoredWindow], now_ms: int) -> float:
    edge_ms = maintenance.next_edge_ms(windows, now_ms)
    return PASS_S if edge_ms is None else min(PASS_S, max(edge_ms - now_ms, 1) / 1_000)
