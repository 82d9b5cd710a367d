"""Machines outside a node, in a network namespace of their own: the node's address is that of an interface whose other end is there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_SAYS = """import socket, sys
with socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=2, source_address=(sys.argv[1], 0)) as peer:
    print(peer.recv(99).decode(), end="")"""


@dataclass(frozen=True)
class Outside:
    interface: str
    """The node's."""
    node: str
    """The node's address; `proxy` and `stranger` are two outside, which reach the node, and its bridge through it."""
    proxy: str
    stranger: str

    async def hears(self, source: str, host: str, port: int) -> str:
        """The first words of what listens there, when `source` connects; empty = nobody, within two seconds."""
        enter = [] if source == self.node else ["ip", "netns", "exec", self.interface]
        made = await asyncio.create_subprocess_exec(
            *enter, "python3", "-c", _SAYS, source, host, str(port), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        said, _ = await made.communicate()
        return said.decode().strip()


def why_none() -> str | None:
    """None = it can be had."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "machines outside a node need root and the program ip: what they reach was not tried"
    return None


@contextmanager
def outside(bridge: str = "172.26.64.0/20") -> Generator[Outside]:
    """`bridge`: the network of jobs, which is reached by way of the node."""
    net = _free()
    name = f"serai-{net[4:-1].replace('.', '-')}"
    made = Outside(name, f"{net}1", f"{net}2", f"{net}3")
    try:
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{made.node}/24", "dev", name)
        _ip("link", "set", name, "up")
        for address in (made.proxy, made.stranger):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", bridge, "via", made.node)
        yield made
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _free() -> str:
    """The beginning of addresses that are set aside for tests (RFC 2544), and that nobody here has; of each process another."""
    taken = subprocess.run(["ip", "-o", "addr"], check=True, capture_output=True, text=True).stdout
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return next(net for number in range(256) if (net := f"198.{18 + worker % 2}.{(worker * 16 + number) % 256}.") not in taken)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
