"""Lists of licenses in pages. A token names the place after a row in one order, so pages stay right while licenses come and go.

The usual list (by age, of one workspace) walks the index of its readers and stops when the page is full, however many licenses there are.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, union

from serai_server.store.license_model import LicenseFilter, LicensePage, LicenseSort, StoredLicense
from serai_server.store.license_reads import LICENSE, THERE
from serai_server.store.license_rows import as_license, parts
from serai_server.store.reads import Reader
from serai_server.store.tables import license_readers, licenses

_WALKED = 100
"""Most readers whose indexes are walked side by side; SQLite takes no more than 500."""

_KEYS = {
    LicenseSort.CREATED_AT: licenses.c.created_at_ms,
    LicenseSort.CREATED_BY: licenses.c.owner,
    LicenseSort.PRODUCT: licenses.c.product_id,
    LicenseSort.CATEGORY: licenses.c.category,
    LicenseSort.PROVIDER: licenses.c.provider,
    LicenseSort.STATE: licenses.c.state,
}

Place = tuple[int | str, str]
"""Value of the key and id of the last row that was given."""


class Pages:
    def __init__(self, reader: Reader) -> None:
        self._run = reader.run

    async def page(self, condition: LicenseFilter, limit: int, token: str, skip: int) -> LicensePage:
        place = read_token(condition, token) if token else None
        query = page_query(condition, limit + 1, place, skip)
        if query is None:
            return LicensePage((), "")
        found = await self._run(query, as_license)
        page = tuple(found[:limit])
        return LicensePage(page, make_token(condition, page[-1]) if page and len(found) > limit else "")


def page_query(condition: LicenseFilter, most: int, place: Place | None, skip: int) -> Select[Any] | None:
    """None = it can find nothing, whatever there is."""
    readers = None if condition.readers is None else _holdable(condition.readers)
    if readers == () or _has_nul(condition):
        return None
    filters = _filters(condition)
    named = condition.ids is not None or condition.core_ids is not None
    if readers is None or named or condition.sort is not LicenseSort.CREATED_AT or len(readers) > _WALKED:
        if readers is not None:
            filters.append(licenses.c.id.in_(select(license_readers.c.license_id).where(license_readers.c.reader.in_(readers))))
        key, id_ = _KEYS[condition.sort], licenses.c.id
        query = select(*LICENSE).where(THERE, *filters, *_after(condition, key, id_, place))
        return _ordered(query, condition, key, id_).limit(most).offset(skip)
    walks = [_walk(condition, reader, filters, place).limit(most + skip).subquery() for reader in readers]
    ids = union(*(select(w) for w in walks)).subquery()
    query = select(*LICENSE).join(ids, ids.c.license_id == licenses.c.id)
    return _ordered(query, condition, ids.c.created_at_ms, ids.c.license_id).limit(most).offset(skip)


def _walk(condition: LicenseFilter, reader: str, filters: list[ColumnElement[bool]], place: Place | None) -> Select[Any]:
    """Deleted licenses have no readers, so they need no look at their row."""
    c = license_readers.c
    query = select(c.created_at_ms, c.license_id).where(c.reader == reader, *_ages(condition, c.created_at_ms))
    if filters:
        query = query.join(licenses, licenses.c.id == c.license_id).where(*filters)
    return _ordered(query.where(*_after(condition, c.created_at_ms, c.license_id, place)), condition, c.created_at_ms, c.license_id)


def _ordered(query: Select[Any], condition: LicenseFilter, key: ColumnElement[Any], id_: ColumnElement[str]) -> Select[Any]:
    if condition.descending:
        return query.order_by(key.desc(), id_.desc())
    return query.order_by(key, id_)


def _after(
    condition: LicenseFilter, key: ColumnElement[Any], id_: ColumnElement[str], place: Place | None
) -> tuple[ColumnElement[bool], ...]:
    if place is None:
        return ()
    row = tuple_(key, id_)
    return (row < place if condition.descending else row > place,)


def _ages(condition: LicenseFilter, created_at_ms: ColumnElement[int]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if condition.created_after_ms is not None:
        found.append(created_at_ms >= condition.created_after_ms)
    if condition.created_before_ms is not None:
        found.append(created_at_ms <= condition.created_before_ms)
    return found


def _filters(condition: LicenseFilter) -> list[ColumnElement[bool]]:
    """All but readers."""
    c = licenses.c
    found = _ages(condition, c.created_at_ms)
    wanted = ((c.owner, condition.owner), (c.provider, condition.provider), (c.category, condition.category))
    found += [column == value for column, value in (*wanted, (c.product_id, condition.product_id)) if value]
    hidden = ((c.provider, condition.hide_provider), (c.category, condition.hide_category), (c.product_id, condition.hide_product_id))
    found += [column != value for column, value in hidden if value and "\0" not in value]
    if condition.ids is not None:
        found.append(c.id.in_(_holdable(condition.ids)))
    if condition.core_ids is not None:
        wanted_ids = _holdable(condition.core_ids)
        found.append(or_(and_(c.core_id.in_(wanted_ids), c.core_id != ""), and_(c.core_id == "", c.id.in_(wanted_ids))))
    if condition.text:
        found.append(c.folded.contains(condition.text.casefold(), autoescape=True))
    return found


def _holdable(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, without those that PostgreSQL's texts cannot hold."""
    return tuple(t for t in dict.fromkeys(texts) if "\0" not in t)


def _has_nul(condition: LicenseFilter) -> bool:
    """It asks for a text that PostgreSQL cannot hold, so that is nowhere."""
    c = condition
    texts = (c.owner, c.provider, c.category, c.product_id, c.text)
    return any("\0" in t for t in texts)


def make_token(condition: LicenseFilter, row: StoredLicense) -> str:
    """The place after the license in the order of a list. For machines; may change between versions."""
    provider, category, product_id = parts(row.product)
    key = {
        LicenseSort.CREATED_AT: row.created_at_ms,
        LicenseSort.CREATED_BY: row.owner,
        LicenseSort.PRODUCT: product_id,
        LicenseSort.CATEGORY: category,
        LicenseSort.PROVIDER: provider,
        LicenseSort.STATE: int(row.state),
    }[condition.sort]
    place = [int(condition.sort), condition.descending, key, row.id]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read_token(condition: LicenseFilter, token: str) -> Place:
    """Raises ValueError for what `make_token` did not make for this order."""
    try:
        place: object = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError, ValueError, RecursionError) as error:
        raise ValueError("not a token of this store") from error
    match place:
        case [int(sort), bool(descending), (int() | str()) as key, str(license_id)]:
            number = condition.sort in (LicenseSort.CREATED_AT, LicenseSort.STATE)
            if (sort, descending) != (int(condition.sort), condition.descending):
                raise ValueError("a token of another order; ask with the order of the page before, or without a token")
            if isinstance(key, str) is number or (number and not 0 <= int(key) < 2**63) or "\0" in f"{key}{license_id}":
                raise ValueError("not a token of this store")
            return key, license_id
        case _:
            raise ValueError("not a token of this store")
