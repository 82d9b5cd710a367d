"""What must not work, by both ways: each attempt is refused, reaches no application, and stands in the gateway's log without a secret."""

from __future__ import annotations

import asyncio
import json

import pytest
from fakes.gateway_sessions import IDLE_MS, OPEN_WITHIN_MS
from fakes.web_site import COOKIE, DOMAIN, Answer, Site
from serai.sessions.v1 import sessions_service_pb2 as pb2

_NEAR = [f"{label}.{DOMAIN}" for label in ("x", "app-1", "app-1-x", "app-1-00", "app-1--0", "app--0", "x.app-1-0")]
"""Names that are almost one of a page."""

_OUR_HEADERS = [f"x-serai-{name}" for name in ("target", "host", "place")] + [
    f"x-envoy-{name}" for name in ("original-dst-host", "original-path", "auth-headers-to-remove", "upstream-rq-timeout-ms")
]


def check_refused(web: Site, answer: Answer, before: int, cause: str, *statuses: int) -> None:
    """Refused with words for people, nothing reached an application, and the log says why."""
    assert answer.status in (statuses or (401,)), answer
    assert web.seen == before
    assert web.causes()[-1:] == [cause]
    text = json.dumps([{**line, "exc_info": None} for line in web.log], default=str)
    for held in web.sessions.held:
        assert held.secret not in text
        assert not held.cookie or held.cookie not in text


@pytest.mark.parametrize("secret", ["", "x", "q_7Zt1mN0cEw3uYxKb9fRjD2sLhVgAoP5iT8eWnQyMk", "../" * 20, "a" * 4_000, "%00" * 20, "A" * 43])
async def test_a_guessed_cookie(web: Site, secret: str) -> None:
    await web.enter()
    answer = await web.get("/x", Cookie=f"{COOKIE}={secret}")
    check_refused(web, answer, 0, "session_unknown" if len(secret) == 43 else "no_secret")


async def test_no_cookie_at_all(web: Site) -> None:
    """In plain words for a browser, as JSON for a program, before an upgrade for a WebSocket."""
    answer = await web.get("/x", Accept="text/html")
    check_refused(web, answer, 0, "no_cookie")
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert b"Open the application from UCloud" in answer.body
    answer = await web.get("/x")
    assert json.loads(answer.body)["statusCode"] == 401
    answer = await web.get("/api/kernel", headers=_HANDSHAKE)
    check_refused(web, answer, 0, "no_cookie")


@pytest.mark.parametrize("cookies", ["x{0}=1; {1}", "{0} x={1}", "{0}", "{0}=", "SERAI-SESSION={1}", "__Host-{0}={1}", "__Secure-{0}={1}"])
async def test_something_like_our_cookie(web: Site, cookies: str) -> None:
    """Only the exact name counts."""
    good = await web.enter()
    answer = await web.get("/x", Cookie=cookies.format(COOKIE, good))
    check_refused(web, answer, 0, "no_secret" if cookies in ("{0}", "{0}=") else "no_cookie")


async def test_the_address_secret_is_no_cookie(web: Site) -> None:
    """What may be in histories and logs opens nothing after it was swapped, nor before."""
    held = web.open()
    check_refused(web, await web.get("/x", cookie=held.secret), 0, "session_unknown")
    assert (await web.get(f"/.serai/open/{held.secret}")).status == 302
    check_refused(web, await web.get("/x", cookie=held.secret), 0, "session_unknown")
    check_refused(web, await web.get(f"/.serai/open/{held.secret}"), 0, "session_unknown")


async def test_a_look_does_not_use_up_an_address(web: Site) -> None:
    """HEAD and POST, as programs look at links, leave it to the user."""
    held = web.open()
    for method in ("HEAD", "POST"):
        answer = await web.say(f"{method} /.serai/open/{held.secret} HTTP/1.1\r\nHost: {web.host()}\r\nContent-Length: 0\r\n\r\n".encode())
        check_refused(web, answer, 0, "verb", 405)
    assert (await web.get(f"/.serai/open/{held.secret}")).status == 302


async def test_an_address_that_waited_too_long(web: Site) -> None:
    held = web.open()
    web.sessions.now_ms += OPEN_WITHIN_MS
    check_refused(web, await web.get(f"/.serai/open/{held.secret}"), 0, "session_unknown")


