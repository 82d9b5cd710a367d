"""Who is not an operator gets nothing of the console, and other pages cannot use an operator's browser for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from fakes.console_site import ConsoleSite, console_site
from serai.sessions.v1 import sessions_service_pb2 as pb2
from structlog.testing import capture_logs

READS = ("jobs", "job?id=4711", "utilization", "sessions")
CHANGES: Mapping[str, object] = {
    "open": {"job": "4711", "kind": "SHELL", "rank": 0},
    "close": {"session": "x"},
    "logout": {},
}
SOCKETS = ("jobs", "job?id=4711", "output?id=4711")
JSON = {"Content-Type": "application/json"}


@dataclass
class Caller:
    """Somebody with a program of their own, who sends whatever they like."""

    site: ConsoleSite
    http: aiohttp.ClientSession
    cookie: str = ""
    own: dict[str, str] = field(default_factory=dict[str, str])
    """What a browser would send from one of our pages."""

    def headers(self, more: Mapping[str, str]) -> dict[str, str]:
        sent = {"Cookie": f"serai-console={self.cookie}"} if self.cookie else {}
        return sent | self.own | dict(more)

    async def get(self, path: str, **more: str) -> tuple[int, str, Mapping[str, str]]:
        async with self.http.get(self.site.url + path, headers=self.headers(more), allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def read(self, name: str, more: Mapping[str, str] | None = None) -> int:
        async with self.http.get(f"{self.site.url}/console/api/{name}", headers=self.headers(more or {})) as answer:
            return answer.status

    async def change(self, name: str, more: Mapping[str, str] | None = None, body: object = None) -> tuple[int, Any]:
        sent = json.dumps(CHANGES[name] if body is None else body)
        headers = self.headers(JSON if more is None else more)
        async with self.http.post(f"{self.site.url}/console/api/{name}", headers=headers, data=sent) as answer:
            return answer.status, await answer.json()

    async def connect(self, name: str, more: Mapping[str, str] | None = None) -> int:
        """Status of the handshake."""
        try:
            async with self.http.ws_connect(f"{self.site.url}/console/live/{name}", headers=self.headers(more or {})):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


@asynccontextmanager
async def caller(*, logged_in: bool = True) -> AsyncGenerator[Caller]:
    async with console_site() as site, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        await site.jobs.runs("4711")
        site.sessions.run("4711", vnc=("127.0.0.1", 5900))
        somebody = Caller(site, http, own={"Origin": site.url, "Sec-Fetch-Site": "same-origin"})
        if logged_in:
            async with http.get(site.login(), allow_redirects=False) as answer:
                assert answer.status == 302
                somebody.cookie = answer.cookies["serai-console"].value
        yield somebody


async def test_an_operator_may_do_all_of_it() -> None:
    """What the other tests refuse works for whom it is meant."""
    async with caller() as one:
        assert [await one.read(name) for name in READS] == [200] * 4
        assert [await one.connect(name) for name in SOCKETS] == [101] * 3
        status, opened = await one.change("open")
        assert (status, opened["session"]["job"], opened["password"]) == (200, "4711", None)
        assert (await one.change("close", body={"session": opened["session"]["id"]}))[0] == 200
        assert (await one.change("logout"))[0] == 200
        assert await one.read("jobs") == 401


async def refused_everywhere(one: Caller) -> None:
    assert [await one.read(name) for name in READS] == [401] * 4
    assert [(await one.change(name))[0] for name in CHANGES] == [401] * 3
    assert [await one.connect(name) for name in SOCKETS] == [401] * 3


async def test_without_a_cookie_nothing_is_told() -> None:
    """Pages and their files are anybody's; each call and each socket says how to log in."""
    async with caller(logged_in=False) as one:
        await refused_everywhere(one)
        _, text, _ = await one.get("/console/api/jobs")
        assert "Run serai console" in json.loads(text)["why"]
        assert [(await one.get(f"/console/{page}"))[0] for page in ("", "job", "sessions", "session")] == [200] * 4
        assert "List" not in one.site.sessions.calls


async def test_a_guessed_or_foreign_secret_is_no_cookie() -> None:
    """Neither one that nobody made, nor that of an address of login, nor that of a shell or a desktop: and not two cookies at once."""
    async with caller() as one:
        good = one.cookie
        shell = one.site.sessions.open(pb2.SESSION_KIND_SHELL, "4711").secret
        desktop = one.site.sessions.open(pb2.SESSION_KIND_VNC, "4711").secret
        unused = one.site.sessions.open(pb2.SESSION_KIND_CONSOLE).secret
        for one.cookie in ("guess", shell, desktop, unused, f"{good}; serai-console=other", ""):
            await refused_everywhere(one)


async def test_an_expired_login_is_refused() -> None:
    """And so is one that was closed; a socket that is open then ends with the code for it."""
    async with caller() as one:
        socket = await one.http.ws_connect(f"{one.site.url}/console/live/job?id=4711", headers=one.headers({}))
        await socket.receive()
        (login,) = (held for held in one.site.sessions.held if held.told.kind == pb2.SESSION_KIND_CONSOLE)
        one.site.sessions.close(login.told.id)
        assert (await socket.receive()).data == 4401
        await refused_everywhere(one)
    async with caller() as one:
        one.site.sessions.now_ms += 9 * 3_600_000 + 36_000_000
        await refused_everywhere(one)


