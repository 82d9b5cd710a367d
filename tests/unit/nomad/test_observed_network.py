"""Addresses and ports of allocations."""

from __future__ import annotations

import pytest
from fakes.nomad_recorded import allocation
from serai_backends.model import Endpoint
from serai_backends.nomad.observed import address_of, endpoints_of
from serai_backends.nomad.wire import AllocatedResources, Allocation, NetworkStatus, PortMapping, SharedResources


def alloc(address: str | None, *ports: PortMapping) -> Allocation:
    status = None if address is None else NetworkStatus(address=address)
    return Allocation(network_status=status, allocated_resources=AllocatedResources(shared=SharedResources(ports=ports)))


def test_an_address_of_its_own() -> None:
    """On a bridge it is the allocation's, as recorded; a list has none."""
    recorded = allocation("docker-bridge-exit-3")
    assert (address_of(recorded.alone) or "").startswith("172.26.")
    assert address_of(recorded.listed) is None


def test_the_address_of_its_node() -> None:
    """On the host's network it is the node's, which only its ports tell."""
    assert address_of(alloc("", PortMapping(label="port-80", value=21000, host_ip="10.0.0.7"))) == "10.0.0.7"
    assert address_of(alloc("")) is None


def test_the_node_is_not_taken_for_a_bridge_to_come() -> None:
    """Before the network is made, the address is not known, also when the ports are given out."""
    assert address_of(alloc(None, PortMapping(label="port-80", value=21000, to=80, host_ip="10.0.0.7"))) is None


@pytest.mark.parametrize(
    ("port", "endpoint"), [(80, Endpoint("10.0.0.7", 21000)), (8888, Endpoint("10.0.0.7", 21001)), (21000, None), (22, None)]
)
def test_endpoints(port: int, endpoint: Endpoint | None) -> None:
    """A port of the job is reached on the node under the port that it is mapped to."""
    ports = (
        PortMapping(label="port-80", value=21000, to=80, host_ip="10.0.0.7"),
        PortMapping(label="port-8888", value=21001, to=8888, host_ip="10.0.0.7"),
        PortMapping(label="other", value=21002, to=22, host_ip="10.0.0.7"),
    )
    assert dict(endpoints_of(alloc("172.26.64.4", *ports))).get(port) == endpoint


def test_no_endpoint_without_ports() -> None:
    """A list entry does not have them."""
    assert endpoints_of(Allocation()) == ()
