"""Moves licenses: each follows its product's server, the maintenance windows and what was paid, and every change is noted and told.

How the licenses of a product ought to stand is a pure function of those (`aim_of`); a pass moves the ones that stand otherwise, some
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
from serai_server.licenses.bodies import update_note
from serai_server.licenses.charges import Charging
from serai_server.licenses.ports import LicenseServers, Standing, Status
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.store.api import StoreError
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, LicenseState, StoredLicense, StoredWindow
from serai_server.store.model import CORE

log = structlog.get_logger("serai.licenses")

PASS_S = 15.0
"""Longest time between two passes; what is known to change sooner begins one sooner."""
WHOLE_PASS_MS = 600_000
"""A pass looks only at products of which something is new, and so often at all of them."""
CHARGE_AGAIN_MS = 3_600_000
"""After an answer of Core that did not say that a license is paid for."""
_AT_ONCE = 200
"""Licenses moved in one transaction."""
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Aim:
    """How the licenses of a product ought to stand."""

    state: LicenseState
    status: str


def aim_of(status: Status, window: Maintenance | None, *, sold: bool) -> Aim | None:
    """None = they stay as they are: nothing is known of their server since the process began. Pure."""
    if not sold:
        return Aim(LicenseState.UNAVAILABLE, words.NOT_SOLD)
    if window is not None and window.availability == MAINTENANCE_AVAILABILITY_NO_SERVICE:
        return Aim(LicenseState.UNAVAILABLE, words.maintained(window))
    match status.standing:
        case Standing.UP:
            return Aim(LicenseState.READY, words.maintained(window) if window is not None else words.READY)
        case Standing.DOWN:
            return Aim(LicenseState.UNAVAILABLE, words.down(status.words))
        case Standing.NONE:
            return Aim(LicenseState.UNAVAILABLE, words.NO_SERVER)
        case Standing.UNKNOWN:
            return None


class LicenseStates:
    def __init__(
        self,
        *,
        store: LicenseStore,
        catalog: LicenseCatalog,
        servers: LicenseServers,
        charging: Charging,
        clock: Clock,
        wall: Callable[[], int],
        moved: Callable[[str, LicenseState], None],
    ) -> None:
        """`wall` is the time of day in ms. `moved` is told each product whose licenses were moved, and to which state."""
        self._moved = moved
        self._store = store
        self._catalog = catalog
        self._servers = servers
        self._charging = charging
        self._clock = clock
        self._wall = wall
        self._news = asyncio.Event()
        self._still: dict[str, Aim] = {}
        """Products whose licenses all stand as it says here, as far as anybody has told since."""
        self._looks: dict[str, int] = {}
        """How often each product was looked at: a pass that something new overtook has not seen it."""
        self._whole_at_ms = 0
        servers.on_change(self.look)

    def look(self, product: str) -> None:
        """Something of this product is new: a license, what was paid, its server."""
        self._looks[product] = self._looks.get(product, 0) + 1
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
        done = True
        for product in await self._store.count():
            # One product that cannot be looked at keeps no other one from it.
            done = await self._product(product, open_now.get(product), now_ms) and done
        return _pause_s(windows, now_ms) if done else _RETRY_S

    async def _product(self, product: str, window: Maintenance | None, now_ms: int) -> bool:
        """False = it could not be done, and is tried again soon."""
        try:
            await self._move(product, window)
            await self._charge_again(product, now_ms)
        except StoreError as error:
            log.warning("licenses.later", product=product, why=str(error))
            return False
        except Exception:
            log.exception("licenses.failed", product=product)
            return False
        return True

    async def _move(self, product: str, window: Maintenance | None) -> None:
        looks = self._looks.get(product, 0)
        sold = self._catalog.by_key(product)
        aim = aim_of(self._servers.status(product), window, sold=sold is not None)
        if aim is None or self._still.get(product) == aim:
            return
        # A license that never had a server may still get one.
        keep = LicenseState.PREPARING if aim.status == words.NO_SERVER else None
        while rows := await self._store.to_move(product, aim.state, aim.status, _AT_ONCE, keep=keep):
            now_ms = self._wall()
            # As they are inside the transaction: some may have been deleted or found unpaid meanwhile.
            await self._store.decide([row.id for row in rows], lambda _, row: self._moved_to(row, aim, sold, now_ms))  # noqa: B023 - called at once
            self._moved(product, aim.state)
        if self._looks.get(product, 0) == looks:
            self._still[product] = aim

    async def _charge_again(self, key: str, now_ms: int) -> None:
        """An answer that pays brings the license back (`settled`)."""
        product = self._catalog.by_key(key)
        if product is None or not product.price or not self._charging.repeats:
            return
        rows = await self._store.to_settle(key, now_ms - CHARGE_AGAIN_MS, _AT_ONCE)
        if not rows:
            return
        # What Core has not answered yet says enough.
        on_their_way = set((await self._store.unsettled_events(CORE)).values())

        def charged(_place: int, row: StoredLicense | None) -> LicenseChange | None:
            if row is None or row.deleted_at_ms or row.at_core is not AtCore.KNOWN or not row.payment.to_settle:
                return None
            return self._charging.again(row, product, now_ms)

        if ids := [row.id for row in rows if row.id not in on_their_way]:
            await self._store.decide(ids, charged)

    def _moved_to(self, row: StoredLicense | None, aim: Aim, product: LicenseProduct | None, now_ms: int) -> LicenseChange | None:
        if row is None or row.deleted_at_ms or row.at_core is AtCore.LOST or row.payment.keeps_away:
            return None
        if (row.state, row.status) == (aim.state, aim.status):
            return None
        note = update_note(row, now_ms, aim.state if aim.state is not row.state else None, aim.status)
        change = LicenseChange(row.id, row.version, state=aim.state, status=aim.status, notes=(note,))
        if aim.state is not LicenseState.READY or product is None:
            return change
        return self._charging.first(row, product, change, now_ms)


def revived(row: StoredLicense, now_ms: int) -> LicenseChange:
    """A license that Core had forgotten (AtCore.LOST) and names again: it is told anew, and the next pass moves it."""
    known = replace(row, at_core=AtCore.KNOWN)
    state, status = LicenseState.PREPARING, words.PREPARING
    if row.payment.keeps_away:
        # No pass moves it: the wallet is still what keeps it away.
        state, status = LicenseState.UNAVAILABLE, words.UNPAID
    return LicenseChange(
        row.id, row.version, at_core=AtCore.KNOWN, state=state, status=status, notes=(update_note(known, now_ms, state, status),)
    )


def _pause_s(windows: list[StoredWindow], now_ms: int) -> float:
    edge_ms = maintenance.next_edge_ms(windows, now_ms)
    return PASS_S if edge_ms is None else min(PASS_S, max(edge_ms - now_ms, 1) / 1_000)
