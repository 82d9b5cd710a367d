"""Whether each placement of the settings has nodes that can run its jobs."""

from __future__ import annotations

import asyncio
import fnmatch
from typing import TYPE_CHECKING

import msgspec

from serai_backends.model import Finding, Severity

if TYPE_CHECKING:
    from serai_backends.nomad import wire
    from serai_backends.nomad.client import NomadClient
    from serai_backends.nomad.settings import NomadSettings, Placement

_EXEC = (
    "its programs may write into the folder of Nomad's logs, and by a link there have Nomad write anywhere on the node as root (seen with "
    "Nomad 2.0.6): use docker, or let nobody submit who may not be root there"
)
LOOKED_AT = 50
"""Nodes of a placement whose attributes are read."""
_CNI = ("bridge", "firewall", "host-local", "loopback", "portmap")
"""What Nomad's own bridge is made of."""


class _Device(msgspec.Struct, rename="pascal"):
    vendor: str = ""
    type: str = ""
    name: str = ""


class _Network(msgspec.Struct, rename="pascal"):
    mode: str = ""


class _Resources(msgspec.Struct, rename="pascal"):
    devices: list[_Device] | None = None
    networks: list[_Network] | None = None


class _Node(msgspec.Struct, rename="pascal"):
    name: str = ""
    attributes: dict[str, str] | None = None
    node_resources: _Resources | None = None


async def node_findings(client: NomadClient, settings: NomadSettings, nodes: list[wire.Node]) -> list[Finding]:
    found = list[Finding]()
    for placement in settings.placements:
        found += await _placement(client, settings, placement, nodes)
    wanted = settings.firewall.enabled or any(placement.driver == "raw_exec" for placement in settings.placements)
    open_ones = [node.name for node in nodes if _healthy(node, "raw_exec")]
    if open_ones and not wanted:
        text = f"raw_exec is on at {_some(open_ones)} and not needed: whoever may submit jobs is root there. Switch the plugin off"
        found.append(Finding(Severity.WARNING, "nodes", text))
    return list(dict.fromkeys(found))


async def _placement(client: NomadClient, settings: NomadSettings, placement: Placement, nodes: list[wire.Node]) -> list[Finding]:
    subject = f"placement {placement.product}"

    def error(text: str) -> Finding:
        return Finding(Severity.ERROR, subject, text)

    pool = [node for node in nodes if placement.node_pool in ("all", node.node_pool) and _in(node.datacenter, placement.datacenters)]
    where = f"node pool {placement.node_pool}, datacenters {', '.join(placement.datacenters)}"
    usable = [node for node in pool if node.status == "ready" and node.scheduling_eligibility == "eligible" and not node.drain]
    if not usable:
        seen = f"{len(pool)} nodes and none is ready and eligible" if pool else "no node"
        text = f"{where} has {seen}: jobs wait. See `nomad node status`"
        return [Finding(Severity.WARNING, subject, text) if settings.cluster_grows else error(text)]
    found = list[Finding]()
    drivers = [placement.driver, *(["raw_exec"] if settings.firewall.enabled and settings.network != "host" else [])]
    for driver in dict.fromkeys(drivers):
        without = [node.name for node in usable if not _healthy(node, driver)]
        why = "for its programs" if driver == placement.driver else "for the firewall"
        if len(without) == len(usable):
            found.append(error(f"no node of {where} has a healthy driver {driver} ({why}): see `nomad node status -verbose`"))
        elif without:
            text = f"{_some(without)} of {where} cannot be used: the driver {driver} ({why}) is not healthy there"
            found.append(Finding(Severity.WARNING, subject, text))
    if placement.driver == "exec":
        found.append(Finding(Severity.WARNING, subject, _EXEC))
    if placement.driver == "raw_exec" and not settings.raw_exec:
        found.append(error("it wants raw_exec, and backend.nomad.raw_exec is false"))
    read = await asyncio.gather(*(client.get(f"node/{node.id}", _Node, need='node { policy = "read" }') for node in usable[:LOOKED_AT]))
    return found + _attributes(settings, placement, [node for node in read if node is not None], subject)


def _attributes(settings: NomadSettings, placement: Placement, nodes: list[_Node], subject: str) -> list[Finding]:
    def missing(names: list[str], what: str) -> list[Finding]:
        return (
            [Finding(Severity.ERROR if len(names) == len(nodes) else Severity.WARNING, subject, f"{_some(names)}: {what}")] if names else []
        )

    found = list[Finding]()
    if placement.driver == "docker" and settings.work == "path":
        closed = [node.name for node in nodes if (node.attributes or {}).get("driver.docker.volumes.enabled") not in ("true", "1")]
        found += missing(closed, 'docker may not mount folders: set `plugin "docker" { config { volumes { enabled = true } } }`')
    if settings.network == "bridge":
        bare = [n.name for n in nodes if any(f"plugins.cni.version.{plugin}" not in (n.attributes or {}) for plugin in _CNI)]
        found += missing(bare, f"network bridge needs the CNI plugins {', '.join(_CNI)} in client.cni_path, and a restart of the agent")
    elif settings.network.startswith("cni/"):
        other = [n.name for n in nodes if settings.network not in {net.mode for net in _resources(n).networks or ()}]
        found += missing(other, f"there is no network {settings.network}: put its configuration into client.cni_config_dir")
    if settings.work == "volume":
        old = [n.name for n in nodes if "plugins.host_volume.mkdir.version" not in (n.attributes or {})]
        found += missing(old, "it has no dynamic host volumes (plugin mkdir): use Nomad 1.10 or later")
    if placement.device:
        without = [n.name for n in nodes if not any(_is(device, placement.device) for device in _resources(n).devices or ())]
        found += missing(
            without, f"there is no device {placement.device}: install its device plugin (nomad-device-nvidia for `nvidia/gpu`)"
        )
    return found


def _resources(node: _Node) -> _Resources:
    return node.node_resources or _Resources()


def _is(device: _Device, wanted: str) -> bool:
    """As Nomad compares: type, vendor/type or vendor/type/name."""
    parts = wanted.split("/")
    has = [device.type] if len(parts) == 1 else [device.vendor, device.type, device.name][: len(parts)]
    return has == parts


def _healthy(node: wire.Node, driver: str) -> bool:
    info = (node.drivers or {}).get(driver)
    return info is not None and info.healthy


def _in(datacenter: str, wanted: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(datacenter, pattern) for pattern in wanted)


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
