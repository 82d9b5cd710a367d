"""Whether the ports of the front door are free, before Envoy listens on them.

Envoy's workers share their port (SO_REUSEPORT), and so would the Envoy of a second Serai: the kernel would give each connection to one of
the two by chance, and neither would say a word. So the ports are tried before anything is started, in the way that bears no sharing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from serai_gateway.clock import Clock
from serai_gateway.settings import GatewaySettings

GONE_WITHIN_MS = 3_000
"""An Envoy whose Serai was killed dies with it, but not in the same moment."""
_LOOK_S = 0.05


class PortTaken(Exception):
    """Somebody else listens there, or nobody may; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Port:
    setting: str
    """That names its number."""
    host: str
    number: int
    """0 = any free one, which nobody can have taken."""


def ports(gateway: GatewaySettings, *, tcp: bool) -> Sequence[Port]:
    """Those that a front door needs; `tcp`: the gateway has one of its own besides."""
    envoy = gateway.envoy
    found = [Port("gateway.envoy.port", envoy.host, envoy.port)]
    if gateway.web.mode == "host" and not envoy.certificate:
        found.append(Port("gateway.envoy.apps_port", envoy.host, envoy.apps_port))
    if tcp:
        found.append(Port("gateway.port", gateway.address, gateway.port))
    return found


async def until_free(wanted: Sequence[Port], clock: Clock) -> None:
    """Returns when nobody listens on any of them. PortTaken when somebody goes on to."""
    until_ms = clock.now_ms() + GONE_WITHIN_MS
    for port in wanted:
        while (error := _refusal(port)) is not None:
            if error.errno != errno.EADDRINUSE:
                raise PortTaken(f"cannot listen on {port.host} port {port.number} ({port.setting}): {error.strerror}") from error
            if clock.now_ms() >= until_ms:
                raise PortTaken(_words(port)) from error
            await clock.sleep(_LOOK_S)


def _words(port: Port) -> str:
    return (
        f"somebody else listens on {port.host} port {port.number}, which {port.setting} names: a `serai up` that was forgotten, perhaps, "
        f"or another program; `ss -ltnp sport = :{port.number}` says which. Stop it first, or set another {port.setting}"
    )


def _refusal(port: Port) -> OSError | None:
    """What the kernel says to one that shares with nobody; None = it could be had. Nobody is let in meanwhile: it does not listen."""
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections that have ended are nobody who listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as Envoy does
        try:
            probe.bind((port.host, port.number))
        except OSError as error:
            return error
    return None
