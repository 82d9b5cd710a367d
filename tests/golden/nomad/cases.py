"""Ways in which Nomad ends an allocation or does not place one: what is asked for, and what is done to it then.

`record.py` runs each on a real agent and keeps what Nomad says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
IMAGE = "acme/batch:1.0.0"
Action = Literal["", "deregister", "stop", "stop-reschedule", "restart", "drain", "signal", "lose", "return", "preempt"]

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Case:
    name: str
    job: dict[str, JSON]
    action: Action = ""
    """What is done to it once its task runs; for a blocked one, once its allocation is there."""
    blocked: bool = False


@dataclass(frozen=True)
class Shape:
    """The job of a case: one group, one task or two."""

    driver: str
    config: Mapping[str, JSON]
    task: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    group: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    job: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    beside: tuple[dict[str, JSON], ...] = ()
    memory_mb: int = 32
    cpu: int = 100

    def build(self, name: str) -> dict[str, JSON]:
        main = _task("main", self.driver, dict(self.config), self.cpu, self.memory_mb) | dict(self.task)
        group: dict[str, JSON] = {
            "Name": "rank-0",
            "Count": 1,
            "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
            "Disconnect": {"Replace": False},
            "EphemeralDisk": {"SizeMB": 50},
            "Tasks": [*self.beside, main],
        }
        job: dict[str, JSON] = {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["dc1"], "TaskGroups": [group | dict(self.group)]}
        return job | dict(self.job)


def _task(name: str, driver: str, config: dict[str, JSON], cpu: int = 50, memory_mb: int = 16) -> dict[str, JSON]:
    return {
        "Name": name,
        "Driver": driver,
        "Config": config,
        "KillSignal": "SIGTERM",
        "KillTimeout": _SECOND,
        "Resources": {"CPU": cpu, "MemoryMB": memory_mb},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
    }


def _run(command: str, *args: str) -> dict[str, JSON]:
    return {"command": command, "args": list(args)}


def _shell(script: str) -> dict[str, JSON]:
    return _run("/bin/sh", "-c", script)


def _docker(script: str = "", **more: JSON) -> dict[str, JSON]:
    return {"image": IMAGE, "init": True} | (_shell(script) if script else {}) | more


def _beside(script: str, shell: str = "/bin/sh") -> dict[str, JSON]:
    task = _task("firewall", "raw_exec", _run(shell, "-c", script))
    task["Lifecycle"] = {"Hook": "prestart", "Sidecar": True}
    return task


def _barrier(name: str) -> dict[str, JSON]:
    text = f'{{{{ with nomadVar "nomad/jobs/{name}" }}}}{{{{ .nodes }}}}{{{{ end }}}}'
    return {"Templates": [{"EmbeddedTmpl": text, "DestPath": "local/nodes", "ChangeMode": "noop"}]}


_LONG = "sleep 600"
_OBEYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
_DEAF = "trap '' TERM; while :; do sleep 1; done"
_EATS = "tail /dev/zero"
_LIMIT: dict[str, JSON] = {"MaxRunDuration": 2 * _SECOND}

_GPU: dict[str, JSON] = {"CPU": 50, "MemoryMB": 16, "Devices": [{"Name": "nvidia/gpu", "Count": 1}]}

_ENDS: Mapping[str, Shape] = {
    "raw-success": Shape("raw_exec", _shell("exit 0")),
    "raw-exit-3": Shape("raw_exec", _shell("exit 3")),
    "raw-signal-9": Shape("raw_exec", _shell("kill -9 $$")),
    "raw-signal-15": Shape("raw_exec", _shell("kill -15 $$")),
    "raw-signal-11": Shape("raw_exec", _shell("kill -11 $$")),
    "raw-exit-128": Shape("raw_exec", _shell("exit 128")),
    "docker-success": Shape("docker", _docker("exit 0")),
    "docker-exit-3": Shape("docker", _docker("exit 3")),
    "docker-signal-9": Shape("docker", _docker("kill -9 $$")),
    "docker-signal-15": Shape("docker", _docker("sh -c 'kill -15 $$'")),
    "docker-out-of-memory": Shape("docker", _docker(f"exec {_EATS}")),
    "docker-child-out-of-memory": Shape("docker", _docker(f"{_EATS}; exit 0")),
    "docker-child-out-of-memory-exit-3": Shape("docker", _docker(f"{_EATS}; exit 3")),
    "exec-exit-3": Shape("exec", _shell("exit 3")),
    "docker-registry-refused": Shape("docker", _docker() | {"image": "127.0.0.1:1/acme/none:1.0.0"}),
    "raw-no-command": Shape("raw_exec", _run("/no/such")),
    "docker-no-command": Shape("docker", _docker(init=False) | _run("/no/such")),
    "docker-init-no-command": Shape("docker", _docker() | _run("/no/such")),
    "exec-no-command": Shape("exec", _run("/no/such")),
    "docker-not-executable": Shape("docker", _docker(init=False) | _run("/etc")),
    "raw-not-executable": Shape("raw_exec", _run("/etc/hostname")),
    "raw-no-user": Shape("raw_exec", _shell("exit 0"), task={"User": "nouser"}),
    "docker-no-user": Shape("docker", _docker("exit 0"), task={"User": "nouser"}),
    "exec-no-user": Shape("exec", _shell("exit 0"), task={"User": "nouser"}),
    "raw-bad-option": Shape("raw_exec", _shell("exit 0") | {"no_such_option": True}),
    "docker-bad-option": Shape("docker", _docker("exit 0", no_such_option=True)),
    "docker-no-source": Shape(
        "docker", _docker("exit 0", mount=[{"type": "bind", "source": "/no/such/folder", "target": "/work", "readonly": False}])
    ),
    "raw-bad-template": Shape(
        "raw_exec", _shell("exit 0"), task={"Templates": [{"EmbeddedTmpl": "{{ nosuch }}", "DestPath": "local/x", "ChangeMode": "noop"}]}
    ),
    "raw-no-artifact": Shape(
        "raw_exec", _shell("exit 0"), task={"Artifacts": [{"GetterSource": "http://127.0.0.1:1/x", "RelativeDest": "local/"}]}
    ),
    "raw-limit": Shape("raw_exec", _shell(_LONG), group=_LIMIT),
    "docker-limit": Shape("docker", _docker(_LONG), group=_LIMIT),
    "raw-firewall-fails-later": Shape("raw_exec", _shell(_LONG), beside=(_beside("sleep 1; exit 4"),)),
    "raw-firewall-missing": Shape("raw_exec", _shell(_LONG), beside=(_beside("exit 0", "/no/nft"),)),
    "raw-with-firewall-exit-3": Shape("raw_exec", _shell("exit 3"), beside=(_beside(_LONG),)),
    "docker-bridge-exit-3": Shape("docker", _docker("exit 3"), group={"Networks": [{"Mode": "bridge"}]}),
}
_ACTIONS: Mapping[str, tuple[Shape, Action]] = {
    "raw-deregistered-obeys": (Shape("raw_exec", _shell(_OBEYS)), "deregister"),
    "raw-deregistered-deaf": (Shape("raw_exec", _shell(_DEAF)), "deregister"),
    "docker-deregistered": (Shape("docker", _docker(_LONG)), "deregister"),
    "docker-deregistered-deaf": (Shape("docker", _docker(_DEAF)), "deregister"),
    "raw-stopped-by-hand": (Shape("raw_exec", _shell(_OBEYS)), "stop-reschedule"),
    "raw-stopped-by-hand-plain": (Shape("raw_exec", _shell(_OBEYS)), "stop"),
    "raw-restarted-by-hand": (
        Shape("raw_exec", _shell("[ -e ../alloc/data/ran ] && exit 242; touch ../alloc/data/ran; sleep 600")),
        "restart",
    ),
    "raw-signaled-by-hand": (Shape("raw_exec", _run("/bin/sleep", "600")), "signal"),
}
_UNPLACED: Mapping[str, Shape] = {
    "memory": Shape("raw_exec", _shell("exit 0"), memory_mb=10_000_000),
    "cpu": Shape("raw_exec", _shell("exit 0"), cpu=10_000_000),
    "disk": Shape("raw_exec", _shell("exit 0"), group={"EphemeralDisk": {"SizeMB": 1_000_000_000}}),
    "constraint": Shape(
        "raw_exec", _shell("exit 0"), group={"Constraints": [{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "windows"}]}
    ),
    "driver": Shape("podman", {"image": IMAGE}),
    "device": Shape("raw_exec", _shell("exit 0"), task={"Resources": _GPU}),
    "datacenter": Shape("raw_exec", _shell("exit 0"), job={"Datacenters": ["elsewhere"]}),
    "volume": Shape("exec", _shell("exit 0"), group={"Volumes": {"work": {"Name": "work", "Type": "host", "Source": "no-such-volume"}}}),
    "network": Shape("docker", _docker("exit 0"), group={"Networks": [{"Mode": "cni/no-such-network"}]}),
}


def ends() -> list[Case]:
    cases = [Case(name, shape.build(name)) for name, shape in _ENDS.items()]
    cases += [Case(name, shape.build(name), action) for name, (shape, action) in _ACTIONS.items()]
    for driver, config in (("raw", _shell(_LONG)), ("docker", _docker(_LONG))):
        name = f"{driver}-blocked-deregistered"
        shape = Shape(f"{driver}_exec" if driver == "raw" else driver, config, task=_barrier(name))
        cases.append(Case(name, shape.build(name), "deregister", blocked=True))
    name = "raw-blocked-limit"
    return [*cases, Case(name, Shape("raw_exec", _shell(_LONG), task=_barrier(name), group=_LIMIT).build(name))]


def unplaced() -> list[Case]:
    several = Shape("raw_exec", _shell("exit 0"), memory_mb=10_000_000).build("several")
    (group,) = _dicts(several["TaskGroups"])
    driver = _dicts(Shape("podman", {"image": IMAGE}).build("several")["TaskGroups"])[0]
    several["TaskGroups"] = [group, group | {"Name": "rank-1"}, driver | {"Name": "rank-2"}]
    return [*(Case(name, shape.build(name)) for name, shape in _UNPLACED.items()), Case("several", several)]


def on_nodes() -> list[Case]:
    """Cases that change the cluster; they come last, one after the other, in this order, on the second node."""
    on_second: dict[str, JSON] = {"Datacenters": ["second"]}
    low = Shape("raw_exec", _shell(_OBEYS), job=on_second | {"Priority": 10}, cpu=600)
    long = Shape("raw_exec", _shell(_OBEYS), job=on_second)
    return [
        Case("preempted", low.build("preempted"), "preempt"),
        Case("drained", long.build("drained"), "drain"),
        Case("drained-deaf", Shape("raw_exec", _shell(_DEAF), job=on_second).build("drained-deaf"), "drain"),
        Case("returned", long.build("returned"), "return"),
        Case("lost", long.build("lost"), "lose"),
    ]


def usurper() -> dict[str, JSON]:
    """The job of higher priority for whose sake another is ended."""
    shape = Shape("raw_exec", _shell(_LONG), job={"Datacenters": ["second"], "Priority": 90}, cpu=600)
    return shape.build("usurper")


def _dicts(value: JSON) -> list[dict[str, JSON]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
