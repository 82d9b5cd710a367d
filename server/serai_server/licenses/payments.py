"""The operator's use cases about money: what became of a license's charge, and what is to be done where Core's word does not settle it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serai.core.v1.resources_pb2 import ResourceOwner
from serai.licenses.v1 import license_servers_service_pb2 as pb

from serai_server.errors import InvalidRequest, LicenseUnknown, WrongState
from serai_server.licenses.bodies import registration_note, specification_of
from serai_server.licenses.charges import Charging, taken_for_paid
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.licenses.requests import is_license_id
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, Payment, StoredLicense
from serai_server.store.model import CORE

_MOST = 1_000
"""Of one product in a list."""


class LicensePayments:
    """All may raise SeraiError and what the store raises."""

    def __init__(
        self, *, store: LicenseStore, catalog: LicenseCatalog, charging: Charging, wall: Callable[[], int], look: Callable[[str], None]
    ) -> None:
        """`look` has the licenses of a product moved to where they ought to be."""
        self._store = store
        self._catalog = catalog
        self._charging = charging
        self._wall = wall
        self._look = look

    async def get(self, name: str) -> pb.LicensePayment:
        return self._report(await self._find(name))

    async def list(self) -> Sequence[pb.LicensePayment]:
        """Those that are there and UNPAID or UNSURE, by product and age; of a product the oldest 1,000."""
        ever = self._wall() + 1
        products = sorted(await self._store.count())
        return [self._report(row) for product in products for row in await self._store.to_settle(product, ever, _MOST)]

    async def set(self, name: str, decision: pb.PaymentDecision.ValueType) -> pb.LicensePayment:
        match decision:
            case pb.PAYMENT_DECISION_PAID:
                return await self._decide(name, lambda row: taken_for_paid(row, self._wall()))
            case pb.PAYMENT_DECISION_CHARGE_AGAIN:
                return await self._charge_again(name)
            case _:
                raise InvalidRequest("expected PAID or CHARGE_AGAIN", field="decision")

    async def _charge_again(self, name: str) -> pb.LicensePayment:
        row = await self._find(name)
        if row.id in (await self._store.unsettled_events(CORE)).values():
            raise WrongState(f"UCloud has not answered everything about license {row.id} yet; ask again when it has")

        def charged(stored: StoredLicense) -> LicenseChange:
            return self._charging.again(stored, self._price_of(stored), self._wall())

        return await self._decide(name, charged)

    def _price_of(self, row: StoredLicense) -> LicenseProduct:
        product = self._catalog.by_key(row.product)
        if product is None or not product.price:
            raise WrongState(f"the settings have no price for {row.product}; nothing can be charged for license {row.id}")
        if row.at_core is not AtCore.KNOWN:
            raise WrongState(f"UCloud does not know license {row.id}, so it cannot charge it")
        return product

    async def _decide(self, name: str, decided: Callable[[StoredLicense], LicenseChange]) -> pb.LicensePayment:
        found = await self._find(name)

        def step(_: int, row: StoredLicense | None) -> LicenseChange:
            stored = _there(row, name)
            if not stored.payment.to_settle:
                raise WrongState(f"license {stored.id} is {stored.payment.name}: there is nothing to decide (only for UNPAID and UNSURE)")
            return decided(stored)

        (row,) = await self._store.decide([found.id], step)
        self._look(found.product)
        return self._report(_there(row, name))

    async def register_again(self, name: str) -> None:
        """A new registration; the gateway looks first whether Core has the license."""
        found = await self._find(name)
        now_ms = self._wall()

        def wanted(_: int, row: StoredLicense | None) -> LicenseChange:
            stored = _there(row, name)
            if stored.deleted_at_ms:
                raise WrongState(f"license {stored.id} was deleted")
            if stored.at_core is not AtCore.UNTOLD:
                raise WrongState(
                    f"license {stored.id} is {stored.at_core.name} at UCloud; only one that stays here can be registered again"
                )
            note = registration_note(stored.id, stored.owner, stored.project, specification_of(stored), now_ms)
            return LicenseChange(stored.id, stored.version, at_core=AtCore.WANTED, notes=(note,))

        await self._store.decide([found.id], wanted)

    async def _find(self, name: str) -> StoredLicense:
        found = await self._store.find([name]) if is_license_id(name) else {}
        return _there(found.get(name), name)

    def _report(self, row: StoredLicense) -> pb.LicensePayment:
        return pb.LicensePayment(
            license_id=row.id,
            core_id=row.core_id,
            product=row.product,
            owner=ResourceOwner(created_by=row.owner, project=row.project or None),
            state=_STATES[row.payment],
            attempts=row.charges,
            changed_at_ms=row.payment_at_ms,
            repeats=self._charging.repeats,
        )


_STATES = {
    Payment.OPEN: pb.LICENSE_PAYMENT_STATE_OPEN,
    Payment.ASKED: pb.LICENSE_PAYMENT_STATE_ASKED,
    Payment.PAID: pb.LICENSE_PAYMENT_STATE_PAID,
    Payment.UNSURE: pb.LICENSE_PAYMENT_STATE_UNSURE,
    Payment.UNPAID: pb.LICENSE_PAYMENT_STATE_UNPAID,
    Payment.AGAIN: pb.LICENSE_PAYMENT_STATE_AGAIN,
}


def _there(row: StoredLicense | None, name: str) -> StoredLicense:
    if row is None:
        raise LicenseUnknown(f"there is no license {name[:64]!r}; `serai licenses list` shows all", field="license_id")
    return row
