"""The configuration that is rendered for Envoy: Envoy takes it, and it lets through what the gateway serves, by the right rules."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from fakes.envoy import Envoy, rendered, running_envoy, settings_for, validate, whole
from fakes.web_site import DOMAIN, Site, read_answer, site
from serai_gateway.envoy.render import CannotRender
from serai_gateway.web_settings import WebSettings

API = "provider.test"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, found = tmp_path_factory.mktemp("certificates"), dict[str, str]()
    for prefix, name in (("", API), ("apps_", f"*.{DOMAIN}")):
        files = {f"{prefix}certificate": str(folder / f"{prefix}cert.pem"), f"{prefix}key": str(folder / f"{prefix}key.pem")}
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        out = ["-out", files[f"{prefix}certificate"], "-keyout", files[f"{prefix}key"]]
        subprocess.run([*made, "-addext", f"subjectAltName=DNS:{name}", *out], check=True, capture_output=True)
        found |= files
    return found


@pytest.mark.parametrize("mode", ["off", "host", "path"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("unlimited", [(), ("192.0.2.0/24", "192.0.2.1/24", "192.0.2.7", "192.0.2.7/32", "2001:db8::/32")])
def test_envoy_takes_every_form(mode: str, tls: bool, unlimited: tuple[str, ...], tmp_path: Path, certificates: dict[str, str]) -> None:
    """Its own check finds nothing wrong, with certificates and without, however pages are reached, and with addresses of Core's."""
    web = msgspec.convert({"mode": mode, "domain": DOMAIN if mode == "host" else ""}, WebSettings)
    settings = settings_for(tmp_path, web, public_url=f"https://{API}" if tls else "", certificates=certificates if tls else None)
    settings = msgspec.structs.replace(settings, envoy=msgspec.structs.replace(settings.envoy, unlimited=unlimited))
    checked = validate(rendered(whole(settings, tmp_path, tools_socket=str(tmp_path / "tools.sock")), tmp_path))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"certificate": "c"}, "one does nothing without the other"),
        ({"certificate": "c", "key": "k"}, "gateway.envoy.apps_certificate and"),
        ({"certificate": "c", "key": "k", "apps_certificate": "c", "apps_key": "k"}, "it must be another one"),
        ({"apps_port": 0}, "need a port of their own"),
    ],
)
def test_settings_that_make_no_front_door(changed: dict[str, str | int], why: str, tmp_path: Path) -> None:
    """In words, with the key that is to be mended."""
    settings = settings_for(tmp_path, WebSettings(mode="host", domain=DOMAIN))
    with pytest.raises(CannotRender, match=why):
        rendered(whole(msgspec.structs.replace(settings, envoy=msgspec.structs.replace(settings.envoy, **changed)), tmp_path), tmp_path)


def test_a_front_door_needs_to_know_both_its_ends(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings_for(tmp_path, WebSettings()), public_url="", port=0)
    with pytest.raises(CannotRender) as told:
        rendered(whole(settings, tmp_path), tmp_path)
    assert [problem.partition(":")[0] for problem in told.value.problems] == ["gateway.public_url", "gateway.port"]


@pytest.mark.parametrize("path", ['a"b', "a: {x}", "a\nb: c", "${HOME}", "a' # b"])
def test_settings_are_data(path: str, tmp_path: Path) -> None:
    """No value changes the structure, whatever stands in it."""
    settings = settings_for(tmp_path, WebSettings(mode="host", domain=DOMAIN))
    envoy = msgspec.structs.replace(settings.envoy, admin_socket=str(tmp_path / path))
    checked = validate(rendered(whole(msgspec.structs.replace(settings, envoy=envoy), tmp_path), tmp_path))
    assert checked.returncode == 0, checked.stderr


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificates: dict[str, str]) -> Generator[Envoy]:
    folder = tmp_path_factory.mktemp("e")
    settings = settings_for(folder, WebSettings(mode="host", domain=DOMAIN), public_url=f"https://{API}", certificates=certificates)
    with running_envoy(settings, folder) as envoy:
        yield envoy


