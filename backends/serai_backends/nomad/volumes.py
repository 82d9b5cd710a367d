"""`work = "volume"`: a dynamic host volume for each job, made before the job is registered and deleted after it is purged.

It lies on one node, so all ranks of the job run there, and its contents go with it: for sites whose nodes share no file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.errors import BackendUnavailable
from serai_backends.nomad.client import RegistrationRefused
from serai_backends.nomad.jobfile import NOBODY

if TYPE_CHECKING:
    from serai_backends.nomad.client import NomadClient
    from serai_backends.nomad.settings import Placement


async def make(client: NomadClient, nomad_id: str, placement: Placement) -> bool:
    """Have the job's volume; whether it can be used already. Raises BackendUnavailable, also when no node has room for it now."""
    found = [volume for volume in await client.host_volumes(nomad_id) if volume.name == nomad_id]
    if found:
        return found[0].state == "ready"
    try:
        made = await client.host_volume_create(
            {
                "Name": nomad_id,
                "Type": "host",
                "PluginID": "mkdir",
                "NodePool": placement.node_pool,
                "Constraints": [
                    {"LTarget": left, "Operand": operator, "RTarget": right} for left, operator, right in placement.constraints
                ],
                "RequestedCapabilities": [{"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}],
                "Parameters": {"mode": "0700", "uid": str(NOBODY), "gid": str(NOBODY)},
            }
        )
    except RegistrationRefused as error:
        raise BackendUnavailable(f"Nomad makes no volume for the job now: {error}") from error
    return made.state == "ready"


async def remove(client: NomadClient, nomad_id: str) -> None:
    """Unknown: done. Raises BackendUnavailable while something still holds it."""
    for volume in await client.host_volumes(nomad_id):
        if volume.name == nomad_id:
            await client.host_volume_delete(volume.id)
