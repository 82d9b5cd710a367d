"""Which folders a replica sees, and where.

/work is the job's own folder, mounted itself. The path to it lies in a drive, which belongs to the job's user, and another running job of
that user may put a link in the place of a folder on it between the server's check and the node's mount: the node would then mount whatever
the link leads to. So the start script, which runs before the program and as its user, looks for the file `.ucloud/{job id}` in what was
mounted and goes no further without it. Nobody can lay that file into a folder where he may not write anyway; and what is mounted by then
cannot be replaced any more.

An input can be a folder in which nobody may lay such a file. So not the input is mounted but the root of its drive, whose path is not
the user's to change (its parent belongs to the provider), at /run/ucloud/drives/{rw,ro}/{drive}; `/work/{name}` is a link to the input in
there, made by the server, and removed when the job has ended. Links are then followed inside the replica's own view: they lead to its own
files, never to the node's. What it costs: a program that looks for it sees the rest of the drive too, with the rights that its user has
there, and for an input that is read-only, read-only. That is what the job's owner may see: rights at UCloud are given for drives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serai_backends.model import Mount, ReplicaSpec
    from serai_backends.nomad.settings import NomadSettings

ROOT = "/run/ucloud"
DRIVES = f"{ROOT}/drives"
OWN = ".ucloud"
"""Folder in the job's folder: the proof that it is the job's, the guards of the ranks, the marks of starts that failed."""


class Bind(NamedTuple):
    source: str
    """On the node."""
    target: str
    read_only: bool


def _access(mount: Mount) -> str:
    return "ro" if mount.read_only else "rw"


def link_to(mount: Mount) -> str:
    """What the link at `mount.target` says."""
    return f"{DRIVES}/{_access(mount)}/{mount.source}"


def drives(spec: ReplicaSpec, settings: NomadSettings) -> list[Bind]:
    """The roots of the drives that inputs lie in, each once for each kind of access."""
    found: dict[str, Bind] = {}
    for mount in spec.mounts:
        drive = mount.source.partition("/")[0]
        target = f"{DRIVES}/{_access(mount)}/{drive}"
        found[target] = Bind(settings.node_drive(drive), target, mount.read_only)
    return list(found.values())


def folder(spec: ReplicaSpec, settings: NomadSettings) -> str:
    """The job's folder on the node."""
    drive, _, rest = spec.output_folder.partition("/")
    return f"{settings.node_drive(drive)}/{rest}".rstrip("/")
