"""What is noted of a license, in its history and in the event log, as the protobuf bytes that the store keeps."""

from __future__ import annotations

from dataclasses import replace

from serai.core.v1.resources_pb2 import ResourceOwner
from serai.events.v1.events_service_pb2 import Charge, Event, LicenseRegistration
from serai.licenses.v1.license_pb2 import JobBinding, JobBindKind, License, LicenseSpecification, LicenseUpdate
from serai.licenses.v1.license_pb2 import LicenseState as WireState

from serai_server.licenses import words
from serai_server.licenses.products import LicenseProduct
from serai_server.store.license_model import AtCore, LicenseNote, LicenseState, StoredLicense


def history_line(at_ms: int, state: LicenseState | None, status: str) -> bytes:
    """A line of history by itself."""
    return _update(state, status, None, at_ms).SerializeToString()


def update_note(
    stored: StoredLicense, at_ms: int, state: LicenseState | None = None, status: str = "", binding: JobBinding | None = None
) -> LicenseNote:
    """A change that is noted, and told to Core when it knows the license."""
    return LicenseNote(
        stored.id, at_ms, _update(state, status, binding, at_ms).SerializeToString(), _told(stored, _update(state, status, binding, 0))
    )


def told_again(stored: StoredLicense, at_ms: int) -> LicenseNote:
    """How the license stands, for Core alone."""
    return LicenseNote(stored.id, at_ms, b"", _told(stored, _update(stored.state, stored.status, None, 0)))


def binding_note(stored: StoredLicense, at_ms: int, kind: JobBindKind.ValueType, job_id: str) -> LicenseNote:
    """A job that is none of Core's, by its id, is no news to it: Core of 2021 would refuse the whole call (facts 2021 §5.3)."""
    note = update_note(stored, at_ms, binding=JobBinding(kind=kind, job=job_id))
    return note if job_id.isdecimal() else replace(note, event=b"")


def charge_note(stored: StoredLicense, product: LicenseProduct, attempt: int, at_ms: int) -> LicenseNote:
    """The one unit of a license. To Core an id that it has seen is the same charge (`charges`)."""
    charge = Charge(
        charge_id=f"license-{stored.id}-{attempt}",
        units=1,
        number_of_products=1,
        description=f"License {stored.core_id or stored.id}",
        total_units=1,
        total_usage=product.price,
        owner=ResourceOwner(created_by=stored.owner, project=stored.project or None),
        product=product.reference,
    )
    event = Event(license_id=stored.id, license_core_id=stored.core_id, charge=charge)
    return LicenseNote(stored.id, at_ms, history_line(at_ms, None, words.asked_to_pay(charge.charge_id)), event.SerializeToString())


def attempt_of(charge: Charge) -> int:
    """Which attempt a charge was."""
    return int(charge.charge_id.rpartition("-")[2])


def registration_note(license_id: str, owner: str, project: str, specification: LicenseSpecification, at_ms: int) -> LicenseNote:
    """Core shall know a license that was made here."""
    registration = LicenseRegistration(
        spec=specification,
        provider_generated_id=license_id,
        owner=ResourceOwner(created_by=owner, project=project or None),
    )
    return LicenseNote(license_id, at_ms, b"", Event(license_id=license_id, license_registration=registration).SerializeToString())


def specification_of(stored: StoredLicense) -> LicenseSpecification:
    return License.FromString(stored.body).specification


def _told(stored: StoredLicense, update: LicenseUpdate) -> bytes:
    if stored.at_core is not AtCore.KNOWN:
        return b""
    return Event(license_id=stored.id, license_core_id=stored.core_id, license_update=update).SerializeToString()


def _update(state: LicenseState | None, status: str, binding: JobBinding | None, at_ms: int) -> LicenseUpdate:
    return LicenseUpdate(
        timestamp=at_ms,
        state=None if state is None else WireState.ValueType(int(state)),
        status=status or None,
        binding=binding,
    )
