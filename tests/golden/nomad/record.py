"""Records what a real Nomad says of the cases in cases.py: `sudo PATH=$PATH:… python tests/golden/nomad/record.py [NAME…]`.

Brings up an agent and a second client on loopback, in a folder of their own that is taken away again. Needs root, `nomad` on PATH, docker
with the image of cases.IMAGE (examples/acme-batch) and one of the name local/pause:1 (any image: it only has to be there). Writes
allocations/NAME.json (the newest of `GET /v1/allocation/:id`, the entry of the list, and each state that the event stream told) and
evaluations/NAME.json. Ids, names of machines and folders are replaced, so that two recordings can be compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
from cases import JSON, Case

HERE = Path(__file__).parent
PORT = int(os.environ.get("SERAI_NOMAD_PORT", "15430"))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX = re.compile(r"\b[0-9a-f]{64}\b")
_LEFT_OUT = {"Job", "Metrics", "Resources", "SharedResources", "TaskResources", "AllocStates", "DeploymentStatus", "RescheduleTracker"}
_DONE = ("complete", "failed", "lost")


def config(folder: Path, port: int, *, second: bool) -> str:
    client = f'client {{ enabled = true\n servers = ["127.0.0.1:{PORT + 1}"]'
    server = """server {
  enabled           = true
  bootstrap_expect  = 1
  event_buffer_size = 5000
  min_heartbeat_ttl = "2s"
  heartbeat_grace   = "1s"
}"""
    role = client if second else f"{server}\nclient {{ enabled = true"
    return f"""
