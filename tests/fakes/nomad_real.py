"""A real Nomad agent for tests, where `nomad` is on PATH: server and client in one, all below a folder of its own, ended by its own pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import aiohttp

_CONFIG = """
bind_addr = "127.0.0.1"
data_dir = "{data}"
disable_update_check = true
ports {{
  http = {http}
  rpc = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc = "127.0.0.1"
  serf = "127.0.0.1"
}}
server {{
  enabled = true
  bootstrap_expect = 1
  event_buffer_size = {buffer}
}}
client {{
  enabled = true
  network_interface = "{interface}"
  cni_path = "/usr/lib/cni"
  gc_max_allocs = {max_allocs}
  cpu_total_compute = {cpu_mhz}
  memory_total_mb = {memory_mb}
  host_volumes_dir = "{data}/host_volumes"
  chroot_env {{
{chroot}
  }}
  options = {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }}
}}
plugin "raw_exec" {{
  config {{ enabled = true }}
}}
plugin "docker" {{
  config {{
    volumes {{ enabled = true }}
    infra_image = "local/pause:1"
    gc {{ image = false }}
  }}
}}
"""
_CHROOT = ("/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib/x86_64-linux-gnu")
"""What programs of the driver exec see of the machine: all of it takes 16 s to copy, before each start."""


def why_not() -> str | None:
    """The reason for which no real agent can be had here; None = it can."""
    if shutil.which("nomad") is None:
        return "nomad is not on PATH: what a real agent does was not tried here"
    if os.geteuid() != 0:
        return "a Nomad client needs root: what a real agent does was not tried here"
    return None


class RealAgent:
    """Start it with `async with`; `folder` stays until the test run takes it away."""

    def __init__(
        self,
        folder: Path,
        *,
        cpu_mhz: int = 32_000,
        memory_mb: int = 32_768,
        event_buffer_size: int = 1_000,
        max_allocs: int = 5_000,
        extra: str = "",
        programs: Path | None = None,
        interface: str = "lo",
    ) -> None:
        """`programs`: a folder of programs for the driver exec. `interface`: whose address is the node's."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        ports = free_ports(3)
        self.port = ports[0]
        chroot = {name: name for name in _CHROOT if Path(name).exists()} | ({str(programs): "/usr/local/bin"} if programs else {})
        self._config = extra + _CONFIG.format(
            data=folder / "data",
            http=ports[0],
            rpc=ports[1],
            serf=ports[2],
            buffer=event_buffer_size,
            max_allocs=max_allocs,
            cpu_mhz=cpu_mhz,
            memory_mb=memory_mb,
            interface=interface,
            chroot="\n".join(f'    "{source}" = "{place}"' for source, place in chroot.items()),
        )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> RealAgent:
        await asyncio.to_thread(self._write)
        await self.start()
        return self

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "agent.hcl").write_text(self._config)

    async def __aexit__(self, *_: object) -> None:
        """Jobs first, because tasks outlive their agent; then the agent, then what it mounted for them. Their networks are taken away by
        the agent after their ends are told, and stay for ever when it is gone by then."""
        if self._process is not None and self._process.poll() is None:
            await end_jobs(self.address)
            await networks_gone(self._folder)
        await self.go_down(signal.SIGTERM)
        await asyncio.to_thread(unmount, self._folder)

    async def start(self) -> None:
        """Up, and its node ready."""
        env = {k: v for k, v in os.environ.items() if k not in {"AWS_CA_BUNDLE"} and not k.startswith("NOMAD_")}
        log = (self._folder / "log").open("ab")
        try:
            command = ["nomad", "agent", "-config", str(self._folder / "agent.hcl")]
            self._process = await asyncio.to_thread(subprocess.Popen, command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
        finally:
            log.close()
        await self._until('"Status":"ready"', "/v1/nodes", 60)

    async def go_down(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        """The agent alone; its tasks live on."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(with_signal)
        await asyncio.to_thread(self._process.wait)

    async def come_back(self) -> None:
        await self.start()

    async def _until(self, text: str, path: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession(self.address) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(path) as response:
                        if text in await response.text():
                            return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the agent did not come up: see {self._folder / 'log'}")
                await asyncio.sleep(0.1)

    async def clear(self) -> None:
        """No job, no variable: as new, for the next test."""
        await end_jobs(self.address)
        async with aiohttp.ClientSession(self.address) as session:
            for row in await _rows(session, "/v1/jobs?namespace=*"):
                async with session.delete(f"/v1/job/{row['ID']}?namespace={row['Namespace']}&purge=true"):
                    pass
            for row in await _rows(session, "/v1/vars?namespace=*"):
                async with session.delete(f"/v1/var/{row['Path']}?namespace={row['Namespace']}"):
                    pass
            for row in await _rows(session, "/v1/volumes?type=host"):
                async with session.delete(f"/v1/volume/host/{row['ID']}/delete"):
                    pass


async def end_jobs(address: str) -> None:
    """Stopped, not purged: the agent waits for their ends only while it knows them."""
    async with aiohttp.ClientSession(address) as session:
        for row in await _rows(session, "/v1/jobs?namespace=*"):
            async with session.delete(f"/v1/job/{row['ID']}?namespace={row['Namespace']}"):
                pass
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            allocations = await _rows(session, "/v1/allocations?namespace=*")
            if all(a["ClientStatus"] in {"complete", "failed", "lost"} for a in allocations):
                return
            await asyncio.sleep(0.1)


async def networks_gone(folder: Path) -> None:
    """Until the agent has taken away the network namespaces of its allocations, which have the same names; not for ever."""
    deadline = time.monotonic() + 30
    while names(folder / "data" / "alloc") & names(Path("/run/netns")) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


async def _rows(session: aiohttp.ClientSession, path: str) -> list[dict[str, str]]:
    async with session.get(path) as response:
        found: list[dict[str, str]] | None = await response.json()
        return found or []


def free_ports(count: int) -> list[int]:
    """That nothing listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in held]
    for one in held:
        one.close()
    return ports


def unmount(folder: Path) -> None:
    """What the client mounted into task folders: without that the folder cannot be taken away."""
    mounts = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", place], check=False)
