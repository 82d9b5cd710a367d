"""Who reaches whom on this cluster: jobs each other, users their jobs' terminals, web pages and desktops."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from serai_backends.model import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serai_backends.nomad.settings import NomadSettings

_PROXIES = "backend.nomad.firewall.proxies"


def reach_findings(settings: NomadSettings, nodes: Sequence[str]) -> list[Finding]:
    """`nodes`: their addresses, as far as they are known."""
    return [*_isolation(settings), *_terminals(settings), *_web(settings), *_proxies(settings, nodes)]


def _note(subject: str, text: str) -> Finding:
    return Finding(Severity.NOTE, subject, text)


def _warning(subject: str, text: str) -> Finding:
    return Finding(Severity.WARNING, subject, text)


def _isolation(settings: NomadSettings) -> list[Finding]:
    if settings.network == "host":
        text = "replicas are in their node's network, without a firewall: jobs of different users reach each other. Use network bridge"
        return [_warning("isolation", text)]
    if settings.firewall.enabled:
        return [_note("isolation", f"the nodes need the program {settings.firewall.nft}: that cannot be looked at from here")]
    return [
        _warning(
            "isolation",
            "the firewall is off: jobs of different users reach each other, and peers cannot be offered. "
            "Set backend.nomad.firewall.enabled, with raw_exec and `nft` on the nodes",
        )
    ]


def _terminals(settings: NomadSettings) -> list[Finding]:
    if all(placement.driver != "raw_exec" for placement in settings.placements):
        return []
    return [_note("terminals", "there are none: Nomad would open those of programs of raw_exec as root of the node")]


def _web(settings: NomadSettings) -> list[Finding]:
    if settings.firewall.enabled and settings.network != "host" and not settings.firewall.proxies:
        text = f"web pages and desktops are not offered: the firewall lets nobody in. Name the addresses of gateway and Envoy in {_PROXIES}"
        return [_note("web", text)]
    ports = "the applications' own ports" if settings.network == "host" else "ports 20000 to 32000 unless Nomad is set otherwise"
    text = f"gateway and Envoy reach web pages and desktops at the nodes' addresses, {ports}, in plain TCP"
    if settings.network.startswith("cni/"):
        text += f"; the configuration of {settings.network} needs the plugin portmap"
    return [_note("web", f"{text}: that cannot be tried from here")]


def _proxies(settings: NomadSettings, nodes: Sequence[str]) -> list[Finding]:
    """What a job sends from one node to another has its node's address there."""
    if not settings.firewall.enabled or not settings.firewall.proxies:
        return []
    proxies, closed = list(_networks(settings.firewall.proxies)), list(_networks(settings.firewall.closed))
    known = list(_addresses(nodes))
    named = [node for node in known if _in(node, proxies) and not _in(node, closed)]
    found: list[Finding] = []
    if named and len(known) > 1:
        shown = ", ".join(str(node) for node in named[:3])
        text = f"{_PROXIES} has nodes that run jobs ({shown}), with whose addresses their jobs reach others' web pages on other nodes"
        found.append(_warning("web", f"{text}. Name these nodes in backend.nomad.firewall.closed as well, or have the gateway elsewhere"))
    if any(node.is_loopback for node in known):
        text = "a node's address is a loopback's: what comes to its ports cannot be told from its other jobs, and is not let in. "
        found.append(_warning("web", f"{text}Set client.network_interface"))
    return found


def _networks(texts: Iterable[str]) -> Iterable[IPv4Network]:
    for text in texts:
        with suppress(ValueError):
            yield IPv4Network(text, strict=False)


def _addresses(texts: Iterable[str]) -> Iterable[IPv4Address]:
    for text in texts:
        with suppress(ValueError):
            yield IPv4Address(text)


def _in(address: IPv4Address, networks: Iterable[IPv4Network]) -> bool:
    return any(address in network for network in networks)