async def test_a_session_that_was_idle_too_long(web: Site) -> None:
    cookie = await web.enter()
    web.sessions.now_ms += IDLE_MS
    check_refused(web, await web.get("/x", cookie=cookie), 0, "session_unknown")


@pytest.mark.parametrize(("job", "rank"), [("1", 1), ("2", 0)])
async def test_another_ranks_and_another_jobs_page(web: Site, job: str, rank: int) -> None:
    """A cookie opens the page that it was made for; so does an address."""
    cookie = await web.enter()
    check_refused(web, await web.get("/x", job=job, rank=rank, cookie=cookie), 0, "session_unknown")
    held = web.open()
    check_refused(web, await web.get(f"/.serai/open/{held.secret}", job=job, rank=rank), 0, "session_unknown")
    assert (await web.get(f"/.serai/open/{held.secret}")).status == 302


@pytest.mark.parametrize("host", [f"app-1-2.{DOMAIN}", f"app-3-0.{DOMAIN}", f"app-1-65535.{DOMAIN}"])
async def test_ranks_and_jobs_that_are_not_there(web: Site, host: str) -> None:
    cookie = await web.enter()
    check_refused(web, await web.get("/x", cookie=cookie, Host=host), 0, "session_unknown")


@pytest.mark.parametrize(
    "host",
    [DOMAIN, "127.0.0.1", "localhost", f"app-1-0x{DOMAIN}", f"app-1-0.{DOMAIN}.evil.test", f"app-1-0.{DOMAIN}..", *_NEAR],
)
async def test_names_that_mean_no_page(web: Site, host: str) -> None:
    """Nothing near a good name is taken for one."""
    cookie = await web.enter()
    answer = await web.get("/x", cookie=cookie, Host=host)
    assert answer.status in (400, 404), answer
    assert web.seen == 0


@pytest.mark.parametrize("host", ["APP-1-0.Apps.TEST", f"app-1-0.{DOMAIN}.", f"app-1-0.{DOMAIN}:443", f"app-1-0.{DOMAIN}.:8080"])
async def test_other_spellings_of_a_name_are_the_same_page(web: Site, host: str) -> None:
    """Capitals, a dot at the end, a port: the same page with the same cookie, and no other."""
    cookie = await web.enter()
    assert (await web.get("/x", cookie=cookie, Host=host)).echo["name"] == "1-0"
    other = await web.enter("2", 0)
    before = web.seen
    check_refused(web, await web.get("/x", cookie=other, Host=host), before, "session_unknown")


async def test_a_session_of_another_kind(web: Site) -> None:
    """A shell's, a desktop's and the console's secrets open no page."""
    web.sessions.run("1", vnc=("127.0.0.1", 1))
    for kind in (pb2.SESSION_KIND_SHELL, pb2.SESSION_KIND_VNC):
        held = web.sessions.open(kind, "1", 0)
        check_refused(web, await web.get("/x", cookie=held.secret), 0, "session_unknown")
        check_refused(web, await web.get(f"/.serai/open/{held.secret}"), 0, "session_unknown")
    held = web.sessions.open(pb2.SESSION_KIND_CONSOLE)
    check_refused(web, await web.get(f"/.serai/open/{held.secret}"), 0, "session_unknown")


async def test_two_session_cookies(web: Site) -> None:
    """One was planted, by a sibling page for the whole domain: which one nobody can tell."""
    cookie, planted = await web.enter(), await web.enter("2", 0)
    for cookies in (
        f"{COOKIE}={cookie}; {COOKIE}={planted}",
        f"{COOKIE}={planted}; a=1; {COOKIE}={cookie}",
        f"{COOKIE}={cookie};{COOKIE}=x",
    ):
        check_refused(web, await web.get("/x", Cookie=cookies), 0, "several_cookies")
    request = f"GET /x HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\nCookie: {COOKIE}={planted}\r\n\r\n"
    assert (await web.say(request.encode())).status == 401  # Envoy makes one header of the two, and one strange value
    assert web.seen == 0


