"""Addresses and ports of an allocation."""

from __future__ import annotations

from serai_backends.model import Endpoint
from serai_backends.nomad.wire import Allocation, PortMapping


def address_of(alloc: Allocation) -> str | None:
    """The allocation's own address, or its node's on the host's network; None = not known (yet, or by this answer: lists do not have it).

    On the host's network Nomad has a network status without an address; before a bridge is made it has none at all. So the node's address
    is not taken for that of an allocation whose own is still to come.
    """
    status = alloc.network_status
    if status is None:
        return None
    return status.address or next((port.host_ip for port in _ports(alloc) if port.host_ip), None)


def endpoint_of(alloc: Allocation, port: int) -> Endpoint | None:
    """Where on the node a replica's TCP port is reached; None = it is not mapped, or not yet."""
    mapping = next((p for p in _ports(alloc) if p.label.startswith("port-") and (p.to or p.value) == port), None)
    return Endpoint(mapping.host_ip, mapping.value) if mapping is not None and mapping.host_ip and mapping.value else None


def _ports(alloc: Allocation) -> tuple[PortMapping, ...]:
    shared = alloc.allocated_resources.shared if alloc.allocated_resources is not None else None
    return (shared.ports or ()) if shared is not None else ()
