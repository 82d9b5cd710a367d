"""The group's network, and the names of other ranks and of peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.errors import SubmissionRefused
from serai_backends.nomad import names

if TYPE_CHECKING:
    from serai_backends.model import ReplicaSpec
    from serai_backends.nomad.jobfile.model import JSON
    from serai_backends.nomad.settings import NomadSettings

HOST = "host"


def port_label(port: int) -> str:
    return f"{names.PORT}{port}"


def names_itself(settings: NomadSettings, driver: str) -> bool:
    """Whether the replica can have its hostname from Nomad, which refuses to start a group that asks for one unless all of its tasks are
    docker's; the firewall is a raw_exec."""
    return settings.network != HOST and driver == "docker" and not settings.firewall.enabled


def network(spec: ReplicaSpec, rank: int, settings: NomadSettings, driver: str) -> dict[str, JSON]:
    """Raises SubmissionRefused."""
    if settings.network == HOST:
        if settings.firewall.enabled:
            raise SubmissionRefused("the firewall needs a network namespace for each replica: set network to bridge or cni/…")
        if spec.peers:
            raise SubmissionRefused("jobs on the nodes' own network cannot be closed to each other, so they have no peers")
        # the program listens on the port that it knows; two that want the same one never come to the same node
        reserved: list[JSON] = [{"Label": port_label(port), "Value": port} for port in spec.ports]
        # Nomad tells the node's address only with a port of the allocation; nobody listens on this one
        return {"Mode": HOST, "ReservedPorts": reserved, "DynamicPorts": [{"Label": "address"}]}
    found: dict[str, JSON] = {
        "Mode": settings.network,
        "DynamicPorts": [{"Label": port_label(port), "To": port} for port in spec.ports],
    }
    return found | {"Hostname": f"node-{rank}"} if names_itself(settings, driver) else found


def _with(nomad_id: str, text: str) -> str:
    return '{{ with nomadVar "' + names.variable(nomad_id) + '" }}' + text + "{{ end }}"


def nodes_template(nomad_id: str) -> str:
    """An address each line, in order of ranks; this is the barrier: the task waits until the variable is there."""
    return _with(nomad_id, f"{{{{ .{names.NODES} }}}}\n")


def secret_template(nomad_id: str, rank: int, number: int) -> str:
    """The bytes of a secret, as they are."""
    item = f"{{{{ base64Decode .{names.secret(number)}.Value }}}}"
    return '{{ with nomadVar "' + names.secrets_variable(nomad_id, rank) + '" }}' + item + "{{ end }}"


def friends_template(nomad_id: str) -> str:
    return _with(nomad_id, f"{{{{ .{names.NODES} }}}}\n{{{{ .{names.PEERS} }}}}\n")


def peers_template(nomad_id: str) -> str:
    return _with(nomad_id, f"{{{{ .{names.HOSTS} }}}}\n")


def _lines(end: str, *, loopback: bool) -> str:
    """The names of all ranks, then those of peers. `loopback`: a rank that finds its address out itself has no other name than this."""
    own = f"127.0.0.1 node-{{{{ $rank }}}}{end}" if loopback else ""
    other = f"{{{{ $address }}}} node-{{{{ $rank }}}}{end}"
    each = f'{{{{ if eq $address "self" }}}}{own}{{{{ else if $address }}}}{other}{{{{ end }}}}'
    return f'{{{{ range $rank, $address := split "\\n" .{names.NODES}.Value }}}}{each}{{{{ end }}}}'


def hosts_template(nomad_id: str) -> str:
    """A whole /etc/hosts, for containers on the node's own network."""
    return "127.0.0.1 localhost\n::1 localhost\n" + _with(nomad_id, _lines("\n", loopback=True) + f"{{{{ .{names.HOSTS} }}}}\n")


def hosts_variable(nomad_id: str, *, loopback: bool) -> str:
    """SERAI_HOSTS: all lines as one word, for EXTRA_HOSTS. Its quotes and line ends are those of an environment file."""
    peers = f'{{{{ .{names.HOSTS}.Value | replaceAll "\\n" "\\\\n" }}}}'
    return _with(nomad_id, 'SERAI_HOSTS="localhost\\n' + _lines("\\n", loopback=loopback) + peers + '"\n')


EXTRA_HOSTS = "${SERAI_HOSTS}:127.0.0.1"
"""Nomad writes the /etc/hosts of a bridge's replica itself, `{address} {name}` for each entry `{name}:{address}`, and lets nobody mount
another one (facts: nomad-tried §9). How many names there are is not known before the variable is there, so all lines are in one name."""


def node_template(nomad_id: str, rank: int) -> str:
    """One rank's address, for replicas whose start script cannot write files: `self` is then the node's, or the loopback in a namespace."""
    own = '{{ if ne (env "SERAI_NODE_ADDRESS") "" }}{{ env "SERAI_NODE_ADDRESS" }}{{ else }}127.0.0.1{{ end }}'
    text = f'{{{{ $address := index (split "\\n" .{names.NODES}.Value) {rank} }}}}'
    return _with(nomad_id, text + '{{ if eq $address "self" }}' + own + "{{ else }}{{ $address }}{{ end }}\n")
