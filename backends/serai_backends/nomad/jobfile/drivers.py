"""The main task of a rank, for each driver of Nomad that can run it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from serai_backends.errors import SubmissionRefused
from serai_backends.nomad import names
from serai_backends.nomad.jobfile import network, scripts, view
from serai_backends.nomad.jobfile.texts import no_reference, plain, template

if TYPE_CHECKING:
    from collections.abc import Callable

    from serai_backends.model import ReplicaSpec
    from serai_backends.nomad.jobfile.model import JSON, Rank
    from serai_backends.nomad.settings import NomadSettings

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}")
LOCAL = scripts.LOCAL
ETC = "/etc/ucloud"
_LONGEST_PATH = 128
"""Of a variable, in characters."""


def main(one: Rank) -> dict[str, JSON]:
    """Driver, user, configuration and files of the task. Raises SubmissionRefused."""
    if one.spec.mounts and one.settings.work != "path":
        raise SubmissionRefused('inputs need drives that the nodes share: work = "path"')
    return _DRIVERS[one.placement.driver](one)


def _files(one: Rank) -> list[JSON]:
    spec, script = one.spec, one.script
    found: list[JSON] = [template(f"{LOCAL}/{scripts.NODES}", network.nodes_template(one.nomad_id))]
    if script is not None:
        found.append(plain(f"{LOCAL}/{scripts.SCRIPT}", script, mode="0755"))
    if one.settings.work != "path":
        found += [plain(f"{LOCAL}/file-{number}", text) for number, (_, text) in enumerate(spec.files)]
    return found


def _secrets(one: Rank, user: tuple[int, int] | None) -> list[JSON]:
    """In the task's folder of secrets, which lies in memory: of `user`, None = of root. Raises SubmissionRefused."""
    found: list[JSON] = []
    for number, name in enumerate(one.spec.secrets):
        file = template(f"secrets/serai.{name}", network.secret_template(one.nomad_id, one.number, number)) | {"Perms": "0400"}
        found.append(file if user is None else file | {"Uid": user[0], "Gid": user[1]})
    if found and len(names.secrets_variable(one.nomad_id, one.number)) > _LONGEST_PATH:
        raise SubmissionRefused("the job's id is too long for a variable of Nomad, which its secrets need")
    return found


def _container(one: Rank) -> dict[str, JSON]:
    """What docker and podman have in common."""
    spec = one.spec
    if not _IMAGE.fullmatch(spec.image):
        raise SubmissionRefused(f"{spec.image!r} is not the name of an image" if spec.image else "the application names no container image")
    if spec.run_as_root and not one.settings.root_in_containers:
        raise SubmissionRefused(
            "the application wants to be root in its container: the provider allows that only on nodes whose container engine maps users"
        )
    if spec.run_as_root and spec.secrets:
        raise SubmissionRefused("an application that is root in its container gets no secrets: they would belong to another root there")
    uid, gid = (0, 0) if spec.run_as_root else one.prepared.user
    text = scripts.start(one, fills=True, clean=False)
    own = [plain(f"{LOCAL}/{scripts.START}", text, mode="0755"), plain(f"{LOCAL}/{scripts.SHELL}", scripts.shell(one, clean=False))]
    return {"User": f"{uid}:{gid}", "Templates": [*_files(one), *_secrets(one, (uid, gid)), *own]}


def _binds(spec: ReplicaSpec, settings: NomadSettings) -> list[view.Bind]:
    """/work and the drives of inputs, where containers get them by path."""
    found = view.drives(spec, settings)
    if settings.work == "path":
        found.insert(0, view.Bind(view.folder(spec, settings), "/work", False))
    if settings.work == "scratch":
        found.insert(0, view.Bind("../alloc/data", "/work", False))
    for bind in found:
        no_reference(bind.source, f"the folder {bind.source}")
    return found


def _docker(one: Rank) -> dict[str, JSON]:
    spec, settings, task = one.spec, one.settings, _container(one)
    mounts: list[JSON] = [_mount(bind) for bind in _binds(spec, settings)]
    mounts.append({"type": "tmpfs", "target": ETC, "tmpfs_options": [{"size": 8 << 20, "mode": 0o777}]})
    config: dict[str, JSON] = {
        "image": spec.image,
        "entrypoint": ["/bin/sh", f"/{LOCAL}/{scripts.START}"],
        "init": True,
        "security_opt": ["no-new-privileges"],
    }
    if not spec.run_as_root:
        config["cap_drop"] = ["all"]
    templates = _list(task["Templates"])
    if settings.network == network.HOST:
        config["network_mode"] = "host"
        templates.append(template(f"{LOCAL}/{scripts.HOSTS}", network.hosts_template(one.nomad_id)))
        mounts.append(_mount(view.Bind(f"{LOCAL}/{scripts.HOSTS}", "/etc/hosts", True)))
    else:
        own_name = network.names_itself(settings, "docker")
        templates.append(template("secrets/hosts.env", network.hosts_variable(one.nomad_id, loopback=not own_name), variables=True))
        config["extra_hosts"] = [network.EXTRA_HOSTS]
    config["mount"] = mounts
    return {"Driver": "docker", "User": task["User"], "Config": config, "Templates": templates}


