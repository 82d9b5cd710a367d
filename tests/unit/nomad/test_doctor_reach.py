"""What doctor says of who reaches whom."""

from __future__ import annotations

import pytest
from serai_backends.model import Severity
from serai_backends.nomad.doctor_reach import reach_findings
from serai_backends.nomad.settings import Firewall, NomadSettings, Placement

ONE, TWO, PROXY = "10.1.0.1", "10.1.0.2", "10.9.0.1"


def said(
    nodes: tuple[str, ...] = (ONE, TWO), network: str = "bridge", driver: str = "docker", **firewall: object
) -> list[tuple[bool, str, str]]:
    """Whether it is a warning, the subject, the words."""
    settings = NomadSettings(
        state_dir="state",
        provider="ours",
        drives_dir="drives",
        network=network,
        placements=(Placement(driver=driver),),  # pyright: ignore[reportArgumentType] - one of its words
        firewall=Firewall(**firewall),  # pyright: ignore[reportArgumentType] - its fields by name
    )
    return [(found.severity is Severity.WARNING, found.subject, found.text) for found in reach_findings(settings, nodes)]


def words(subject: str, found: list[tuple[bool, str, str]], *, warning: bool) -> str:
    return " ".join(text for is_warning, about, text in found if about == subject and is_warning is warning)


def test_a_firewall_that_lets_nobody_in_has_no_web() -> None:
    """The operator reads what to name."""
    assert "firewall.proxies" in words("web", said(enabled=True), warning=False)


@pytest.mark.parametrize(("network", "part"), [("bridge", "20000 to 32000"), ("host", "own ports"), ("cni/lan", "portmap")])
def test_what_has_to_be_reachable_is_said(network: str, part: str) -> None:
    """Which ports of the nodes, and that nothing of that is encrypted."""
    text = words("web", said(network=network), warning=False)
    assert part in text
    assert "plain TCP" in text


def test_proxies_that_run_jobs_are_warned_of() -> None:
    """Their jobs come with the same address, unless they may not go to other nodes; on a single node they do not."""
    assert ONE in words("web", said(enabled=True, proxies=(f"{ONE}/32",)), warning=True)
    assert not words("web", said(enabled=True, proxies=(f"{PROXY}/32",)), warning=True)
    assert not words("web", said(enabled=True, proxies=(f"{ONE}/32",), closed=("10.1.0.0/16",)), warning=True)
    assert not words("web", said((ONE,), enabled=True, proxies=(f"{ONE}/32",)), warning=True)


def test_a_node_on_the_loopback_is_warned_of() -> None:
    """Nobody could be let in."""
    assert "network_interface" in words("web", said(("127.0.0.1",), enabled=True, proxies=("127.0.0.1/32",)), warning=True)
    assert not words("web", said(("127.0.0.1", "not an address")), warning=True)


def test_programs_on_the_node_have_no_terminals() -> None:
    """And nothing is said where all have."""
    assert "root of the node" in words("terminals", said(driver="raw_exec"), warning=False)
    assert not words("terminals", said(), warning=False)
