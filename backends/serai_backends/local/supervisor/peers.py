# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH120
"""Peers: a cable (a veth pair) between the network namespaces of two jobs, laid by the launcher as root.

Each job has a block of addresses of its own, all of them on its lo. At both ends of a cable lies one route, to the other one's block. So
the two jobs reach each other in both directions, nobody forwards (see namespaces.quiet_network), and a third job that is a peer of one of
them has no route to the other. The cable is born inside the two namespaces: the host never has an end of it.

kill -9 between any two steps: before `begun` the supervisor of the new job ends with its launcher, its namespace with it, and with that
every cable, also the ends in the peers. The same happens when either job ends later. A repeated start lays cables of other names. A server
that is killed and comes back has nothing to do: the namespaces are held by the supervisors.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
from contextlib import contextmanager

from serai_backends.common import files
from serai_backends.local import journal
from serai_backends.local.supervisor import namespaces, netlink
from serai_backends.local.supervisor.failure import StartFailure
from serai_backends.local.supervisor.plan import BEGUN, PLAN, SPEC, read_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from serai_backends.local.supervisor.plan import Begun, Plan, Spec

_libc = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000


def _running(jobs_dir: str, hostname: str, job_id: str) -> tuple[Begun, Spec, Plan]:
    """What the peer's folder says. Raises StartFailure unless every replica of it has started and it has not ended."""
    try:
        folder = os.open(f"{jobs_dir}/{job_id}", files.DIRECTORY)
    except OSError as error:
        raise StartFailure("peer_gone", hostname) from error
    try:
        raw = [files.read_file(folder, name) for name in (BEGUN, SPEC, PLAN)]
        lines = journal.parse(files.read_file(folder, journal.NAME) or b"")
    finally:
        os.close(folder)
    begun, spec, plan = raw
    if begun is None or spec is None or plan is None or journal.has_end(lines):
        raise StartFailure("peer_gone", hostname)
    facts: tuple[Begun, Spec, Plan] = (json.loads(begun), read_spec(spec), json.loads(plan))
    started = {line.get("rank") for line in lines if line.get("k") == "start"}
    if len(started) < facts[1]["replicas"] or facts[0]["boot_id"] != files.boot_id() or "block" not in facts[2]:
        raise StartFailure("peer_gone", hostname)
    return facts


def hosts(job_path: str, spec: Spec) -> list[str]:
    """The lines of /etc/hosts for all peers: the name of each, and of each of its ranks. Raises StartFailure (PEER_GONE)."""
    lines: list[str] = []
    for peer in spec["peers"]:
        _, theirs, plan = _running(os.path.dirname(job_path), peer["hostname"], peer["job_id"])
        addresses = [namespaces.address(plan["block"], rank) for rank in range(theirs["replicas"])]
        lines.append(f"{addresses[0]} {peer['hostname']}")
        lines += [f"{address} {peer['hostname']}-{rank}" for rank, address in enumerate(addresses)]
    return lines


def connect(job_path: str, spec: Spec, plan: Plan, pid: int) -> None:
    """Lay a cable to each peer. `pid`: the supervisor that waits for its go. Raises StartFailure."""
    mine = namespaces.parse_block(plan["block"])
    own_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for peer in {peer["job_id"]: peer for peer in spec["peers"]}.values():
            begun, _, theirs = _running(os.path.dirname(job_path), peer["hostname"], peer["job_id"])
            with _namespace_of(begun, peer["hostname"]) as peer_fd:
                try:
                    lay(own_fd, mine, peer_fd, namespaces.parse_block(theirs["block"]))
                except OSError as error:
                    raise StartFailure("sandbox_failed", f"the network to {peer['hostname']}: {error}") from error
    finally:
        os.close(own_fd)


@contextmanager
def _namespace_of(begun: Begun, hostname: str) -> Generator[int]:
    """The network namespace of a supervisor, and of no other process: pinned first, compared after."""
    pidfd = fd = -1
    try:
        try:
            pidfd = os.pidfd_open(begun["pid"])
            same = files.start_ticks(begun["pid"]) == begun["start_ticks"]
            fd = os.open(f"/proc/{begun['pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StartFailure("peer_gone", hostname) from error
        if not same or select.select([pidfd], [], [], 0)[0]:
            raise StartFailure("peer_gone", hostname)
        yield fd
    finally:
        for opened in (pidfd, fd):
            if opened >= 0:
                os.close(opened)


def lay(first_fd: int, first: tuple[int, int], second_fd: int, second: tuple[int, int]) -> None:
    """A cable, up, with a route at both ends. Single-threaded callers only: it goes into both namespaces. Raises OSError."""
    name = f"peer{os.urandom(5).hex()}"
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        netlink.add_pair(name, first_fd, second_fd)
        for fd, mine, theirs in ((first_fd, first, second), (second_fd, second, first)):
            _go_into(fd)
            netlink.set_up(name)
            netlink.add_route(theirs, name, mine[0] + 1)
    finally:
        _go_into(home)
        os.close(home)


def _go_into(fd: int) -> None:
    if _libc.setns(fd, _NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _fresh(block: str) -> int:
    """This process is in a new network namespace afterwards; a descriptor of it. Raises OSError."""
    if _libc.unshare(_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    namespaces.raise_loopback(block)
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def trial() -> None:
    """A process of its own: two namespaces, a cable, a word from one to the other. Exit code 0, or words on stdout."""
    try:
        blocks = ["10.128.0.0/24", "10.128.1.0/24"]
        fds = [_fresh(block) for block in blocks]
        _go_into(fds[0])
        server = socket.create_server((namespaces.address(blocks[0], 0), 7000))
        lay(fds[0], namespaces.parse_block(blocks[0]), fds[1], namespaces.parse_block(blocks[1]))
        _go_into(fds[1])
        socket.create_connection(server.getsockname(), 5).close()
    except OSError as error:
        sys.stdout.write(str(error))
        sys.exit(1)
