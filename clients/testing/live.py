"""A live Serai for the clients: `serai serve server` with the local backend, Envoy in front of it, in a folder of its own, and the ways in.

There is no UCloud/Core, and no gateway to it: jobs that a tool makes need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from pathlib import Path

from fakes.cutting_relay import CuttingRelay
from fakes.envoy import running_file
from fakes.nomad_certificates import Authority, Pair
from fakes.stack import end_supervisors, free_port

START_S = 60.0
"""Longest that a start may take on a busy machine."""

_READY = b"serai serves provider"

_SETTINGS = """
[provider]
id = "example"
[core]
url = "http://127.0.0.1:9"
public_key_file = "core.key"
refresh_token_file = "refresh.token"
[gateway]
public_url = "https://127.0.0.1:{front_port}"
[gateway.envoy]
host = "127.0.0.1"
port = {envoy_port}
certificate = "127.0.0.1.pem"
key = "127.0.0.1-key.pem"
access_log = "access.log"
admin_socket = "admin.sock"
idle_ms = 2000
rate = 10000
[server]
state_dir = "state"
socket = "s.sock"
[server.tools]
socket = "t.sock"
listen = "127.0.0.1:{tools_port}"
certificate = "127.0.0.1.pem"
key = "127.0.0.1-key.pem"
client_ca = "ca.pem"
[[server.clients]]
name = "tool.example.org"
role = "operator"
[backend.local]
drives_dir = "drives"
cpu = 16
memory_gib = 64
[[products]]
id = "example-compute-1"
category = "example-compute"
cpu = 1
memory_gib = 2
"""


@dataclass(frozen=True)
class Door:
    """One way to the server, as a user of a client is told it."""

    name: str
    address: str
    token: str
    ca_file: Path | None = None
    """Of the certificate behind the address; None = no TLS."""
    pair: Pair | None = None
    """The client's own certificate and key; None = it has none."""

    def environment(self) -> dict[str, str]:
        """What the examples and the clients' own tests read."""
        files = {"SERAI_CA": str(self.ca_file)} if self.ca_file else {}
        if self.pair is not None:
            files |= {"SERAI_CERTIFICATE": self.pair.cert, "SERAI_KEY": self.pair.key}
        return {**_inherited(), "SERAI_ADDRESS": self.address, "SERAI_TOKEN": self.token, **files}


@dataclass(frozen=True)
class Way:
    """A door behind a relay that can be cut."""

    door: Door
    relay: CuttingRelay


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("SERAI_")}


@dataclass
class Site:
    folder: Path
    tools_port: int
    """Of the tools' door, with TLS and certificates of clients."""
    envoy_port: int
    front_port: int
    """Under which Envoy is known outside; it answers for no other. Who uses `envoy` leads it to `envoy_port`."""
    pair: Pair
    """Of a client that the server knows."""
    token: str = field(default="", init=False)
    """Of an operator."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def _log(self) -> Path:
        return self.folder / "serai.log"

    @property
    def tools(self) -> Path:
        """The tools' door as a Unix socket."""
        return self.folder / "t.sock"

    @property
    def certificate(self) -> Door:
        """No token: the client is known by its certificate."""
        return Door("certificate", f"https://127.0.0.1:{self.tools_port}", "", self.folder / "ca.pem", self.pair)

    @property
    def envoy(self) -> Door:
        return Door("envoy", f"https://127.0.0.1:{self.front_port}", self.token, self.folder / "ca.pem")

    def start(self) -> None:
        """Raises AssertionError with the log's end when it does not come up."""
        told = self._log.read_bytes().count(_READY) if self._log.exists() else 0
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "serai_server.cli", "serve", "server", "--config", str(self.folder / "serai.toml")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while self._log.read_bytes().count(_READY) == told:
            assert self.process.poll() is None and time.monotonic() < deadline, f"serai does not serve:\n{self.tail()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut does; jobs go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def new_token(self, *options: str) -> str:
        return self._cli("tokens", "create", *options).stdout.decode().strip()

    def rendered(self) -> Path:
        """Envoy's configuration."""
        file = self.folder / "envoy.yaml"
        done = self._cli("envoy", "render", "-o", str(file))
        assert done.returncode == 0, done.stderr.decode()
        return file

    def state(self, job_id: str) -> str:
        """Of a job, as the operator sees it."""
        return json.loads(self._cli("jobs", "show", job_id, "--json").stdout)["state"]

    def _cli(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "SERAI_CONFIG": str(self.folder / "serai.toml")}
        return subprocess.run(
            [sys.executable, "-m", "serai_server.cli", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )


@contextlib.contextmanager
def running_site(folder: Path) -> Generator[Site]:
    """Everything in `folder`, whose path must be short enough for a socket; leaving ends the server and every job that is left."""
    (folder / "drives").mkdir()
    folder.chmod(0o755)  # a job's own user id must reach its drive
    ports = {name: free_port() for name in ("tools_port", "envoy_port", "front_port")}
    (folder / "serai.toml").write_text(_SETTINGS.format(**ports))
    authority = Authority(folder)
    authority.issue("127.0.0.1", ip="127.0.0.1")
    site = Site(folder, **ports, pair=authority.issue("tool.example.org"))
    try:
        site.start()
        site.token = site.new_token("--role", "operator")
        with running_file(site.rendered(), folder / "admin.sock"):
            yield site
    finally:
        site.kill()
        end_supervisors(folder / "state")


@contextlib.asynccontextmanager
async def cuttable_way(behind: Path | int, port: int = 0) -> AsyncGenerator[tuple[CuttingRelay, int]]:
    """A TCP port of loopback, 0 = any, that leads to the Unix socket or the port `behind`, and can be cut; with its number."""
    relay = CuttingRelay(behind)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", port)
    try:
        yield relay, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await relay.stop()
