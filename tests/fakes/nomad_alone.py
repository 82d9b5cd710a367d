"""A real Nomad agent, server and client in one, for one test module: started where `nomad` is on PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

WITHOUT = "nomad is not on PATH: nothing was tried against a real agent"
_CONFIG = """
bind_addr = "127.0.0.1"
data_dir = "{folder}/data"
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
disable_update_check = true
server {{
  enabled           = true
  bootstrap_expect  = 1
  event_buffer_size = {events}
}}
client {{
  enabled           = true
  network_interface = "lo"
  host_volumes_dir  = "{folder}/data/host_volumes"
  gc_max_allocs     = {allocations}
  options = {{
    "driver.allowlist"     = "raw_exec,mock_driver"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }}
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
acl {{
  enabled = {acl}
}}
"""


def found() -> str | None:
    return shutil.which("nomad")


def _ports() -> tuple[int, int, int]:
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for one in (a, b, c):
            one.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1], c.getsockname()[1]


@dataclass(frozen=True)
class RealAgent:
    address: str
    token: str
    """May do everything; empty where the ACLs are off."""


@asynccontextmanager
async def agent(*, acl: bool = False, events: int = 10_000, allocations: int = 500) -> AsyncGenerator[RealAgent]:
    """When it has a node that is ready. It ends what runs at the end."""
    nomad = found()
    assert nomad is not None, WITHOUT
    folder = Path(tempfile.mkdtemp(prefix="serai-nomad-"))
    http, rpc, serf = _ports()
    config = folder / "agent.hcl"
    config.write_text(
        _CONFIG.format(folder=folder, http=http, rpc=rpc, serf=serf, acl=str(acl).lower(), events=events, allocations=allocations)
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NOMAD_", "AWS_"))}
    process = _start([nomad, "agent", "-config", str(config)], environ, folder / "log")
    address = f"http://127.0.0.1:{http}"
    try:
        token = await _ready(address, acl=acl, log=folder / "log", process=process)
        yield RealAgent(address, token)
        await _end_jobs(address, token)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 30)
        _remove(folder)


async def _end_jobs(address: str, token: str) -> None:
    """Tasks live on without their agent, and so do the file systems that it mounts for them."""
    async with aiohttp.ClientSession(address, headers={"X-Nomad-Token": token}) as session, asyncio.timeout(30):
        async with session.get("/v1/jobs?namespace=*") as response:
            jobs = [(str(job["ID"]), str(job["Namespace"])) for job in await response.json()]
        for job, namespace in jobs:
            async with session.delete(f"/v1/job/{job}", params={"namespace": namespace}):
                pass
        while True:
            async with session.get("/v1/allocations?namespace=*") as response:
                states = {str(allocation["ClientStatus"]) for allocation in await response.json()}
            if states <= {"complete", "failed", "lost"}:
                break
            await asyncio.sleep(0.1)


def _remove(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {folder}/" in line]
    for mount in reversed(mounts):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _start(command: list[str], environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environ, start_new_session=True)


def _last_words(log: Path) -> str:
    return log.read_text()[-2_000:]


async def _ready(address: str, *, acl: bool, log: Path, process: subprocess.Popen[bytes]) -> str:
    """The token that may do everything; "" without `acl`."""
    token = ""
    async with aiohttp.ClientSession(address) as session, asyncio.timeout(60):
        while True:
            assert process.poll() is None, _last_words(log)
            try:
                if acl and not token:
                    async with session.post("/v1/acl/bootstrap") as response:
                        token = str((await response.json())["SecretID"]) if response.ok else ""
                async with session.get("/v1/nodes", headers={"X-Nomad-Token": token}) as response:
                    if response.ok and '"Status":"ready"' in await response.text():
                        return token
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
