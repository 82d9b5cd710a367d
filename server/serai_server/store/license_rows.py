"""Rows of licenses to the model and back, and what a change makes of one; columns stand in the order of tables.py."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from serai_server.store.license_model import (
    AtCore,
    Claim,
    LicenseChange,
    LicenseState,
    Line,
    NewLicense,
    Payment,
    StoredLicense,
    StoredServer,
    StoredWindow,
)
from serai_server.store.rows import Row, Value

FIELDS = 17
"""The first columns of a license are StoredLicense's fields; those after them are made of these."""

CHANGING = (
    "state",
    "version",
    "deleted_at_ms",
    "at_core",
    "core_id",
    "payment",
    "charges",
    "payment_at_ms",
    "status",
    "body",
    "acl",
    "status_mark",
    "folded",
)
"""Columns of a license that change after its creation."""


def as_license(row: Row) -> StoredLicense:
    values = list(row)
    values[1], values[9], values[11] = LicenseState(row[1]), AtCore(row[9]), Payment(row[11])
    return StoredLicense(*values)


def as_claim(row: Row) -> Claim:
    return Claim(*row)


def as_line(row: Row) -> Line:
    return Line(row[0], int(row[1]), int(row[2]), int(row[3]))


def as_server(row: Row) -> StoredServer:
    return StoredServer(*row)


def as_window(row: Row) -> StoredWindow:
    return StoredWindow(*row)


def first_license(given: NewLicense) -> StoredLicense:
    """A new license, at version 1."""
    return StoredLicense(
        id=given.id,
        state=given.state,
        version=1,
        digest=given.digest,
        owner=given.owner,
        project=given.project,
        product=given.product,
        created_at_ms=given.created_at_ms,
        deleted_at_ms=0,
        at_core=given.at_core,
        core_id="",
        payment=given.payment,
        charges=0,
        payment_at_ms=0,
        status=given.status,
        body=given.body,
        acl=given.acl,
    )


def changed_license(row: StoredLicense, change: LicenseChange) -> StoredLicense:
    """The row after the change, one version on."""
    return replace(
        row,
        version=row.version + 1,
        state=row.state if change.state is None else change.state,
        deleted_at_ms=row.deleted_at_ms if change.deleted_at_ms is None else change.deleted_at_ms,
        at_core=row.at_core if change.at_core is None else change.at_core,
        core_id=row.core_id if change.core_id is None else change.core_id,
        payment=row.payment if change.payment is None else change.payment,
        charges=row.charges if change.charges is None else change.charges,
        payment_at_ms=row.payment_at_ms if change.payment_at_ms is None else change.payment_at_ms,
        status=row.status if change.status is None else change.status,
        body=row.body if change.body is None else change.body,
        acl=row.acl if change.acl is None else change.acl,
    )


def license_row(row: StoredLicense) -> tuple[Value, ...]:
    """All columns."""
    provider, category, product_id = parts(row.product)
    return (
        row.id,
        int(row.state),
        row.version,
        row.digest,
        row.owner,
        row.project,
        row.product,
        row.created_at_ms,
        row.deleted_at_ms,
        int(row.at_core),
        row.core_id,
        int(row.payment),
        row.charges,
        row.payment_at_ms,
        row.status,
        row.body,
        row.acl,
        provider,
        category,
        product_id,
        status_mark(row.status),
        _folded(row),
    )


def changing_license(row: StoredLicense) -> tuple[Value, ...]:
    """The columns of CHANGING, then the id."""
    return (
        int(row.state),
        row.version,
        row.deleted_at_ms,
        int(row.at_core),
        row.core_id,
        int(row.payment),
        row.charges,
        row.payment_at_ms,
        row.status,
        row.body,
        row.acl,
        status_mark(row.status),
        _folded(row),
        row.id,
    )


def parts(product: str) -> tuple[str, str, str]:
    """Provider, category and id of a product's key."""
    provider, _, rest = product.partition("/")
    category, _, product_id = rest.partition("/")
    return provider, category, product_id


def status_mark(status: str) -> int:
    """A number for a status, of 63 bits: two that differ have different ones, as far as SHA-256 goes."""
    return int.from_bytes(hashlib.sha256(status.encode()).digest()[:8], "big") >> 1 if status else 0


def _folded(row: StoredLicense) -> str:
    """What is searched, in one case for all of Unicode, which neither database could do alike."""
    return "\n".join((row.id, row.core_id, row.product, row.owner, row.status)).casefold()
