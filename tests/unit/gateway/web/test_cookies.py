"""The session's cookie among others: taken out whole, and nothing else touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_gateway.web.cookies import name_of, set_cookie, sets_ours, take_apart

HOST = name_of(secure=True, whole_host=True)
OTHERS = st.lists(st.from_regex(rb"[ ]?[a-rt-z][a-zA-Z0-9_.-]{0,8}=[ -:<-~]{0,12}", fullmatch=True), max_size=6)


@given(before=OTHERS, after=OTHERS)
def test_others_stay_byte_for_byte(before: list[bytes], after: list[bytes]) -> None:
    """Whatever stands before and after it; only a blank where ours began the header is gone with it."""
    found = take_apart([b";".join([*before, b" " + HOST.encode() + b"=secret", *after])], HOST)
    assert found.session == (b"secret",)
    assert (found.rest or b"") == b";".join([*before, *after]).lstrip()
    without = b";".join([*before, *after])
    assert take_apart([without], HOST).rest == (without if without.strip() else None)


@pytest.mark.parametrize(
    ("headers", "session", "rest"),
    [
        ([], (), None),
        ([b""], (), None),
        ([b"a=1", b"__Host-serai-session=x", b"b=2"], (b"x",), b"a=1; b=2"),
        ([b"__Host-serai-session=x; __Host-serai-session=y"], (b"x", b"y"), None),
        ([b"serai-session=x; __host-serai-session=y; __Secure-serai-session=z; SERAI-x=1; a=1"], (), b"a=1"),
        ([b"xserai-session=1; a-serai-session=2"], (), b"xserai-session=1; a-serai-session=2"),
        ([b"__Host-serai-session"], (b"",), None),
    ],
)
def test_which_are_ours(headers: list[bytes], session: tuple[bytes, ...], rest: bytes | None) -> None:
    """Only the exact name counts; everything that looks like ours is kept from the application."""
    found = take_apart(headers, HOST)
    assert (found.session, found.rest) == (session, rest)


def test_a_cookie_cannot_be_planted_or_read_by_scripts() -> None:
    """By https its name keeps other hosts from setting it; it is not sent to other sites, nor shown to scripts."""
    assert set_cookie(HOST, "S", "/") == "__Host-serai-session=S; Path=/; HttpOnly; SameSite=Lax; Secure"
    by_path = name_of(secure=True, whole_host=False)
    assert set_cookie(by_path, "S", "/app/1/0/") == "__Secure-serai-session=S; Path=/app/1/0/; HttpOnly; SameSite=Lax; Secure"


@pytest.mark.parametrize(("header", "ours"), [(b"__HOST-serai-session=", True), (b" serai-x=1", True), (b"a=serai-session", False)])
def test_what_an_application_may_set(header: bytes, ours: bool) -> None:
    assert sets_ours(header) is ours