def _list(value: JSON) -> list[JSON]:
    return value if isinstance(value, list) else []


def _mount(bind: view.Bind) -> dict[str, JSON]:
    return {"type": "bind", "source": bind.source, "target": bind.target, "readonly": bind.read_only}


def _podman(one: Rank) -> dict[str, JSON]:
    """By the documentation of nomad-driver-podman; no agent with it was at hand.

    Other ranks have no names there, only addresses: whether it takes several lines as one of `extra_hosts` is not known.
    """
    spec, settings, task = one.spec, one.settings, _container(one)
    volumes: list[JSON] = []
    for bind in _binds(spec, settings):
        if ":" in bind.source:
            raise SubmissionRefused(f"the folder {bind.source} has a `:` in its name, which podman takes for the end of it: rename it")
        volumes.append(f"{bind.source}:{bind.target}:{'ro' if bind.read_only else 'rw'}")
    config: dict[str, JSON] = {
        "image": spec.image,
        "entrypoint": ["/bin/sh", f"/{LOCAL}/{scripts.START}"],
        "init": True,
        "security_opt": ["no-new-privileges"],
        "volumes": volumes,
        "tmpfs": [f"{ETC}:mode=0777,size=8m"],
    }
    if not spec.run_as_root:
        config["cap_drop"] = ["all"]
    if settings.network == network.HOST:
        config["network_mode"] = "host"
    return {"Driver": "podman", "User": task["User"], "Config": config, "Templates": task["Templates"]}


def _raw_exec(one: Rank) -> dict[str, JSON]:
    if not one.settings.raw_exec:
        raise SubmissionRefused(
            "the machine type runs programs on the nodes themselves, which the provider's settings do not allow (raw_exec)"
        )
    if one.settings.work == "volume":
        raise SubmissionRefused('Nomad mounts no volumes for programs on the nodes themselves: they need work = "path" or "scratch"')
    if one.prepared.user[0] == 0:
        raise SubmissionRefused("a program on a node must not be root: run the server as root, or give the drive to another user")
    start = scripts.start(one, fills=False, clean=True)
    return {
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": [f"{LOCAL}/{scripts.NODE}"]},
        "Templates": [
            *_files(one),
            *_secrets(one, None),
            template(f"{LOCAL}/{scripts.HOSTS}", network.peers_template(one.nomad_id)),
            plain(f"{LOCAL}/{scripts.START}", start),
            plain(f"{LOCAL}/{scripts.NODE}", scripts.node(one)),
        ],
    }


def _exec(one: Rank) -> dict[str, JSON]:
    """The task's folder is the root of its files, so what lies at etc/ucloud in it is /etc/ucloud; the program runs as nobody."""
    spec = one.spec
    if one.settings.work != "volume":
        raise SubmissionRefused('the driver exec mounts no folders: it needs work = "volume"')
    if spec.run_as_root:
        raise SubmissionRefused("the driver exec runs programs as nobody, never as root")
    if spec.secrets:
        raise SubmissionRefused("the driver exec has no place in memory where only the program finds its secrets")
    if spec.replicas > _EXEC_RANKS:
        raise SubmissionRefused(f"the driver exec runs jobs of {_EXEC_RANKS} replicas at most")
    found = _files(one)
    facts = {"rank": str(one.number), "cores": str(spec.resources.cpu), "number_of_nodes": str(spec.replicas), "job_id": spec.job_id}
    facts["nodes"] = "\n".join(f"node-{number}" for number in range(spec.replicas))
    found += [plain(f"etc/ucloud/{name}.txt", f"{text}\n") for name, text in facts.items()]
    found += [template(f"etc/ucloud/node-{number}.txt", network.node_template(one.nomad_id, number)) for number in range(spec.replicas)]
    if one.script is not None:
        found.append(plain("etc/ucloud/script.sh", one.script, mode="0755"))
    start = scripts.start(one, fills=False, clean=True, first=True)
    return {
        "Driver": "exec",
        # without a word nobody gets those that a container's root has, to change owners and make devices among them
        "Config": {"command": "/bin/sh", "args": [f"/{LOCAL}/{scripts.START}"], "cap_drop": ["all"]},
        "Templates": [*found, plain(f"{LOCAL}/{scripts.START}", start), plain(f"{LOCAL}/{scripts.SHELL}", scripts.shell(one, clean=True))],
    }


_EXEC_RANKS = 32
"""Each rank needs a template for each rank's address."""
_DRIVERS: dict[str, Callable[[Rank], dict[str, JSON]]] = {
    "docker": _docker,
    "podman": _podman,
    "raw_exec": _raw_exec,
    "exec": _exec,
}
