"""A real server with two clients as processes of their own, for what only shows when a node is lost. Missed after about two seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import aiohttp

from fakes.nomad_real import end_jobs, free_ports, unmount

_COMMON = """
name = "{name}"
bind_addr = "127.0.0.1"
data_dir = "{data}"
disable_update_check = true
ports {{
  http = {ports[0]}
  rpc = {ports[1]}
  serf = {ports[2]}
}}
advertise {{
  http = "127.0.0.1:{ports[0]}"
  rpc = "127.0.0.1:{ports[1]}"
  serf = "127.0.0.1:{ports[2]}"
}}
"""
_SERVER = """
server {{
  enabled = true
  bootstrap_expect = 1
  heartbeat_grace = "1s"
  min_heartbeat_ttl = "1s"
  max_heartbeats_per_second = 1000
  failover_heartbeat_ttl = "2s"
}}
"""
_CLIENT = """
client {{
  enabled = true
  servers = ["127.0.0.1:{rpc}"]
  network_interface = "lo"
  cpu_total_compute = 1000
  memory_total_mb = 1000
  options = {{ "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean" }}
}}
plugin "raw_exec" {{
  config {{ enabled = true }}
}}
"""


class RealCluster:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: free_ports(3) for name in ("server", "one", "two")}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports['server'][0]}"

    async def __aenter__(self) -> RealCluster:
        for name in self._ports:
            await asyncio.to_thread(self._start, name)
        await self.ready(2)
        return self

    def _start(self, name: str) -> None:
        place = self._folder / name
        place.mkdir(parents=True, exist_ok=True)
        own = _SERVER.format() if name == "server" else _CLIENT.format(rpc=self._ports["server"][1])
        (place / "agent.hcl").write_text(_COMMON.format(name=name, data=place / "data", ports=self._ports[name]) + own)
        env = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE" and not k.startswith("NOMAD_")}
        with (place / "log").open("ab") as log:
            command = ["nomad", "agent", "-config", str(place / "agent.hcl")]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)

    def lose(self, name: str) -> None:
        """kill -9: its tasks live on, the server hears nothing more."""
        self._running[name].kill()
        self._running[name].wait()

    async def find(self, name: str) -> None:
        await asyncio.to_thread(self._start, name)

    async def ready(self, count: int) -> None:
        deadline = time.monotonic() + 60
        async with aiohttp.ClientSession(self.address) as session:
            while True:
                try:
                    async with session.get("/v1/nodes") as response:
                        rows: list[dict[str, str]] = await response.json()
                    if sum(r["Status"] == "ready" for r in rows) >= count:
                        return
                except aiohttp.ClientError:
                    pass
                assert time.monotonic() < deadline, f"the cluster did not come up: see {self._folder}"
                await asyncio.sleep(0.1)

    async def __aexit__(self, *_: object) -> None:
        """Jobs first, because tasks outlive their agents."""
        if all(process.poll() is None for process in self._running.values()):
            await end_jobs(self.address)
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(process.wait)
        await asyncio.to_thread(unmount, self._folder)
