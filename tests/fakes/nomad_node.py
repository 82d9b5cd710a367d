"""A real Nomad agent for one test module, when `nomad` is on PATH: server and client in one process, root, everything below one folder.

Plain blocking calls: what a person would type with curl.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from serai_backends.nomad import names
from serai_backends.nomad.wire import Allocation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serai_backends.nomad.jobfile import JobFile

_CONFIG = """
bind_addr = "127.0.0.1"
data_dir = "{folder}/data"
ports {{ http = {http}
 rpc = {rpc}
 serf = {serf} }}
advertise {{ http = "127.0.0.1"
 rpc = "127.0.0.1"
 serf = "127.0.0.1" }}
disable_update_check = true
server {{ enabled = true
 bootstrap_expect = 1 }}
client {{ enabled = true
 network_interface = "lo"
 options = {{ "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean" }}
 cni_path = "/usr/lib/cni"
 cpu_total_compute = 32000
 memory_total_mb = 32768
 gc_max_allocs = 5000
 host_volumes_dir = "{folder}/volumes"
 chroot_env {{ "/bin" = "/bin"
  "/lib" = "/lib"
  "/lib64" = "/lib64"
  "/usr/bin" = "/usr/bin"
  "/usr/lib/x86_64-linux-gnu" = "/usr/lib/x86_64-linux-gnu"
  "{programs}" = "/usr/local/bin" }} }}
plugin "raw_exec" {{ config {{ enabled = true }} }}
plugin "docker" {{ config {{ volumes {{ enabled = true }}
 infra_image = "local/pause:1"
 gc {{ image = false }} }} }}
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def let_pass(folder: Path) -> None:
    """Jobs' users reach what lies in a test's folder."""
    while folder != Path(tempfile.gettempdir()):
        folder.chmod(0o755)
        folder = folder.parent


class Agent:
    def __init__(self, folder: Path, programs: Path) -> None:
        """Skips the test, by name and reason, where there is no agent to be had."""
        program = shutil.which("nomad")
        if program is None:
            pytest.skip("real agent: nomad is not on PATH")
        if os.geteuid() != 0:
            pytest.skip("real agent: a Nomad client needs root")
        self.programs = programs
        """Folder of programs that the nodes have."""
        http, rpc, serf = _free_ports(3)
        folder.mkdir()
        config = folder / "agent.hcl"
        config.write_text(_CONFIG.format(folder=folder, http=http, rpc=rpc, serf=serf, programs=programs))
        self.address = f"http://127.0.0.1:{http}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOMAD_", "AWS_"))}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "agent", "-config", str(config)], stdout=log, stderr=log, env=environment)
        self._jobs: set[str] = set()
        try:
            self.until(self._ready, "the agent is ready", 60)
        except BaseException:
            self.close()
            raise

    def _ready(self) -> bool:
        try:
            return any(node["Status"] == "ready" for node in self.call("GET", "/v1/nodes"))
        except (OSError, urllib.error.URLError):
            return False

    def has(self, driver: str, image: str = "") -> None:
        """Skips where the node cannot run that."""
        node = self.call("GET", "/v1/nodes")[0]
        if not node["Drivers"].get(driver, {}).get("Healthy"):
            pytest.skip(f"real agent: the driver {driver} is not healthy here")
        if image and subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            pytest.skip(f"real agent: there is no image {image}")

    # Nomad's JSON has no shape here: each test takes out what it looks at
    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # pyright: ignore[reportExplicitAny, reportAny]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, method=method, data=data)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            error.close()
            if error.code == 404:
                return None
            raise AssertionError(f"{method} {path}: {error.code} {text}") from error

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=20) as answer:
            return answer.read().decode()

    def until(self, wanted: Callable[[], bool], what: str, seconds: float = 30) -> float:
        """Polls; how long it took in s."""
        start = time.monotonic()
        while not wanted():
            assert time.monotonic() < start + seconds, f"not seen in {seconds} s: {what}"
            time.sleep(0.02)
        return time.monotonic() - start

    def register(self, job: JobFile) -> str:
        self.call("PUT", "/v1/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0})
        self._jobs.add(str(job["ID"]))
        return str(job["ID"])

    def write(self, nomad_id: str, nodes: str = "self", peers: str = "", hosts: str = "") -> None:
        path = names.variable(nomad_id)
        items = {names.NODES: nodes, names.PEERS: peers, names.HOSTS: hosts}
        self.call("PUT", f"/v1/var/{path}", {"Path": path, "Items": items})

    def allocations(self, nomad_id: str) -> list[Allocation]:
        """In order of ranks."""
        found = [
            self.allocation(str(each["ID"]))
            for each in cast("list[dict[str, object]]", self.call("GET", f"/v1/job/{nomad_id}/allocations"))
        ]
        return sorted(found, key=lambda each: names.rank_of(each.task_group) or 0)

    def allocation(self, alloc_id: str) -> Allocation:
        return msgspec.convert(self.call("GET", f"/v1/allocation/{alloc_id}"), Allocation)

    def addresses(self, nomad_id: str, count: int) -> list[str]:
        found: list[str] = []

        def all_there() -> bool:
            found[:] = [each.network_status.address for each in self.allocations(nomad_id) if each.network_status]
            return len(found) == count and all(found)

        self.until(all_there, "all ranks have addresses")
        return found

    def over(self, nomad_id: str, count: int = 1) -> list[Allocation]:
        found: list[Allocation] = []

        def all_over() -> bool:
            found[:] = self.allocations(nomad_id)
            states = [state.state for each in found for state in (each.task_states or {}).values()]
            return len(found) == count and bool(states) and set(states) == {"dead"}

        self.until(all_over, f"{nomad_id} is over", 60)
        return found

    def stop(self, nomad_id: str) -> None:
        self.call("DELETE", f"/v1/job/{nomad_id}")

    def close(self) -> None:
        for nomad_id in self._jobs:
            self.stop(nomad_id)
        for nomad_id in self._jobs:
            self.until(
                lambda each=nomad_id: all(a.client_status in {"complete", "failed", "lost"} for a in self.allocations(each)), "stopped", 60
            )
            self.call("DELETE", f"/v1/job/{nomad_id}?purge=true")
        self._process.terminate()
        self._process.wait(30)


def exit_code(allocation: Allocation, task: str = names.MAIN) -> tuple[int, int]:
    """Code and signal of its last end; fails with its events when it has none."""
    events = ((allocation.task_states or {})[task]).events or ()
    ends = [event for event in events if event.type == "Terminated"]
    assert ends, [(event.type, event.display_message) for event in events]
    return ends[-1].exit_code, ends[-1].signal
