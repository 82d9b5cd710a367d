"""The console as part of a whole gateway: what the settings say of it, and jobs' web pages beside it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from fakes.web_site import Site, plain_settings, site
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.web_settings import WebSettings


async def ask(served: Site, method: str, path: str, cookie: str = "", body: str = "") -> tuple[int, bytes, str]:
    """Status, body and `Set-Cookie` of what one of our own pages asks."""
    host = f"127.0.0.1:{served.port}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", f"Cookie: serai-console={cookie}", "", body]
    answer = await served.say("\r\n".join(lines).encode())
    return answer.status, answer.body, answer.header("set-cookie")


async def log_in(served: Site) -> str:
    """The cookie's secret."""
    opened = served.sessions.open(pb2.SESSION_KIND_CONSOLE)
    _, _, cookie = await ask(served, "GET", f"/console/open/{opened.secret}")
    return cookie.partition(";")[0].partition("=")[2]


async def test_an_operator_is_led_to_a_jobs_web_page(tmp_path: Path) -> None:
    """To the page's own host name, where the address holds once: the page's cookie is not the console's, and neither opens the other."""
    async with site(tmp_path, plain_settings(tmp_path)) as served:
        cookie = await log_in(served)
        status, told, _ = await ask(served, "POST", "/console/api/open", cookie, '{"job": "1", "kind": "WEB"}')
        assert status == 200
        address = json.loads(told)["address"]
        assert address.startswith("http://app-1-0.apps.test:")
        entered = await served.get(address.partition(".test")[2].partition("/")[2].join(["/", ""]))
        page = entered.header("set-cookie").partition(";")[0].partition("=")[2]
        assert (await served.get(cookie=page)).status == 200
        assert (await served.get(cookie=cookie)).status == 401
        assert (await ask(served, "POST", "/console/api/open", page, '{"job": "1", "kind": "WEB"}'))[0] == 401


async def test_pages_of_jobs_have_no_console_at_their_names(tmp_path: Path) -> None:
    """What is at that path there is the application's own."""
    async with site(tmp_path, plain_settings(tmp_path)) as served:
        cookie = await served.enter()
        answer = await served.get("/console/", cookie=cookie)
        assert (answer.status, answer.echo["target"]) == (200, "/console/")


@pytest.mark.parametrize("mode", ["off", "path"])
async def test_it_is_not_served_where_it_must_not(tmp_path: Path, mode: str) -> None:
    """When the settings say so; and when jobs' pages are told apart by path: they would be of its origin and could act for operators."""
    settings = plain_settings(tmp_path, WebSettings(mode="path") if mode == "path" else WebSettings())
    settings = msgspec.structs.replace(settings, console=mode == "path", public_url="http://127.0.0.1")
    async with site(tmp_path, settings) as served:
        assert [(await ask(served, "GET", path))[0] for path in ("/console/", "/console/api/site")] == [404, 404]
        assert any("could act for operators" in str(line["event"]) for line in served.log) == (mode == "path")
