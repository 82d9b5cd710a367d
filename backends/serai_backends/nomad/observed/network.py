"""Addresses and ports of an allocation."""

from __future__ import annotations

from serai_backends.model import Endpoint
from serai_backends.nomad.names import PORT
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


def endpoints_of(alloc: Allocation) -> tuple[tuple[int, Endpoint], ...]:
    """A replica's own TCP ports, and where on the node each is reached; empty = it has none, or this answer does not say (lists do not)."""
    mapped = [port for port in _ports(alloc) if port.label.startswith(PORT) and port.host_ip and port.value]
    return tuple((port.to or port.value, Endpoint(port.host_ip, port.value)) for port in mapped)


def _ports(alloc: Allocation) -> tuple[PortMapping, ...]:
    shared = alloc.allocated_resources.shared if alloc.allocated_resources is not None else None
    return (shared.ports or ()) if shared is not None else ()
