"""What requests about licenses must be. All that can be known to be wrong is refused here, with the path of the field, before anything is
stored. Paths are those of UCloud's JSON."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from serai.core.v1.resources_pb2 import AclEntity, ResourceAclEntry, ResourceOwner, ResourcePermissions
from serai.licenses.v1.license_pb2 import LICENSE_STATE_READY, LICENSE_STATE_UNAVAILABLE, License, LicenseSpecification

from serai_server.errors import InvalidRequest
from serai_server.licenses import words
from serai_server.licenses.access import GRANTABLE, readers_of
from serai_server.licenses.bodies import history_line, registration_note
from serai_server.licenses.products import LicenseCatalog, LicenseProduct
from serai_server.store.license_model import AtCore, LicenseNote, LicenseState, NewLicense, Payment

MOST_ITEMS = 1_000
"""Of one bulk request (facts 2021 §7)."""
MOST_ENTRIES = 1_000
"""Others with permissions on one license, and entries of one request about permissions."""
MOST_LABELS = 100
MOST_LABEL_BYTES = 16 * 1024
"""Of one license, names and values together: each page of a list holds those of 250 licenses."""
_LONGEST_NAME = 250
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_OURS_FIRST = 10**15
"""Ids that are given here have 16 digits: none that Core counts up to, and none that can be guessed from another."""


def is_license_id(text: str) -> bool:
    """Whether a license could have this id; what cannot is unknown without a look into the store."""
    return _ID.fullmatch(text) is not None


def is_ours(text: str) -> bool:
    """Whether it is an id that is given here: Core tells it back of a license that was registered there."""
    return len(text) == len(str(_OURS_FIRST)) and text.isascii() and text.isdecimal() and int(text) >= _OURS_FIRST


def fresh_id() -> str:
    return str(_OURS_FIRST + secrets.randbelow(9 * _OURS_FIRST))


def check_count(items: Sequence[object]) -> None:
    if not 1 <= len(items) <= MOST_ITEMS:
        raise InvalidRequest(f"expected 1 to {MOST_ITEMS} items, found {len(items)}", field="items")


def of_core(license_: License, index: int, catalog: LicenseCatalog, now_ms: int, *, is_new: bool = True) -> NewLicense:
    """The row of a license that Core has. Raises InvalidRequest.

    `is_new` false: Core has had it for a while. If it says that it was prepared once, it was charged then, or may have been: nothing is
    charged again by itself, and an operator sees it. Only Core of 2021 says so, to which a repeated charge would be one that is unpaid; to
    today's it is the same one.

    One that was made here and registered there, and of which nothing is known here any more, gets its old id again, and is registered as
    any other: Core is looked at first (gateway's registrations), and so it is found again and not made a second time.
    """
    at = f"items[{index}]"
    if not is_license_id(license_.id):
        raise InvalidRequest("expected an id of 1 to 48 letters, digits, '-' and '_'", field=f"{at}.id")
    product = _sold(license_.specification, catalog, f"{at}.specification.product")
    check_labels(license_.specification.labels, f"{at}.specification.labels")
    _check_owner(license_.owner, f"{at}.owner")
    # Core has checked them, and a name that is none finds nobody.
    others = [entry for entry in license_.permissions.others if names_somebody(entry.entity)]
    our_id = license_.provider_generated_id
    if not is_ours(our_id):
        row = _row(_Made(license_.id, license_.owner, license_.specification, product), AtCore.KNOWN, now_ms, others=others)
        was_prepared = license_.status.state in (LICENSE_STATE_READY, LICENSE_STATE_UNAVAILABLE)
        return row if is_new or not product.price or not was_prepared else _maybe_paid(row, now_ms)
    owner, specification = license_.owner, license_.specification
    note = registration_note(our_id, owner.created_by, owner.project, specification, now_ms)
    return _row(_Made(our_id, owner, specification, product), AtCore.WANTED, now_ms, others=others, notes=(note,))


def of_user(
    specification: LicenseSpecification, owner: ResourceOwner, index: int, catalog: LicenseCatalog, now_ms: int, *, register: bool
) -> NewLicense:
    """The row of a license that is made here. Raises InvalidRequest."""
    at = f"items[{index}]"
    product = _sold(specification, catalog, f"{at}.product")
    check_labels(specification.labels, f"{at}.labels")
    _check_owner(owner, "owner")
    license_id = fresh_id()
    made = _Made(license_id, owner, specification, product)
    if not register:
        return _row(made, AtCore.UNTOLD, now_ms)
    note = registration_note(license_id, owner.created_by, owner.project, specification, now_ms)
    return _row(made, AtCore.WANTED, now_ms, notes=(note,))


def check_acl(added: Sequence[ResourceAclEntry], deleted: Sequence[AclEntity], at: str) -> None:
    """Raises InvalidRequest for what cannot be given or taken."""
    for index, entry in enumerate(added):
        where = f"{at}.added[{index}]"
        _check_entity(entry.entity, f"{where}.entity")
        if not entry.permissions or not GRANTABLE.issuperset(entry.permissions):
            raise InvalidRequest("expected READ or EDIT, or both; nothing else can be given", field=f"{where}.permissions")
    for index, entity in enumerate(deleted):
        _check_entity(entity, f"{at}.deleted[{index}]")


def check_entries(counts: Iterable[int]) -> None:
    """All of a request together: they are worked out in one transaction, in which everybody else waits. Raises InvalidRequest."""
    if sum(counts) > MOST_ENTRIES:
        raise InvalidRequest(f"expected at most {MOST_ENTRIES:,} permissions in one request", field="items")


def check_labels(labels: Mapping[str, str], path: str) -> None:
    """Raises InvalidRequest."""
    if len(labels) > MOST_LABELS or sum(len(key.encode()) + len(value.encode()) for key, value in labels.items()) > MOST_LABEL_BYTES:
        raise InvalidRequest(f"expected at most {MOST_LABELS} labels, of {MOST_LABEL_BYTES // 1024} KiB in all", field=path)


def acl_bytes(others: Iterable[ResourceAclEntry]) -> bytes:
    return ResourcePermissions(others=others).SerializeToString()


def _maybe_paid(row: NewLicense, now_ms: int) -> NewLicense:
    note = LicenseNote(row.id, now_ms, history_line(now_ms, None, words.MAYBE_PAID))
    return replace(row, payment=Payment.UNSURE, notes=(*row.notes, note))


@dataclass(frozen=True, slots=True)
class _Made:
    """A license as it was asked for, checked."""

    id: str
    owner: ResourceOwner
    specification: LicenseSpecification
    product: LicenseProduct


def _row(
    made: _Made, at_core: AtCore, now_ms: int, *, others: Sequence[ResourceAclEntry] = (), notes: tuple[LicenseNote, ...] = ()
) -> NewLicense:
    owner = made.owner
    first = LicenseNote(made.id, now_ms, history_line(now_ms, LicenseState.PREPARING, words.PREPARING))
    return NewLicense(
        id=made.id,
        digest=_digest(made.id, owner, made.specification),
        owner=owner.created_by,
        project=owner.project,
        product=made.product.key,
        created_at_ms=now_ms,
        at_core=at_core,
        payment=Payment.OPEN,
        status=words.PREPARING,
        body=License(specification=made.specification).SerializeToString(),
        acl=acl_bytes(others),
        readers=readers_of(owner.created_by, owner.project, others),
        notes=(first, *notes),
    )


def _digest(license_id: str, owner: ResourceOwner, specification: LicenseSpecification) -> bytes:
    """What makes two creates the same: who and of what. Labels may differ."""
    product = specification.product.SerializeToString(deterministic=True)
    digest = hashlib.sha256()
    for part in (license_id.encode(), owner.SerializeToString(deterministic=True), product):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _sold(specification: LicenseSpecification, catalog: LicenseCatalog, path: str) -> LicenseProduct:
    product = catalog.find(specification.product)
    if product is None:
        asked = specification.product
        raise InvalidRequest(f"{asked.provider}/{asked.category}/{asked.id} is not a license product of this provider", field=path)
    return product


def _check_owner(owner: ResourceOwner, path: str) -> None:
    if not owner.created_by:
        raise InvalidRequest("expected the username of the license's owner", field=f"{path}.createdBy")
    check_name(owner.created_by, f"{path}.createdBy")
    check_name(owner.project, f"{path}.project")


def check_name(text: str, path: str) -> None:
    """Of a person, a project or a group: lists find licenses by keys made of them. Raises InvalidRequest."""
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise InvalidRequest(f"expected at most {_LONGEST_NAME} printable characters", field=path)


def names_somebody(entity: AclEntity) -> bool:
    try:
        _check_entity(entity, "")
    except InvalidRequest:
        return False
    return True


def _check_entity(entity: AclEntity, path: str) -> None:
    match entity.WhichOneof("entity"):
        case "user":
            named = {"username": entity.user.username}
        case "project_group":
            named = {"projectId": entity.project_group.project_id, "group": entity.project_group.group}
        case _:
            raise InvalidRequest("expected a user or a group of a project", field=path)
    for key, text in named.items():
        if not text:
            raise InvalidRequest("expected a name", field=f"{path}.{key}")
        check_name(text, f"{path}.{key}")