name = "{"node-2" if second else "node-1"}"
datacenter = "{"second" if second else "dc1"}"
bind_addr = "127.0.0.1"
data_dir = "{folder}"
disable_update_check = true
ports {{
  http = {port}
  rpc  = {port + 1}
  serf = {port + 2}
}}
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
{role}
  network_interface = "lo"
  cni_path = "/usr/lib/cni:/opt/cni/bin"
  gc_max_allocs = 5000
  cpu_total_compute = {1000 if second else 32000}
  memory_total_mb = 8192
  options = {{ "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean" }}
}}
plugin "raw_exec" {{
  config {{ enabled = true }}
}}
plugin "docker" {{
  config {{
    infra_image = "local/pause:1"
    volumes {{ enabled = true }}
    gc {{ image = false }}
  }}
}}
"""


def call(method: str, path: str, body: JSON = None, *, timeout: float = 10) -> JSON:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def many(path: str) -> list[dict[str, JSON]]:
    found = call("GET", path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def one(path: str) -> dict[str, JSON]:
    found = call("GET", path)
    return found if isinstance(found, dict) else {}


def until(what: str, is_so: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for this to be so: {what}")
        time.sleep(0.1)


def allocations(job: str) -> list[dict[str, JSON]]:
    return sorted(many(f"/v1/job/{job}/allocations"), key=lambda a: (str(a["Name"]), int(str(a["CreateIndex"]))))


def is_dead(alloc: dict[str, JSON]) -> bool:
    states = alloc.get("TaskStates")
    tasks = states.values() if isinstance(states, dict) else ()
    return alloc["ClientStatus"] in _DONE and all(isinstance(t, dict) and t["State"] == "dead" for t in tasks)


class Recorder:
    def __init__(self, folder: Path, second: subprocess.Popen[bytes]) -> None:
        self.folder, self.second = folder, second

    def run(self, case: Case) -> None:
        call("PUT", "/v1/jobs", {"Job": case.job})
        until(f"{case.name} is placed", lambda: bool(allocations(case.name)))
        alloc_id = str(allocations(case.name)[0]["ID"])
        if case.action:
            words = "Task Setup" if case.blocked else "Started"
            until(f"{case.name} has {words}", lambda: f'"{words}"' in json.dumps(allocations(case.name)[0]["TaskStates"]))
            self._act(case, alloc_id)
        if case.action != "lose":
            until(f"{case.name} is over", lambda: is_dead(allocations(case.name)[0]))
        listed = allocations(case.name)[0]
        told = [item for item in events(case.name, int(str(listed["CreateIndex"]))) if item["ID"] == alloc_id]
        states: list[JSON] = [_trimmed(item) for item in told]
        kept: dict[str, JSON] = {"alone": _trimmed(one(f"/v1/allocation/{alloc_id}")), "listed": _trimmed(listed), "events": states}
        self._write("allocations", case.name, kept)
        call("DELETE", f"/v1/job/{case.name}")

    def unplaced(self, case: Case) -> None:
        call("PUT", "/v1/jobs", {"Job": case.job})
        until(f"{case.name} is refused", lambda: any(e.get("FailedTGAllocs") for e in many(f"/v1/job/{case.name}/evaluations")))
        until(f"{case.name} waits", lambda: any(e["Status"] == "blocked" for e in many(f"/v1/job/{case.name}/evaluations")), 10)
        evaluations: list[JSON] = [*many(f"/v1/job/{case.name}/evaluations")]
        self._write("evaluations", case.name, evaluations)
        call("DELETE", f"/v1/job/{case.name}")

    def _act(self, case: Case, alloc_id: str) -> None:
        node: dict[str, JSON] = {"Deadline": 2_000_000_000, "IgnoreSystemJobs": False}
        node_id = one(f"/v1/allocation/{alloc_id}")["NodeID"]
        match case.action:
            case "deregister":
                call("DELETE", f"/v1/job/{case.name}")
            case "stop":
                call("PUT", f"/v1/allocation/{alloc_id}/stop")
            case "stop-reschedule":
                call("PUT", f"/v1/allocation/{alloc_id}/stop?reschedule=true")
            case "restart":
                call("PUT", f"/v1/client/allocation/{alloc_id}/restart", {})
            case "signal":
                call("PUT", f"/v1/client/allocation/{alloc_id}/signal", {"Signal": "SIGINT"})
            case "drain":
                call("PUT", f"/v1/node/{node_id}/drain", {"DrainSpec": node})
                until(f"{case.name} is drained", lambda: is_dead(allocations(case.name)[0]))
                until("the drain is over", lambda: one(f"/v1/node/{node_id}")["DrainStrategy"] is None)
                call("PUT", f"/v1/node/{node_id}/drain", {"DrainSpec": None, "MarkEligible": True})
            case "preempt":
                call("PUT", "/v1/operator/scheduler/configuration", {"PreemptionConfig": {"BatchSchedulerEnabled": True}})
                call("PUT", "/v1/jobs", {"Job": cases.usurper()})
                until(f"{case.name} is preempted", lambda: is_dead(allocations(case.name)[0]))
                call("DELETE", "/v1/job/usurper")
            case "return":
                self.second.send_signal(signal.SIGSTOP)
                until(f"{case.name} is lost", lambda: allocations(case.name)[0]["ClientStatus"] == "lost")
                self.second.send_signal(signal.SIGCONT)
                until("the node is back", lambda: one(f"/v1/node/{node_id}")["Status"] == "ready")
                until(f"{case.name} is over", lambda: is_dead(allocations(case.name)[0]))
            case "lose":
                self.second.kill()
                until(f"{case.name} is lost", lambda: allocations(case.name)[0]["ClientStatus"] == "lost")
            case "":
                pass

    def _write(self, kind: str, name: str, kept: JSON) -> None:
        text = json.dumps(kept, indent=1, sort_keys=True).replace(str(self.folder), "/var/lib/nomad")
        seen: dict[str, str] = {}
        text = _UUID.sub(lambda m: seen.setdefault(m[0], f"00000000-0000-0000-0000-{len(seen) + 1:012}"), text)
        text = _HEX.sub("0" * 64, text)
        folder = HERE / kind
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{kind}/{name}", flush=True)


def events(job: str, index: int) -> list[dict[str, JSON]]:
    """The allocations of each event from `index` on that the stream has now."""
    told: list[dict[str, JSON]] = []
    url = f"http://127.0.0.1:{PORT}/v1/event/stream?topic=Allocation:{job}&index={index}"
    try:
        with urllib.request.urlopen(url, timeout=2) as stream:
            for line in stream:
                told += [event["Payload"]["Allocation"] for event in json.loads(line).get("Events") or ()]
    except TimeoutError:
        pass
    return told


def _trimmed(alloc: dict[str, JSON]) -> JSON:
    return {name: value for name, value in alloc.items() if name not in _LEFT_OUT}


def _start(folder: Path, port: int, *, second: bool) -> subprocess.Popen[bytes]:
    folder.mkdir()
    file = folder.with_suffix(".hcl")
    file.write_text(config(folder, port, second=second), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOMAD_", "AWS_"))}
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(["nomad", "agent", "-config", str(file)], stdout=log, stderr=log, env=environment, start_new_session=True)


def _tidy(folder: Path) -> None:
    """What an agent that was killed leaves behind: processes in its folders, and mounts."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if str(folder) in words or (process / "cwd").readlink().is_relative_to(folder):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in reversed([m for m in mounts if m.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def main(names: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="serai-record-"))
    agents = [_start(folder / "first", PORT, second=False)]
    try:
        until("the agent answers", _is_ready(1))
        agents.append(_start(folder / "second", PORT + 10, second=True))
        until("both nodes are ready", _is_ready(2))
        recorder = Recorder(folder, agents[1])
        wanted = set(names)

        def chosen(found: list[Case]) -> list[Case]:
            return [case for case in found if not wanted or case.name in wanted]

        with ThreadPoolExecutor(6) as pool:
            runs = [pool.submit(recorder.run, case) for case in chosen(cases.ends())]
            runs += [pool.submit(recorder.unplaced, case) for case in chosen(cases.unplaced())]
        failed = [str(error) for run in runs if (error := run.exception()) is not None]
        for case in chosen(cases.on_nodes()):
            recorder.run(case)
        print("\n".join(failed) or "all recorded")
    finally:
        for agent in agents:
            agent.terminate()
            agent.wait(30)
        _tidy(folder)


def _is_ready(nodes: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return [node["Status"] for node in many("/v1/nodes")].count("ready") == nodes
        except (OSError, urllib.error.URLError):
            return False

    return look


if __name__ == "__main__":
    main(sys.argv[1:])
