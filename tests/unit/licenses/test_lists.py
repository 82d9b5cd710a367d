"""What browse and search ask of the store."""

from __future__ import annotations

import pytest
from serai.licenses.v1.licenses_service_pb2 import SORT_DIRECTION_ASCENDING, BrowseRequest, LicenseIncludeFlags, SearchRequest
from serai_server.errors import InvalidRequest
from serai_server.licenses.access import OPERATOR, Actor
from serai_server.licenses.lists import browsed, searched
from serai_server.store.license_model import LicenseSort


@pytest.mark.parametrize(
    ("asked", "given"), [(10, 10), (25, 25), (50, 50), (100, 100), (250, 250), (0, 50), (11, 50), (-1, 50), (100_000, 50)]
)
def test_sizes_of_pages(asked: int, given: int) -> None:
    """10, 25, 50, 100 and 250 are; anything else is 50 (PageV2)."""
    assert browsed(BrowseRequest(items_per_page=asked), OPERATOR).size == given


def test_flags_become_conditions() -> None:
    """Each filter its own; ids are comma-separated, and those that none can be are left out."""
    flags = LicenseIncludeFlags(
        filter_created_by="ann",
        filter_created_after=5,
        filter_created_before=0,
        filter_provider="p",
        filter_product_id="i",
        filter_product_category="c",
        filter_ids="1, 2,,1,a b",
        filter_provider_ids="x",
        hide_provider="hp",
        hide_product_category="hc",
        hide_product_id="hi",
    )
    condition = browsed(BrowseRequest(flags=flags), Actor("ann")).condition
    assert (condition.owner, condition.created_after_ms, condition.created_before_ms) == ("ann", 5, 0)
    assert (condition.provider, condition.category, condition.product_id) == ("p", "c", "i")
    assert (condition.hide_provider, condition.hide_category, condition.hide_product_id) == ("hp", "hc", "hi")
    assert (condition.ids, condition.core_ids) == (("1", "2"), ("x",))
    assert condition.readers == ("made\n\nann", "user\n\nann")


def test_the_order_is_newest_first_unless_asked_otherwise() -> None:
    """Other orders begin at their beginning."""
    assert browsed(BrowseRequest(), OPERATOR).condition.descending
    by_state = browsed(BrowseRequest(sort_by="state"), OPERATOR).condition
    assert (by_state.sort, by_state.descending) == (LicenseSort.STATE, False)
    assert not browsed(BrowseRequest(sort_direction=SORT_DIRECTION_ASCENDING), OPERATOR).condition.descending


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (BrowseRequest(sort_by="color"), "sortBy"),
        (BrowseRequest(items_to_skip=-1), "itemsToSkip"),
        (BrowseRequest(items_to_skip=10_001), "itemsToSkip"),
        (BrowseRequest(flags=LicenseIncludeFlags(filter_created_by="a\0")), "filterCreatedBy"),
        (BrowseRequest(flags=LicenseIncludeFlags(filter_ids=",".join(map(str, range(1_001))))), "filterIds"),
        (SearchRequest(query=""), "query"),
        (SearchRequest(query="x" * 1_001), "query"),
        (SearchRequest(query="x", flags=LicenseIncludeFlags(hide_provider="\0")), "flags.hideProvider"),
    ],
)
def test_what_is_wrong_is_named(request_: BrowseRequest | SearchRequest, field: str) -> None:
    """With the path of the field."""
    with pytest.raises(InvalidRequest) as caught:
        browsed(request_, OPERATOR) if isinstance(request_, BrowseRequest) else searched(request_, OPERATOR)
    assert caught.value.field == field
