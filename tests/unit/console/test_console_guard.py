"""Which page asks, which cookie it has, and how that cookie is set."""

from __future__ import annotations

import pytest
from fakes.console_site import settings
from fakes.gateway_sessions import FakeSessions
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.clock import SystemClock
from serai_gateway.codec import Codec
from serai_gateway.console.console import Console
from serai_gateway.console.guard import check_source, cookie_of, set_cookie
from serai_gateway.errors import GatewayError
from serai_gateway.http import Message, Scope

HOST = (b"host", b"provider.example.org")


@pytest.mark.parametrize(
    ("changing", "headers"),
    [
        (False, [HOST]),
        (False, [HOST, (b"sec-fetch-site", b"same-origin")]),
        (False, [HOST, (b"sec-fetch-site", b"none")]),
        (True, [HOST, (b"sec-fetch-site", b"same-origin")]),
        (True, [HOST, (b"origin", b"https://provider.example.org")]),
        (True, [HOST, (b"origin", b"https://PROVIDER.example.org"), (b"sec-fetch-site", b"same-origin")]),
        (True, [(b"host", b"[::1]:8889"), (b"origin", b"http://[::1]:8889")]),
    ],
)
def test_our_own_pages_may_ask(changing: bool, headers: list[tuple[bytes, bytes]]) -> None:
    """Also a person who types the address of a call that changes nothing."""
    check_source(headers, changing=changing)


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, (b"sec-fetch-site", b"none")],
        [HOST, (b"sec-fetch-site", b"same-site")],
        [HOST, (b"origin", b"null")],
        [HOST, (b"origin", b"")],
        [HOST, (b"origin", b"https://provider.example.org.evil.example")],
        [HOST, (b"origin", b"https://provider.example.org:8443")],
        [HOST, (b"origin", b"file://provider.example.org")],
        [HOST, (b"origin", b"https://[broken")],
        [HOST, (b"origin", b"https://provider.example.org"), (b"origin", b"https://evil.example")],
        [HOST, (b"origin", b"https://provider.example.org"), (b"sec-fetch-site", b"cross-site")],
        [(b"origin", b"https://provider.example.org")],
        [HOST, (b"host", b"evil.example"), (b"origin", b"https://evil.example")],
    ],
)
def test_other_pages_may_change_nothing(headers: list[tuple[bytes, bytes]]) -> None:
    """Nor may who does not say where they are, or says it twice."""
    with pytest.raises(GatewayError) as refused:
        check_source(headers, changing=True)
    assert refused.value.row.name == "FORBIDDEN"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([(b"cookie", b"serai-console=abc")], "abc"),
        ([(b"cookie", b"a=b; serai-console=abc; c=d")], "abc"),
        ([(b"cookie", b"a=b"), (b"cookie", b"serai-console=abc")], "abc"),
        ([(b"cookie", b"xserai-console=abc; serai-consolex=abc")], None),
        ([(b"cookie", b"serai-console=abc; serai-console=def")], None),
        ([(b"cookie", b"\xff\xfe")], None),
    ],
)
def test_the_cookie_is_found_among_others(headers: list[tuple[bytes, bytes]], found: str | None) -> None:
    """Two of its name are none: another page of the site put one beside ours."""
    assert cookie_of(headers) == found


def test_the_cookie_is_kept_from_scripts_and_other_paths() -> None:
    """And from plain connections where there is HTTPS; an empty one takes it away."""
    assert set_cookie("abc", secure=False) == b"serai-console=abc; HttpOnly; Path=/console; SameSite=Strict"
    assert set_cookie("abc", secure=True).endswith(b"; Secure")
    assert b"Max-Age=0" in set_cookie("", secure=False)


@pytest.mark.parametrize(
    ("public_url", "headers", "secure"),
    [
        ("", [HOST], False),
        ("", [HOST, (b"x-forwarded-proto", b"https")], True),
        ("https://provider.example.org", [HOST], True),
        ("https://provider.example.org/", [(b"host", b"127.0.0.1:8889")], False),
        ("http://provider.example.org", [HOST, (b"x-forwarded-proto", b"http")], False),
    ],
)
async def test_the_cookie_is_secure_where_the_browser_uses_https(public_url: str, headers: list[tuple[bytes, bytes]], secure: bool) -> None:
    """As what stands in front says, or as the settings say of the name that the browser asks for."""
    sessions = FakeSessions()
    console = Console(settings(public_url), Codec(), sessions, None, SystemClock())
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    secret = sessions.open(pb2.SESSION_KIND_CONSOLE).secret
    scope: Scope = {"type": "http", "method": "GET", "path": f"/console/open/{secret}", "headers": headers}
    await console(scope, receive, send)
    given = dict(sent[0]["headers"])  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownVariableType] - ASGI has no types
    assert (b"Secure" in given[b"set-cookie"]) == secure