def curl(envoy: Envoy, host: str, path: str, *more: str, sni: str = "") -> list[str]:
    """Lines of the answer's head; `--http2` where curl can."""
    name, port = sni or host, envoy.port
    url, at = f"https://{name}:{port}{path}", ["--resolve", f"{name}:{port}:127.0.0.1"]
    named = ["-H", f"Host: {host}:{port}"] if sni else []
    asked = ["curl", "-sk", "-D", "-", "-o", "/dev/null", "--max-time", "20", "--path-as-is", *at, *named, *more, url]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()


async def test_by_tls_both_ways_in_share_a_port(secure: Envoy, tmp_path: Path) -> None:
    """By name, HTTP/2 too; the cookie is the whole host's. A Host that is not the connection's own leads nowhere."""
    async with site(tmp_path, secure.settings, secure.port) as web:
        held, host = web.open(), f"app-1-0.{DOMAIN}"
        opened = await asyncio.to_thread(curl, secure, host, f"/.serai/open/{held.secret}")
        assert opened[0].startswith("HTTP/2 302")
        cookie = next(line for line in opened if line.lower().startswith("set-cookie:")).split(": ", 1)[1]
        assert cookie == f"__Host-serai-session={held.cookie}; Path=/; HttpOnly; SameSite=Lax; Secure"
        crumbs = ["-H", "Cookie: a=1", "-H", f"Cookie: {cookie.split(';')[0]}", "-H", "Cookie: b=2"]
        page = await asyncio.to_thread(curl, secure, host, "/x", *crumbs)
        assert page[0].startswith("HTTP/2 200")
        assert web.app().requests[-1].header("cookie") == "a=1; b=2"
        assert web.app().requests[-1].header("x-forwarded-proto") == "https"
        assert (await asyncio.to_thread(curl, secure, API, "/healthz"))[0].startswith("HTTP/2 200")
        for sni, other in ((API, host), (host, API), (host, f"x.{DOMAIN}")):
            crossed = await asyncio.to_thread(curl, secure, other, "/healthz", *crumbs, sni=sni)
            assert crossed[0].split(" ")[1] == "404", (sni, other, crossed)


async def test_no_secret_is_in_envoys_log(secure: Envoy, tmp_path: Path) -> None:
    """Not the paths of sessions, nor cookies; the route says enough."""
    async with site(tmp_path, secure.settings, secure.port) as web:
        held = web.open()
        for path in (f"/.serai/open/{held.secret}", f"/x?{held.secret}"):
            await asyncio.to_thread(curl, secure, f"app-1-0.{DOMAIN}", path, "-H", f"Cookie: __Host-serai-session={held.secret}")
        await asyncio.to_thread(curl, secure, API, f"/ucloud/example/jobs/vnc/{held.secret}")
        async with asyncio.timeout(20):
            while len(secure.lines()) < 3:
                await asyncio.sleep(0.05)
        assert held.secret not in (secure.folder / "access.log").read_text()
        assert held.secret not in (secure.folder / "envoy.log").read_text()


async def test_sockets_and_calls_reach_the_gateway(front: Envoy, tmp_path: Path) -> None:
    """Handshakes on the paths of sockets are the gateway's to answer; on others there is none. Calls keep UCloud's errors."""
    async with site(tmp_path, front.settings, front.port) as web:
        secret = web.open().secret
        for path, status in (
            ("/ucloud/jobs.provider.example/websocket", 404),
            ("/ucloud/example/websocket", 404),
            (f"/ucloud/example/jobs/vnc/{secret}", 401),
            ("/healthz", 403),
        ):
            assert (await _handshake(web, path)) in (status, 101), path
        answer = await web.get("/ucloud/example/jobs/retrieveProducts", Host=f"localhost:{front.port}")
        assert (answer.status, answer.header("content-type")) == (401, "application/json")
        assert b"statusCode" in answer.body
        assert (await web.get("/x", Host="elsewhere.test")).status == 404
    gone = await _get_alone(front, "/healthz")
    assert gone.startswith(b"HTTP/1.1 502")  # never 503: Core would repeat the call


async def _handshake(web: Site, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{web.port}\r\n{head}\r\n".encode())
    try:
        async with asyncio.timeout(20):
            return (await read_answer(reader)).status
    finally:
        writer.close()


async def _get_alone(envoy: Envoy, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", envoy.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
