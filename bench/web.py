"""Pages of jobs: small requests and large answers by the gateway's own way and through Envoy with the gateway's check, over Envoy alone.

The same application behind all of them, in turn in each round. A rate is what passes for each second of CPU of whatever stands before the
application; each ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import uvloop
from serai_gateway.envoy.render import render
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.web_settings import EnvoySettings, WebSettings

from bench.envoys import free_ports, start_envoy
from bench.gateway_load import Connection
from bench.ratio import Ratio
from bench.web_ends import LARGE_BYTES, SMALL

ROUNDS = 7
SECONDS = 0.4
CONNECTIONS = 16
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_SECRET = "A" * 43
_ALONE = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: alone
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true }}
          route_config:
            virtual_hosts: [{{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: app, timeout: 0s }} }}] }}]
  clusters:
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {app} }} }} }} }}] }}]
"""


@dataclass(frozen=True)
class _Way:
    port: int
    processes: tuple[int, ...]
    """Ids of what stands before the application, or of itself where nothing does."""


@dataclass(frozen=True)
class _Found:
    small: float
    """Requests for each second of CPU."""
    large: float
    """MiB for each second of CPU."""
    rate: float
    """Requests a second."""


def _start(stack: ExitStack, *arguments: str) -> tuple[int, int]:
    """An end of `web_ends`: process id and port."""
    command = [sys.executable, "-m", "bench.web_ends", *arguments]
    process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    stack.callback(process.stdin.close)
    return process.pid, int(json.loads(process.stdout.readline())["port"])


def _ways(stack: ExitStack) -> Mapping[str, _Way]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serai-")))
    alone_port, envoy_port, apps_port, gateway_port = free_ports(4)
    gateway = GatewaySettings(
        port=gateway_port,
        access_log=False,
        stop_grace_ms=0,
        public_url=f"http://provider.test:{envoy_port}",
        web=WebSettings(mode="host", domain="apps.test"),
        envoy=EnvoySettings(host="127.0.0.1", port=envoy_port, apps_port=apps_port, access_log=os.devnull),
    ).relative_to(folder, folder)
    (folder / "gateway.json").write_bytes(msgspec.json.encode(gateway))
    app, app_port = _start(stack, "application")
    serai, serai_port = _start(stack, "gateway", str(folder), str(app_port))
    alone = start_envoy(stack, folder, "alone", _ALONE.format(port=alone_port, app=app_port), alone_port)
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file="-", refresh_token_file="-")
    (text,) = render(Settings(provider=ProviderSettings(id="bench"), core=core, gateway=gateway), folder / "checked.yaml").values()
    checked = start_envoy(stack, folder, "checked", text.decode(), apps_port)
    return {
        "nothing": _Way(app_port, (app,)),
        "Envoy alone": _Way(alone_port, (alone,)),
        "Envoy and the check": _Way(apps_port, (checked, serai)),
        "the gateway's own way": _Way(serai_port, (serai,)),
    }


def _cpu_s(processes: tuple[int, ...]) -> float:
    """Seconds of CPU so far, of all their threads (proc(5))."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) * _TICK_S


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: app-1-0.apps.test\r\nCookie: a=1; serai-session={_SECRET}\r\n\r\n".encode()


async def _small(way: _Way, seconds: float) -> tuple[int, float]:
    """Requests that were answered, and in how many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port)
    writer.write(_request("/small"))
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer: {head!r}")
    length = len(head) + len(SMALL.partition(b"\r\n\r\n")[2])
    writer.close()
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    ended = [loop.create_future() for _ in range(CONNECTIONS)]
    connections: list[Connection] = []
    for done in ended:
        made = lambda done=done: Connection(iter(lambda: _request("/small"), b""), length, began + seconds, done)  # noqa: E731
        _, connection = await loop.create_connection(made, "127.0.0.1", way.port)
        connections.append(connection)
    await asyncio.gather(*ended)
    return sum(connection.answers for connection in connections), time.perf_counter() - began


async def _large(way: _Way) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=1 << 20)
    writer.write(_request("/large"))
    await reader.readuntil(b"\r\n\r\n")
    left = LARGE_BYTES
    while left:
        piece = await reader.read(1 << 20)
        if not piece:
            raise RuntimeError("the answer broke off")
        left -= len(piece)
    writer.close()


def _measure(way: _Way, seconds: float) -> _Found:
    before = _cpu_s(way.processes)
    answers, took_s = uvloop.run(_small(way, seconds))
    between = _cpu_s(way.processes)
    uvloop.run(_large(way))
    after = _cpu_s(way.processes)
    return _Found(answers / max(between - before, _TICK_S), LARGE_BYTES / 2**20 / max(after - between, _TICK_S), answers / took_s)


def run() -> list[Ratio]:
    with ExitStack() as stack:
        ways = _ways(stack)
        for way in ways.values():
            _measure(way, SECONDS / 4)
        rounds = [{name: _measure(way, SECONDS) for name, way in ways.items()} for _ in range(ROUNDS)]

    def ratio(name: str, what: str, limit: float) -> Ratio:
        over = [getattr(one[name], what) / getattr(one["Envoy alone"], what) for one in rounds]
        mine = median(getattr(one[name], what) for one in rounds)
        unit = "MiB" if what == "large" else "requests"
        kind = "large answers" if what == "large" else "small requests"
        rates = f", {median(one[name].rate for one in rounds):,.0f}/s" if what == "small" else ""
        detail = f"{mine:,.0f} {unit} for each second of CPU{rates}"
        return Ratio(f"pages, {kind}: {name} over Envoy alone", median(over), limit, "at least" if limit else "printed", "x", detail)

    return [
        ratio("Envoy and the check", "small", 0.15),
        ratio("the gateway's own way", "small", 0.08),
        ratio("Envoy and the check", "large", 0.5),
        ratio("the gateway's own way", "large", 0.1),
        ratio("nothing", "small", 0),
        ratio("nothing", "large", 0),
    ]