@pytest.mark.parametrize("target", ["/.serai/", "/.serai/x", "/.serai/open/", "/.serai/open/x", "/.serai/../x", "/.serai/open/%2e%2e"])
async def test_below_our_own_path_is_nothing_else(web: Site, target: str) -> None:
    """Also with a good cookie; nothing there leads out to the application."""
    check_refused(web, await web.get(target, cookie=await web.enter()), 0, "no_page", 404)


@pytest.mark.parametrize("target", ["/.serai/open//evil.test/x", "/.serai/open/https:%2f%2fevil.test", "/.serai/open?to=//evil.test"])
async def test_no_redirect_leads_elsewhere(web: Site, target: str) -> None:
    """The only redirect goes to the page's own root."""
    held = web.open()
    assert (await web.get(target)).header("location") == ""
    answer = await web.get(f"/.serai/open/{held.secret}?next=//evil.test")
    assert (answer.status, answer.header("location")) == (302, "/")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
        {"Origin": f"http://app-2-0.{DOMAIN}"},
        {"Origin": "null"},
        {"Origin": f"https://app-1-0.{DOMAIN}"},
    ],
)
async def test_another_pages_script_cannot_use_our_cookie(web: Site, headers: dict[str, str]) -> None:
    """To a browser all pages below the domain are one site, so it sends the cookie: what another page starts is refused all the same."""
    cookie = await web.enter()
    answer = await web.get("/x", cookie=cookie, headers=headers)
    assert answer.status == 403
    assert web.seen == 0
    assert web.causes()[-1] in ("foreign_page", "foreign_origin")


async def test_another_pages_websocket_cannot_use_our_cookie(web: Site) -> None:
    """Browsers check no origin for WebSockets; many applications do not either."""
    cookie = await web.enter()
    answer = await web.get("/api/kernel", cookie=cookie, Origin=f"http://app-2-0.{DOMAIN}:{web.port}", headers=_HANDSHAKE)
    check_refused(web, answer, 0, "foreign_origin", 403)
    own = await web.get("/api/kernel", cookie=cookie, Origin=f"http://{web.host()}", headers=_HANDSHAKE)
    assert own.status == 101


async def test_a_link_that_is_followed_works(web: Site) -> None:
    """From UCloud's page, which is another site, and from a page of the same one."""
    cookie = await web.enter()
    for origin in ("cross-site", "same-site", "none", "same-origin"):
        headers = {"Sec_Fetch_Site": origin, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert (await web.get("/x", cookie=cookie, headers=headers)).status == 200


@pytest.mark.parametrize("name", [*_OUR_HEADERS, "X-SERAI-Target", "x_serai_target", "x_forwarded_for", "X-Forwarded-Host"])
async def test_headers_that_only_we_may_write(web: Site, name: str) -> None:
    """They change nothing and reach nobody: the page is the same, without a session there is none."""
    cookie, port = await web.enter(), web.app("2", 0).port
    request = f"GET /x HTTP/1.1\r\nHost: {web.host()}\r\n{name}: 127.0.0.1:{port}\r\n"
    answer = await web.say(f"{request}Cookie: {COOKIE}={cookie}\r\n\r\n".encode())
    assert answer.echo["name"] == "1-0"
    assert f"127.0.0.1:{port}" not in [value for _, value in answer.echo["headers"]]
    before = web.seen
    check_refused(web, await web.say(f"{request}\r\n".encode()), before, "no_cookie")


@pytest.mark.parametrize("named", ["x-serai-target", "cookie", "host", "x-forwarded-for", "x-forwarded-proto", "content-length"])
async def test_connection_cannot_take_our_headers_away(web: Site, named: str) -> None:
    """`Connection: name` means a header of this one connection; with ours it must not remove what the application relies on."""
    cookie = await web.enter()
    head = f"POST /x HTTP/1.1\r\nHost: {web.host()}\r\nCookie: own=1; {COOKIE}={cookie}\r\nConnection: close, {named}\r\n"
    answer = await web.say(f"{head}Content-Length: 3\r\n\r\nabc".encode())
    if answer.status != 200:
        assert answer.status in (400, 401, 403)
        assert web.seen == 0
        return
    assert answer.echo["length"] == 3
    assert answer.got("cookie") in (["own=1"], [])
    assert answer.got("host") == [web.host()]
    assert len(answer.got("x-forwarded-for")) == 1


_SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\r\n{_SMUGGLED}",
        f"Content-Length: 0\r\nContent-Length: {len(_SMUGGLED)}\r\n\r\n{_SMUGGLED}",
        f"Content-Length: 0, {len(_SMUGGLED)}\r\n\r\n{_SMUGGLED}",
        f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{_SMUGGLED}",
        f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{_SMUGGLED}",
        f"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{_SMUGGLED}",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +3\r\n\r\nabc",
        f"Content-Length: 0\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n{_SMUGGLED}",
        f" folded: x\r\nContent-Length: 0\r\n\r\n{_SMUGGLED}",
        f"X: a\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{_SMUGGLED}",
        f"X\0: a\r\nContent-Length: 0\r\n\r\n{_SMUGGLED}",
    ],
)
async def test_no_second_request_hides_in_a_first_one(web: Site, lines: str) -> None:
    """Where a request ends is beyond doubt, or it is refused: the application sees at most the one that was checked."""
    cookie = await web.enter()
    head = f"POST /x HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\nConnection: close\r\n"
    await web.say((head + lines).encode("latin-1"))
    assert all(request.target == "/x" for notebook in web.notebooks.values() for request in notebook.requests)
    assert web.seen <= 1


