"""The console's queries: what is no number of the wanted kind is refused in words, however long it is."""

from __future__ import annotations

import pytest
from serai_gateway.console.calls import Query
from serai_gateway.errors import GatewayError


@pytest.mark.parametrize(
    "text",
    ["0", "101", "-1", "1.5", "x", "²", "0" * 11 + "1" + "1" * 9, "0" * 11 + "9" * 9_000],
    ids=["less", "more", "negative", "fraction", "word", "no digit of ours", "longer than it looks", "longer than Python reads"],
)
def test_a_number_outside_of_its_bounds_is_refused(text: str) -> None:
    """With the bounds; nothing else leaves the reader."""
    with pytest.raises(GatewayError, match="expected a number from 1 to 100"):
        Query(f"tail={text}".encode()).number("tail", 5, 1, 100)


@pytest.mark.parametrize(("query", "number"), [("tail=1", 1), ("tail=100", 100), ("tail=007", 7), ("tail=", 5), ("", 5)])
def test_a_number_within_them_is_read(query: str, number: int) -> None:
    """What is left out or empty is the default."""
    assert Query(query.encode()).number("tail", 5, 1, 100) == number