async def test_the_cookie_of_the_console_opens_no_other_door() -> None:
    """It is no secret of a shell, desktop or web page."""
    async with caller() as one:
        for kind in (pb2.SESSION_KIND_SHELL, pb2.SESSION_KIND_VNC, pb2.SESSION_KIND_WEB):
            request = pb2.AuthorizeRequest(secret=one.cookie, kind=kind, job_id="4711")
            with pytest.raises(Exception, match="not known here"):
                await one.site.sessions.unary(
                    "/serai.sessions.v1.SessionsService/Authorize", request.SerializeToString(), {"serai-caller": "session"}, 1.0
                )


async def test_an_address_of_login_works_once() -> None:
    """The second time, guessed or cut short, it is a page that says what to do; nobody is logged in by it."""
    async with console_site() as site, aiohttp.ClientSession() as http:
        address = site.login()
        async with http.get(address, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"], answer.headers["Cache-Control"]) == (302, "/console/", "no-store")
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        for again in (address, f"{site.url}/console/open/guess", f"{site.url}/console/open/", address[:-1]):
            async with http.get(again, allow_redirects=False) as answer:
                assert answer.status == 401
                assert "Set-Cookie" not in answer.headers
                assert "serai console" in await answer.text()
        async with http.head(site.login(), allow_redirects=False) as answer:
            assert answer.status == 405


FOREIGN: tuple[dict[str, str], ...] = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://app-4711-0.127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@pytest.mark.parametrize("foreign", FOREIGN, ids=[next(iter(one.values())) for one in FOREIGN])
async def test_other_pages_cannot_use_an_operators_browser(foreign: dict[str, str]) -> None:
    """Whatever the browser says of them: their calls and sockets are refused though the cookie comes along, and nothing is done."""
    async with caller() as one:
        assert (await one.change("open", JSON | foreign))[0] == 403
        assert (await one.change("logout", JSON | foreign))[0] == 403
        assert await one.connect("output?id=4711", foreign) == 403
        assert await one.read("jobs", foreign) == 403
        assert "Open" not in one.site.sessions.calls
        assert await one.read("jobs") == 200


async def test_a_change_needs_to_say_where_it_comes_from() -> None:
    """A browser says it always, so silence is none of ours; and a form cannot send JSON."""
    async with caller() as one:
        form = {"Content-Type": "text/plain"}
        assert (await one.change("open", form))[0] == 400
        assert await one.read("open") == 405
        one.own = {}
        assert (await one.change("open"))[0] == 403
        assert await one.connect("jobs") == 403
        assert "Open" not in one.site.sessions.calls


async def test_refusals_are_logged_without_secrets() -> None:
    """Each one with what was asked and why."""
    with capture_logs() as logs:
        async with caller() as one:
            good, shell = one.cookie, one.site.sessions.open(pb2.SESSION_KIND_SHELL, "4711").secret
            one.cookie = shell
            await refused_everywhere(one)
            await one.get(f"/console/open/{shell}")
            await one.change("open", JSON | {"Origin": "https://evil.example"})
    refused = [entry for entry in logs if entry["event"] == "console refused"]
    assert len(refused) == 10 + 2
    assert {entry["reason"] for entry in refused} == {"SESSION_UNKNOWN", "FORBIDDEN"}
    text = repr(logs)
    assert good not in text
    assert shell not in text


async def test_bad_requests_are_told_in_words() -> None:
    """With the name of what is wrong; nothing reaches the server."""
    async with caller() as one:
        assert (await one.change("open", body={"job": "4711", "kind": "CONSOLE"}))[0] == 400
        status, told = await one.change("open", body={"job": "4711", "kind": "SHELL", "rank": -1})
        assert (status, "$.rank" in told["why"]) == (400, True)
        assert (await one.change("open", body={"job": "4711", "kind": "SHELL", "port": 22}))[0] == 400
        assert (await one.change("open", body={"job": "4711", "kind": "SHELL", "more": "x" * 20_000}))[0] == 413
        assert await one.read("jobs?state=NONSENSE") == 400
        assert await one.read("job?id=unknown") == 404
        assert await one.read("nothing") == 404
        assert (await one.get("/console/static/../console.py"))[0] == 404
        assert (await one.get("/console/static/%2e%2e/console.py"))[0] == 404
        assert "Open" not in one.site.sessions.calls


async def test_pages_are_safe_to_show() -> None:
    """No script but our files, no frame around them, no guessing of types, nothing told to other sites."""
    async with caller() as one:
        for path in ("/console/", "/console/job", "/console/session", "/console/static/page.js", "/console/static/style.css"):
            status, _, headers = await one.get(path)
            policy = headers["Content-Security-Policy"]
            assert status == 200
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script-src" not in policy
            assert ("'unsafe-inline'" in policy) == (path == "/console/session")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert (await one.get(path, **{"If-None-Match": headers["ETag"]}))[0] == 304
        _, _, headers = await one.get("/console/api/jobs")
        assert headers["Cache-Control"] == "no-store"


async def test_nothing_goes_on_for_who_has_left() -> None:
    """A closed window ends what the server did for it."""
    async with caller() as one:
        for name in SOCKETS:
            socket = await one.http.ws_connect(f"{one.site.url}/console/live/{name}", headers=one.headers({}))
            if "output" not in name:
                await socket.receive()
                assert one.site.jobs.open_iterators == 1
            await socket.close()
            async with asyncio.timeout(40):
                while one.site.jobs.open_iterators:
                    await asyncio.sleep(0.01)
