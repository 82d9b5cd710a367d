"""Pages below the provider's own name, by both ways: for sites without a wildcard name."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from fakes.envoy import Envoy, running_envoy, settings_for
from fakes.web_site import COOKIE, Site, plain_settings, site
from serai_gateway.web_settings import WebSettings

BY_PATH = WebSettings(mode="path")
HOST = "localhost"


@pytest.fixture(scope="module")
def path_front() -> Generator[Envoy]:
    with tempfile.TemporaryDirectory(prefix="serai-") as name:
        settings = settings_for(Path(name), BY_PATH)
        with running_envoy(settings, Path(name)) as envoy:
            yield envoy


@pytest.fixture(params=["plain", "envoy"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Site]:
    if request.param == "plain":
        async with site(tmp_path, plain_settings(tmp_path, BY_PATH)) as found:
            yield found
        return
    envoy: Envoy = request.getfixturevalue("path_front")
    async with site(tmp_path, envoy.settings, envoy.port) as found:
        yield found


async def enter(web: Site, job: str, rank: int) -> str:
    answer = await web.get(f"/app/{job}/{rank}/.serai/open/{web.open(job, rank).secret}", Host=HOST)
    assert (answer.status, answer.header("location")) == (302, f"/app/{job}/{rank}/")
    cookie, *attributes = answer.header("set-cookie").split("; ")
    assert f"Path=/app/{job}/{rank}/" in attributes
    return cookie.partition("=")[2]


async def test_a_page_by_path(web: Site) -> None:
    """The application sees its own paths, and is told what was before them; its cookies are its own."""
    cookie = await enter(web, "1", 0)
    answer = await web.get("/app/1/0/lab/tree?x=1", Host=HOST, Cookie=f"a=1; {COOKIE}={cookie}")
    assert (answer.echo["name"], answer.echo["target"]) == ("1-0", "/lab/tree?x=1")
    assert answer.got("cookie") == ["a=1"]
    assert answer.got("host") == [HOST]


async def test_another_pages_cookie_by_path(web: Site) -> None:
    """Paths that lead out of a page lead to no other one."""
    cookie, before = await enter(web, "1", 0), web.seen
    for target in ("/app/1/1/x", "/app/2/0/x", "/app/1/0/../../2/0/x", "/app/1/0/..%2f..%2f2/0/x", "/app//1/0/x", "/app/1/0%2f../x"):
        answer = await web.get(target, Host=HOST, cookie=cookie)
        assert answer.status in (200, 400, 401, 404), (target, answer)
    assert all(place == ("1", 0) for place, notebook in web.notebooks.items() if notebook.requests)
    assert before == 0


async def test_a_page_by_path_cannot_reach_beyond_it(web: Site) -> None:
    """No cookie of ours; the rest of the origin is Core's way in, which no cookie opens."""
    cookie = await enter(web, "1", 0)
    answer = await web.get("/app/1/0/evil", Host=HOST, cookie=cookie)
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["own=1; Path=/"]
    assert (await web.get("/app/1/0", Host=HOST, cookie=cookie)).status == 404
    assert (await web.get("/ucloud/example/jobs/retrieveProducts", Host=HOST, cookie=cookie)).status == 401


async def test_a_socket_by_path(web: Site) -> None:
    cookie = await enter(web, "1", 0)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await web.get("/app/1/0/api/kernel", Host=HOST, cookie=cookie, headers={**headers, "Origin": f"http://{HOST}"})
    assert answer.status == 101
    assert web.app().requests[-1].target == "/api/kernel"
