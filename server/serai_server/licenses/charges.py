"""What is charged for a license, and what Core's answers make of it: the one unit of each license, asked for when it is first READY.

Generation 2026 is told a total in a scope of the license, so saying it again costs nobody anything: a charge without a clean answer is said
again, unchanged, until there is one. Generation 2021 takes what is left of a wallet that is too small, says the same of that as of a wallet
that is empty, and calls a repeated charge unpaid (facts 2021 §0.2, §2.2). So nothing is ever repeated there unless an operator says so.
All of it is pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from serai.events.v1.events_service_pb2 import Charge

from serai_server.licenses import words
from serai_server.licenses.bodies import attempt_of, charge_note, history_line, update_note
from serai_server.licenses.products import LicenseProduct
from serai_server.store.license_model import AtCore, LicenseChange, LicenseNote, LicenseState, Payment, StoredLicense
from serai_server.store.model import EventSettlement, Outcome


@dataclass(frozen=True, slots=True)
class Charging:
    repeats: bool
    """A charge may be said again: generation 2026."""

    def first(self, row: StoredLicense, product: LicenseProduct, change: LicenseChange, now_ms: int) -> LicenseChange:
        """The change, and with it the charge of a license that is READY. Nothing is charged that Core does not know."""
        if row.payment is not Payment.OPEN or row.at_core is not AtCore.KNOWN:
            return change
        if not product.price:
            return replace(change, payment=Payment.PAID, payment_at_ms=now_ms)
        return self._asked(row, product, replace(change, payment=Payment.ASKED), now_ms)

    def again(self, row: StoredLicense, product: LicenseProduct, now_ms: int) -> LicenseChange:
        """Of one that is UNPAID or UNSURE. It stands as it stood until Core answers."""
        payment = Payment.AGAIN if row.payment is Payment.UNPAID else Payment.ASKED
        return self._asked(row, product, LicenseChange(row.id, row.version, payment=payment), now_ms)

    def _asked(self, row: StoredLicense, product: LicenseProduct, change: LicenseChange, now_ms: int) -> LicenseChange:
        note = charge_note(row, product, 1 if self.repeats else row.charges + 1, now_ms)
        return replace(change, charges=row.charges + 1, payment_at_ms=now_ms, notes=(*change.notes, note))

    def answered(self, row: StoredLicense, charge: Charge, settlement: EventSettlement, now_ms: int) -> LicenseChange | None:
        """A deleted license has its payment noted all the same. One that is paid for stays so, whatever is said later."""
        if row.payment in (Payment.OPEN, Payment.PAID):
            return None
        if settlement.outcome is Outcome.DELIVERED and not settlement.detail:
            return _noted(row, Payment.PAID, words.paid(charge.charge_id), now_ms)
        if not self.repeats and attempt_of(charge) != row.charges:
            return None
        if settlement.outcome is Outcome.INSUFFICIENT_FUNDS:
            return self._unpaid(row, charge.charge_id, now_ms)
        # Of one that was not paid before, only a clean answer brings it back.
        payment = Payment.UNPAID if row.payment.keeps_away else Payment.UNSURE
        change = _noted(row, payment, words.unsure(charge.charge_id, settlement.detail), now_ms)
        # Asked once more, it has the same id: if Core had taken it after all, it takes nothing. Also when a store is put back that still
        # has this charge on its way.
        return change if self.repeats else replace(change, charges=row.charges - 1)

    def _unpaid(self, row: StoredLicense, charge_id: str, now_ms: int) -> LicenseChange | None:
        if row.payment.keeps_away or row.deleted_at_ms or row.at_core is not AtCore.KNOWN:
            return _noted(row, Payment.UNPAID, words.not_paid(charge_id), now_ms)
        away, status = LicenseState.UNAVAILABLE, words.unpaid(again=self.repeats)
        change = _noted(row, Payment.UNPAID, words.not_paid(charge_id), now_ms)
        return replace(change, state=away, status=status, notes=(*change.notes, update_note(row, now_ms, away, status)))


def taken_for_paid(row: StoredLicense, now_ms: int) -> LicenseChange:
    """By an operator. A license that was kept away comes back with the next pass of `states`."""
    return _noted(row, Payment.PAID, words.TAKEN_FOR_PAID, now_ms)


def _noted(row: StoredLicense, payment: Payment, line: str, now_ms: int) -> LicenseChange:
    note = LicenseNote(row.id, now_ms, history_line(now_ms, None, line))
    # An answer that is heard twice is one line.
    notes = () if payment is row.payment else (note,)
    return LicenseChange(row.id, row.version, payment=payment, payment_at_ms=now_ms, notes=notes)