async def test_which_host_is_meant_is_beyond_doubt(web: Site) -> None:
    """Two Hosts, none, or another one in the target: refused, or the one that is checked is the one that is reached."""
    cookie, other = await web.enter(), web.host("2", 0)
    end = f"Cookie: {COOKIE}={cookie}\r\n\r\n"
    for first in (
        f"GET /x HTTP/1.1\r\nHost: {web.host()}\r\nHost: {other}\r\n",
        f"GET /x HTTP/1.1\r\nHost: {other}\r\nHost: {web.host()}\r\n",
        f"GET http://{other}/x HTTP/1.1\r\nHost: {web.host()}\r\n",
        f"GET /x HTTP/1.1\r\nHost: {web.host()}, {other}\r\n",
        f"GET /x HTTP/1.1\r\nHost: {other}@{web.host()}\r\n",
        f"GET @{other}/x HTTP/1.1\r\nHost: {web.host()}\r\n",
        "GET /x HTTP/1.1\r\n",
        f"GET /x HTTP/1.0\r\nHost: {web.host()}\r\n",
    ):
        answer = await web.say((first + end).encode())
        assert answer.status in (400, 401, 404, 426), (first, answer)
        assert web.seen == 0


async def test_only_websockets_are_switched_to(web: Site) -> None:
    """Another protocol on the same connection would not be looked at any more."""
    cookie = await web.enter()
    for upgrade in ("h2c", "tcp", "websocket, h2c"):
        headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2_Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
        answer = await web.get("/x", cookie=cookie, headers=headers)
        assert answer.status != 101
    assert all(not request.header("upgrade") and not request.header("http2-settings") for request in web.app().requests)


async def test_the_server_is_away(web: Site) -> None:
    """Nobody knows whether the session is good, so it is not: 502, which is not repeated by itself."""
    cookie = await web.enter()
    web.sessions.away = True
    assert (await web.get("/x", cookie=cookie)).status == 502
    assert web.seen == 0


async def test_what_is_open_ends_with_the_job(web: Site) -> None:
    """A WebSocket and an endless answer break off when the job ends; afterwards its cookie opens nothing."""
    cookie = await web.enter()
    socket, events = await _connected(web, cookie, "/api/kernel", _HANDSHAKE), await _connected(web, cookie, "/events", {})
    web.sessions.end("1")
    await web.app().stop()  # its replica ends with it
    async with asyncio.timeout(30):
        for reader, writer in (socket, events):
            try:
                while await reader.read(65_536):
                    pass
            except OSError:
                pass  # reset, which is an end too
            writer.close()
    check_refused(web, await web.get("/y", cookie=cookie), web.seen, "session_unknown")


async def _connected(web: Site, cookie: str, target: str, headers: dict[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {web.host()}\r\nCookie: {COOKIE}={cookie}\r\n{lines}\r\n".encode())
    async with asyncio.timeout(30):
        assert b" 101 " in (head := await reader.readuntil(b"\r\n\r\n")) or b" 200 " in head
    return reader, writer


_HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
