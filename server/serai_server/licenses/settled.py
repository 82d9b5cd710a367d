"""What Core's answers mean for licenses: one that it knows now, one that it never will, one that is paid for or is not.

Called before the settlement itself is stored, and harmless when repeated: kill -9 in between, and Core is asked and answers once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from serai.events.v1.events_service_pb2 import Event
from serai.licenses.v1.license_pb2 import JOB_BIND_KIND_BIND

from serai_server.licenses import words
from serai_server.licenses.bodies import binding_note, history_line, told_again, update_note
from serai_server.licenses.charges import Charging
from serai_server.licenses.products import LicenseCatalog
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import AtCore, LicenseChange, LicenseNote, LicenseState, Payment, StoredLicense
from serai_server.store.model import EventSettlement, Outcome, StoredEvent

log = structlog.get_logger("serai.licenses")


class LicenseSettlements:
    def __init__(
        self,
        *,
        store: LicenseStore,
        catalog: LicenseCatalog,
        charging: Charging,
        wall: Callable[[], int],
        look: Callable[[str], None],
    ) -> None:
        """`look` has the licenses of a product moved to where they ought to be."""
        self._store = store
        self._catalog = catalog
        self._charging = charging
        self._wall = wall
        self._look = look

    async def settle(self, settled: Sequence[tuple[StoredEvent, EventSettlement]]) -> None:
        """Events of licenses that Core has answered for, in order. Raises what the store raises."""
        now_ms = self._wall()
        steps = [(event.license_id, Event.FromString(event.body), settlement) for event, settlement in settled]

        def decided(place: int, row: StoredLicense | None) -> LicenseChange | None:
            _, event, settlement = steps[place]
            return None if row is None else self._answered(row, event, settlement, now_ms)

        for row in await self._store.decide([license_id for license_id, _, _ in steps], decided):
            if row is not None:
                self._look(row.product)

    def _answered(self, row: StoredLicense, event: Event, settlement: EventSettlement, now_ms: int) -> LicenseChange | None:
        match event.WhichOneof("change"):
            case "license_registration":
                return self._registered(row, settlement, now_ms)
            case "charge":
                change = self._charging.answered(row, event.charge, settlement, now_ms)
                if change is not None and change.payment is not Payment.PAID and not row.payment.keeps_away:
                    log.warning("licenses.not_paid", license=row.id, charge=event.charge.charge_id, why=settlement.detail)
                return _lost(row, settlement, now_ms, change)
            case _ if settlement.outcome is Outcome.JOB_UNKNOWN:
                return _lost(row, settlement, now_ms, None)
            case _:
                return None

    def _registered(self, row: StoredLicense, settlement: EventSettlement, now_ms: int) -> LicenseChange | None:
        if row.at_core is not AtCore.WANTED:
            return None
        if settlement.outcome is not Outcome.DELIVERED or not settlement.license_core_id:
            why = settlement.detail or "it gave no reason"
            log.warning("licenses.not_registered", license=row.id, why=why)
            note = LicenseNote(row.id, now_ms, history_line(now_ms, None, words.refused_by_core(why)))
            return LicenseChange(row.id, row.version, at_core=AtCore.UNTOLD, notes=(note,))
        known = _known(row, settlement.license_core_id)
        change = LicenseChange(
            row.id,
            row.version,
            at_core=AtCore.KNOWN,
            core_id=known.core_id,
            notes=self._first_words(known, now_ms),
            note_of_holder=lambda job_id: _bound_already(known, job_id, now_ms),
        )
        product = self._catalog.by_key(row.product)
        if row.deleted_at_ms or row.state is not LicenseState.READY or product is None:
            return change
        return self._charging.first(known, product, change, now_ms)

    def _first_words(self, known: StoredLicense, now_ms: int) -> tuple[LicenseNote, ...]:
        if known.deleted_at_ms:
            # Core has it now, and no provider can take it away from there.
            return (update_note(known, now_ms, LicenseState.UNAVAILABLE, words.DELETED),)
        line = LicenseNote(known.id, now_ms, history_line(now_ms, None, words.REGISTERED))
        return (line, told_again(known, now_ms))


def _known(row: StoredLicense, core_id: str) -> StoredLicense:
    return replace(row, at_core=AtCore.KNOWN, core_id="" if core_id == row.id else core_id)


def _bound_already(known: StoredLicense, job_id: str, now_ms: int) -> LicenseNote:
    """The history has the line already, from when the job took its seats."""
    return replace(binding_note(known, now_ms, JOB_BIND_KIND_BIND, job_id), body=b"")


def _lost(row: StoredLicense, settlement: EventSettlement, now_ms: int, change: LicenseChange | None) -> LicenseChange | None:
    """The change, and with it the loss of a license that Core does not know. It is kept, for Core may be wrong: it comes back when Core
    names it again (`states.revived`)."""
    if settlement.outcome is not Outcome.JOB_UNKNOWN or row.deleted_at_ms or row.at_core is not AtCore.KNOWN:
        return change
    log.warning("licenses.unknown_at_core", license=row.id, why=settlement.detail)
    away = LicenseState.UNAVAILABLE
    line = history_line(now_ms, away if row.state is not away else None, words.UNKNOWN_AT_CORE)
    change = change or LicenseChange(row.id, row.version)
    notes = (*change.notes, LicenseNote(row.id, now_ms, line))
    return replace(change, state=away, status=words.UNKNOWN_AT_CORE, at_core=AtCore.LOST, notes=notes)
