"""A live Serai for the clients: `serai serve server` with the local backend, in a folder of its own, and the ways to it.

There is no UCloud/Core: jobs that a tool makes need none.
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
from dataclasses import dataclass
from pathlib import Path

from fakes.cutting_relay import CuttingRelay
from fakes.nomad_certificates import Authority
from fakes.stack import end_supervisors, free_port

START_S = 60.0
"""Longest that a start may take on a busy machine."""

_SETTINGS = """
[provider]
id = "example"
[core]
url = "http://127.0.0.1:9"
public_key_file = "core.key"
refresh_token_file = "refresh.token"
[server]
state_dir = "state"
socket = "s.sock"
[server.tools]
socket = "t.sock"
listen = "127.0.0.1:{port}"
certificate = "127.0.0.1.pem"
key = "127.0.0.1-key.pem"
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

    def environment(self) -> dict[str, str]:
        """What the examples and the clients' own tests read."""
        ca = {"SERAI_CA": str(self.ca_file)} if self.ca_file else {}
        return {**_inherited(), "SERAI_ADDRESS": self.address, "SERAI_TOKEN": self.token, **ca}


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("SERAI_")}


@dataclass
class Site:
    folder: Path
    port: int
    """Of the tools' door, with TLS."""
    token: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def tools(self) -> Path:
        """The tools' door as a Unix socket."""
        return self.folder / "t.sock"

    @property
    def tls(self) -> Door:
        return Door("tls", f"https://127.0.0.1:{self.port}", self.token, self.folder / "ca.pem")

    def start(self) -> None:
        """Raises AssertionError with the log's end when it does not come up."""
        with (self.folder / "serai.log").open("ab") as log:
            command = [sys.executable, "-m", "serai_server.cli", "serve", "server", "--config", str(self.folder / "serai.toml")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while self._cli("jobs", "list").returncode != 0:
            assert self.process.poll() is None and time.monotonic() < deadline, f"serai does not serve:\n{self.tail()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut does; jobs go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        return "\n".join((self.folder / "serai.log").read_text(errors="replace").splitlines()[-20:])

    def new_token(self, *options: str) -> str:
        return self._cli("tokens", "create", *options).stdout.decode().strip()

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
    port = free_port()
    (folder / "serai.toml").write_text(_SETTINGS.format(port=port))
    Authority(folder).issue("127.0.0.1", ip="127.0.0.1")
    site = Site(folder, port)
    try:
        site.start()
        site.token = site.new_token("--role", "operator")
        yield site
    finally:
        site.kill()
        end_supervisors(folder / "state")


@contextlib.asynccontextmanager
async def cuttable_way(behind: Path) -> AsyncGenerator[tuple[CuttingRelay, str]]:
    """A TCP port of loopback that leads to the Unix socket `behind`, and can be cut; with its address."""
    relay = CuttingRelay(behind)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield relay, f"http://{host}:{port}"
    finally:
        server.close()
        await relay.stop()
