"""What browse and search ask of the store: flags, order and pages, from the wire's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serai.licenses.v1.licenses_service_pb2 import (
    SORT_DIRECTION_DESCENDING,
    SORT_DIRECTION_UNSPECIFIED,
    BrowseRequest,
    LicenseIncludeFlags,
    SearchRequest,
)

from serai_server.errors import InvalidRequest
from serai_server.licenses import access
from serai_server.store.license_model import LicenseFilter, LicenseSort

PAGE_SIZES = frozenset({10, 25, 50, 100, 250})
"""Of a PageV2; anything else is DEFAULT_PAGE_SIZE (facts 2021 §7)."""
DEFAULT_PAGE_SIZE = 50
MOST_SKIPPED = 10_000
MOST_IDS = 1_000
_LONGEST_TEXT = 1_000

_SORTS: Mapping[str, LicenseSort] = {
    "": LicenseSort.CREATED_AT,
    "createdAt": LicenseSort.CREATED_AT,
    "createdBy": LicenseSort.CREATED_BY,
    "product": LicenseSort.PRODUCT,
    "category": LicenseSort.CATEGORY,
    "provider": LicenseSort.PROVIDER,
    "state": LicenseSort.STATE,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A page that somebody asks for."""

    condition: LicenseFilter
    size: int
    token: str
    skip: int


def browsed(request: BrowseRequest, actor: access.Actor) -> Asked:
    """Raises InvalidRequest."""
    return _asked(request, actor, "", "")


def searched(request: SearchRequest, actor: access.Actor) -> Asked:
    """Raises InvalidRequest."""
    if not 1 <= len(request.query) <= _LONGEST_TEXT or "\0" in request.query:
        raise InvalidRequest(f"expected 1 to {_LONGEST_TEXT:,} characters to search for", field="query")
    return _asked(request, actor, request.query, "flags.")


def _asked(request: BrowseRequest | SearchRequest, actor: access.Actor, text: str, at: str) -> Asked:
    sort = _SORTS.get(request.sort_by)
    if sort is None:
        raise InvalidRequest(f"expected one of {', '.join(name for name in _SORTS if name)}", field="sortBy")
    skip = request.items_to_skip
    if not 0 <= skip <= MOST_SKIPPED:
        raise InvalidRequest(f"expected 0 to {MOST_SKIPPED:,}", field="itemsToSkip")
    direction = request.sort_direction
    descending = direction == SORT_DIRECTION_DESCENDING or (direction == SORT_DIRECTION_UNSPECIFIED and sort is LicenseSort.CREATED_AT)
    return Asked(
        condition=_condition(request.flags, actor, text, sort, at, descending=descending),
        size=request.items_per_page if request.items_per_page in PAGE_SIZES else DEFAULT_PAGE_SIZE,
        token=request.next,
        skip=skip,
    )


def _condition(
    flags: LicenseIncludeFlags, actor: access.Actor, text: str, sort: LicenseSort, at: str, *, descending: bool
) -> LicenseFilter:
    for name in (
        "filterCreatedBy",
        "filterProvider",
        "filterProductId",
        "filterProductCategory",
        "hideProductId",
        "hideProductCategory",
        "hideProvider",
    ):
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        value: str = getattr(flags, snake)
        if "\0" in value or len(value) > _LONGEST_TEXT:
            raise InvalidRequest(f"expected at most {_LONGEST_TEXT:,} characters, and no NUL", field=f"{at}{name}")
    return LicenseFilter(
        readers=access.readers_for(actor),
        owner=flags.filter_created_by,
        created_after_ms=flags.filter_created_after if flags.HasField("filter_created_after") else None,
        created_before_ms=flags.filter_created_before if flags.HasField("filter_created_before") else None,
        provider=flags.filter_provider,
        category=flags.filter_product_category,
        product_id=flags.filter_product_id,
        ids=_ids(flags.filter_ids, f"{at}filterIds"),
        core_ids=_ids(flags.filter_provider_ids, f"{at}filterProviderIds"),
        hide_provider=flags.hide_provider,
        hide_category=flags.hide_product_category,
        hide_product_id=flags.hide_product_id,
        text=text,
        sort=sort,
        descending=descending,
    )


def _ids(text: str, path: str) -> tuple[str, ...] | None:
    """None = no condition."""
    if not text:
        return None
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(found) > MOST_IDS:
        raise InvalidRequest(f"expected at most {MOST_IDS:,} ids with commas between", field=path)
    # What no license can be called finds nothing, and no database sees it.
    return tuple(one for one in found if one.replace("-", "").replace("_", "").isalnum() and one.isascii())
