"""New licenses, notes and jobs with claims for tests of the store, with only what a test cares about."""

from __future__ import annotations

import hashlib

import msgspec
from serai_server.store.license_model import AtCore, LicenseChange, LicenseNote, LicenseState, NewClaim, NewLicense, Payment, StoredLicense
from serai_server.store.model import JobChange, NewJob, State
from serai_server.store.sql_store import SqlStore

from fakes.store_rows import new_job

PRODUCT = "example/example-license/matlab"
OTHER = "example/example-license/ansys"


def new_license(
    license_id: str,
    *,
    text: str = "",
    owner: str = "alice",
    product: str = PRODUCT,
    created_at_ms: int = 1_000,
    readers: tuple[str, ...] = ("u:alice",),
    state: LicenseState = LicenseState.READY,
    status: str = "",
) -> NewLicense:
    """`text` is the license's content: two licenses of one id and other texts are a conflict."""
    body = f"license {license_id} {text}".encode()
    return NewLicense(
        id=license_id,
        digest=hashlib.sha256(body).digest(),
        owner=owner,
        project="",
        product=product,
        created_at_ms=created_at_ms,
        at_core=AtCore.KNOWN,
        payment=Payment.OPEN,
        status=status,
        body=body,
        acl=b"acl",
        readers=readers,
        state=state,
        notes=(LicenseNote(license_id, created_at_ms, b"first"),),
    )


def note(license_id: str, text: str = "line", *, event: str = "", at_ms: int = 2_000) -> LicenseNote:
    return LicenseNote(license_id, at_ms, text.encode(), event.encode())


def job_with(job_id: str, *claims: tuple[str, str, int], events: int = 1) -> NewJob:
    """`claims`: license, product and seats."""
    return msgspec.structs.replace(new_job(job_id, events=events), claims=tuple(NewClaim(*c) for c in claims))


def submitted(job_id: str, version: int = 1, at_ms: int = 3_000) -> JobChange:
    """The step with which a job takes its seats."""
    return JobChange(job_id, version, submitted_at_ms=at_ms)


def over(job_id: str, version: int, state: State = State.SUCCESS) -> JobChange:
    return JobChange(job_id, version, state=state, ended_at_ms=4_000)


async def move(store: SqlStore, license_id: str, state: LicenseState | None = None, *, deleted: bool = False, status: str = "") -> None:
    """Whatever version it is at."""

    def decide(_: int, row: StoredLicense | None) -> LicenseChange:
        assert row is not None
        return LicenseChange(row.id, row.version, state=state, status=status, deleted_at_ms=9_000 if deleted else None)

    await store.licenses.decide([license_id], decide)
