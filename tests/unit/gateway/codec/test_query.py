"""The query of a GET: which message it means, and what is said of one that means none."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from golden.oracle import parse
from hypothesis import given
from hypothesis import strategies as st
from serai.jobs.v1 import jobs_service_pb2
from serai.licenses.v1 import licenses_service_pb2 as pb2
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.query import LONGEST_BYTES, QueryReader
from serai_gateway.codec.shape import Kind, Shapes
from serai_gateway.routes import ROUTES

CODEC = Codec()
BROWSE = pb2.BrowseRequest.DESCRIPTOR
RETRIEVE = pb2.RetrieveRequest.DESCRIPTOR
FLAGS = [field.key for field in Shapes().message(pb2.LicenseIncludeFlags.DESCRIPTOR).fields]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(["a b", "a+b", "%41", "æ&=#", "5,6,7"])
LONG = st.integers(-(2**63), 2**63 - 1)
FLAG_VALUES: dict[str, st.SearchStrategy[Any]] = {
    key: st.booleans() if key.startswith("include") else LONG if key in {"filterCreatedAfter", "filterCreatedBefore"} else TEXT
    for key in FLAGS
}
REST: dict[str, st.SearchStrategy[Any]] = {
    "itemsPerPage": st.integers(-(2**31), 2**31 - 1),
    "next": TEXT,
    "consistency": st.sampled_from(["PREFER", "REQUIRE"]),
    "itemsToSkip": LONG,
    "sortBy": TEXT,
    "sortDirection": st.sampled_from(["ascending", "descending"]),
}


def spelled(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


@given(flags=st.fixed_dictionaries({}, optional=FLAG_VALUES), rest=st.fixed_dictionaries({}, optional=REST), data=st.data())
def test_a_query_means_what_the_body_would_mean(flags: dict[str, Any], rest: dict[str, Any], data: st.DataObject) -> None:
    """In any order of the keys, blanks as + or as %20, json_format reads the same message from the flags nested in JSON."""
    pairs = data.draw(st.permutations([(key, spelled(value)) for key, value in (flags | rest).items()]))
    by = quote if data.draw(st.booleans()) else None
    query = urlencode(pairs, quote_via=by) if by else urlencode(pairs)
    read = pb2.BrowseRequest.FromString(CODEC.read_query(BROWSE, query.encode()))
    assert read == parse(BROWSE, rest | ({"flags": flags} if flags else {}))


def test_the_seeds_query() -> None:
    """As the seed's curl has it: false is said, and what is not there is not set."""
    query = b"includeOthers=false&includeUpdates=false&includeSupport=false&includeProduct=false&id=5123"
    expected = pb2.RetrieveRequest(id="5123")
    for key in ("include_others", "include_updates", "include_support", "include_product"):
        setattr(expected.flags, key, False)
    assert pb2.RetrieveRequest.FromString(CODEC.read_query(RETRIEVE, query)) == expected


def test_what_says_nothing_is_not_given() -> None:
    """No query, empty pairs, empty values and keys that nobody knows, even twice or in no text; an unknown word of a lenient enum."""
    for query in (
        b"",
        b"&&",
        b"filterIds=&includeOthers=&itemsPerPage",
        b"x=1&x=2&%zz=1&%ff=1&y=%ff",
        b"flags=1",
        b"consistency=SOMETIMES",
    ):
        assert CODEC.read_query(BROWSE, query) == b""


def test_the_case_of_a_word_does_not_count() -> None:
    """As Core reads enums in queries."""
    for word in ("DESCENDING", "descending", "Descending"):
        read = pb2.BrowseRequest.FromString(CODEC.read_query(BROWSE, f"sortDirection={word}".encode()))
        assert read.sort_direction == pb2.SORT_DIRECTION_DESCENDING


@pytest.mark.parametrize(
    ("query", "path", "words"),
    [
        ("includeOthers=1", "includeOthers", "true or false"),
        ("includeOthers=TRUE", "includeOthers", "true or false"),
        ("filterCreatedAfter=yesterday", "filterCreatedAfter", "a whole number from -9223372036854775808"),
        ("filterCreatedAfter=9223372036854775808", "filterCreatedAfter", "a whole number"),
        ("filterCreatedAfter=1.5", "filterCreatedAfter", "a whole number"),
        ("itemsPerPage=2147483648", "itemsPerPage", "a whole number from -2147483648 to 2147483647"),
        ("itemsPerPage=+5", "itemsPerPage", "a whole number"),
        ("sortDirection=up", "sortDirection", "one of ascending, descending"),
        ("next=1&next=2", "next", "the key twice"),
        ("next=1&ne%78t=1", "next", "the key twice"),
        ("filterIds=%zz", "filterIds", "UTF-8"),
        ("filterIds=%f", "filterIds", "UTF-8"),
        ("filterIds=%ff", "filterIds", "UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_key(query: str, path: str, words: str) -> None:
    """The key is the path of the error; its words say what would be right and do not repeat what came."""
    with pytest.raises(WireError, match=words) as caught:
        CODEC.read_query(BROWSE, query.encode())
    assert caught.value.path == path


@pytest.mark.parametrize(("query", "words"), [("", "no such key"), ("id=", "an empty one"), ("ID=5", "no such key")])
def test_a_required_key_must_say_something(query: str, words: str) -> None:
    """A retrieve without an id is refused."""
    with pytest.raises(WireError, match=words) as caught:
        CODEC.read_query(RETRIEVE, query.encode())
    assert caught.value.path == "id"


def test_a_query_has_its_limit() -> None:
    """Up to it a thousand ids fit; a longer one is refused whatever it says."""
    ids = ",".join(str(10**15 + number) for number in range(1_000))
    assert pb2.BrowseRequest.FromString(CODEC.read_query(BROWSE, f"filterIds={ids}".encode())).flags.filter_ids == ids
    longest = b"x=" + b"1" * (LONGEST_BYTES - 2)
    assert CODEC.read_query(BROWSE, longest) == b""
    with pytest.raises(WireError, match="at most"):
        CODEC.read_query(BROWSE, longest + b"1")


@given(query=st.binary(max_size=60) | st.text("includeOthers=&%+trufalse19", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(query: bytes) -> None:
    """Never an exception but WireError; what is read is a message."""
    try:
        wire = CODEC.read_query(BROWSE, query)
    except WireError:
        return
    pb2.BrowseRequest.FromString(wire)


def test_every_get_of_ours_can_be_asked_in_a_query() -> None:
    """And a request with lists or objects, which a query cannot say, is an error at once and no silent loss."""
    for route in ROUTES:
        if route.ingoing and route.verb == "GET":
            QueryReader(Shapes().message(route.request), route.request)
    for descriptor in (jobs_service_pb2.CreateRequest.DESCRIPTOR, pb2.SearchRequest.DESCRIPTOR):
        with pytest.raises(TypeError, match="no form"):
            CODEC.read_query(descriptor, b"")
    flat = Shapes().message(BROWSE).fields[0]
    assert (flat.kind, flat.flat) == (Kind.MESSAGE, True)
