"""The folder of an allocation on its node, the variables of a task's environment, and its rendered templates."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fakes.nomad.cluster import Allocation
from fakes.nomad.spec import Task
from fakes.nomad.template import Renderer

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class Folder:
    """`<data>/alloc/<id>/` with `alloc/` and one folder for each task."""

    def __init__(self, root: Path, alloc: Allocation) -> None:
        self._alloc = alloc
        self.path = root / "alloc" / alloc.id
        self.shared = self.path / "alloc"

    def task(self, name: str) -> Path:
        return self.path / name

    def log(self, task: str, stream: str) -> Path:
        return self.shared / "logs" / f"{task}.{stream}.0"

    def make(self) -> None:
        for name in ("logs", "data", "tmp"):
            (self.shared / name).mkdir(parents=True, exist_ok=True)
        for task in self._alloc.group.members:
            for name in ("local", "secrets", "tmp", "private"):
                (self.task(task.name) / name).mkdir(parents=True, exist_ok=True)
            for part in (self.task(task.name), self.task(task.name) / "local", self.task(task.name) / "secrets"):
                part.chmod(0o777)
            (self.task(task.name) / "tmp").chmod(0o1777)


def environment(alloc: Allocation, task: Task, folder: Folder, address: str) -> dict[str, str]:
    """What the task's process gets, its own `env` not yet among it."""
    ours = folder.task(task.name)
    job = alloc.job.spec
    env = {
        "NOMAD_ALLOC_DIR": str(folder.shared),
        "NOMAD_TASK_DIR": str(ours / "local"),
        "NOMAD_SECRETS_DIR": str(ours / "secrets"),
        "NOMAD_ALLOC_ID": alloc.id,
        "NOMAD_SHORT_ALLOC_ID": alloc.id[:8],
        "NOMAD_ALLOC_NAME": alloc.name,
        "NOMAD_ALLOC_INDEX": alloc.name.rsplit("[", 1)[1][:-1],
        "NOMAD_TASK_NAME": task.name,
        "NOMAD_GROUP_NAME": alloc.group.name,
        "NOMAD_JOB_ID": job.id,
        "NOMAD_JOB_NAME": job.name or job.id,
        "NOMAD_NAMESPACE": alloc.job.namespace,
        "NOMAD_REGION": "global",
        "NOMAD_DC": alloc.node.spec.datacenter,
        "NOMAD_CPU_LIMIT": str(task.asks.cpu),
        "NOMAD_MEMORY_LIMIT": str(task.asks.memory_mb),
    }
    if address:
        env["NOMAD_ALLOC_INTERFACE_eth0"] = "eth0"
        env["NOMAD_ALLOC_IP_eth0"] = address
    for meta in (job.meta, alloc.group.meta, task.meta):
        for key, value in (meta or {}).items():
            env[f"NOMAD_META_{key}"] = env[f"NOMAD_META_{key.upper()}"] = value
    ports = alloc.static["AllocatedResources"]
    env |= _ports(ports, address)
    return env


def _ports(resources: object, address: str) -> dict[str, str]:
    shared = resources["Shared"] if isinstance(resources, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON of our own making
    env: dict[str, str] = {}
    for port in shared.get("Ports") or []:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - as above
        label, value, to, ip = str(port["Label"]), int(port["Value"]), int(port["To"]), str(port["HostIP"])  # pyright: ignore[reportUnknownArgumentType] - as above
        env |= {
            f"NOMAD_PORT_{label}": str(to or value),
            f"NOMAD_HOST_PORT_{label}": str(value),
            f"NOMAD_IP_{label}": ip,
            f"NOMAD_HOST_IP_{label}": ip,
            f"NOMAD_ADDR_{label}": f"{ip}:{value}",
            f"NOMAD_HOST_ADDR_{label}": f"{ip}:{value}",
        }
        if address:
            env[f"NOMAD_ALLOC_PORT_{label}"] = str(to or value)
    return env


def interpolated(text: str, env: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """`${NAME}` of the environment or the node; what is not known stays as it is written."""

    def one(found: re.Match[str]) -> str:
        name = found.group(1)
        name = name.removeprefix('env["').removesuffix('"]') if name.startswith("env[") else name
        known = env.get(name)
        return known if known is not None else facts.get(name, found.group(0))

    return _VARIABLE.sub(one, text)


class Rendered(NamedTuple):
    """What a template becomes; bytes that are no text are in it as Python has them (surrogateescape)."""

    path: Path
    text: str
    mode: int
    uid: int | None
    gid: int | None


def render(
    task: Task, folder: Folder, env: dict[str, str], variable: Callable[[str], Mapping[str, str] | None]
) -> tuple[list[Rendered], dict[str, str]]:
    """Each template's file, and the variables that templates give to the environment; raises Missing or TemplateFailed."""
    files: list[Rendered] = []
    more: dict[str, str] = {}
    renderer = Renderer(variable, env)
    for template in task.templates or []:
        text = renderer.render(template.embedded_tmpl, template.left_delim or "{{", template.right_delim or "}}")
        place = interpolated(template.dest_path, env, {})
        path = Path(place) if place.startswith("/") and place.startswith(str(folder.path)) else folder.task(task.name) / place.lstrip("/")
        files.append(Rendered(path, text, int(template.perms or "0644", 8), template.uid, template.gid))
        if template.envvars:
            more |= _pairs(text)
    return files, more


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found[name.removeprefix("export ").strip()] = value.strip().strip('"')
    return found


def write(files: list[Rendered]) -> None:
    """Each file whole or not at all; nothing is written where it is so already."""
    for path, text, mode, uid, gid in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(text.encode(errors="surrogateescape"))
        beside.chmod(mode)
        if uid is not None or gid is not None:
            os.chown(beside, -1 if uid is None else uid, -1 if gid is None else gid)
        os.replace(beside, path)  # noqa: PTH105 - rename over, as consul-template does
