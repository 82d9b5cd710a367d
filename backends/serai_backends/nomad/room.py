"""How much room the cluster has for a kind of job, as far as lists of nodes and allocations tell.

Nomad's own scheduler decides; this is an estimate, for three things: whether a job could ever fit, whether a job of several ranks is worth
a try now (a part of it would hold its places until the deadline), and what people are told of their place in the line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING

from serai_backends.nomad.jobfile import FIREWALL_MHZ, FIREWALL_MIB, LEAST_MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serai_backends.model import ReplicaSpec, Resources
    from serai_backends.nomad.settings import NomadSettings, Placement
    from serai_backends.nomad.wire import Allocation, Node

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Need:
    """Of one rank, in Nomad's units."""

    mhz: int
    memory_mib: int


def need_of(resources: Resources, settings: NomadSettings) -> Need:
    """A rank's whole share and its firewall's: what the job file asks for."""
    mhz, memory_mib = (FIREWALL_MHZ, FIREWALL_MIB) if settings.firewall.enabled else (0, 0)
    own_mib = max(LEAST_MIB, -(-resources.memory_bytes // _MIB))
    return Need(mhz=resources.cpu * settings.mhz_per_core + mhz, memory_mib=own_mib + memory_mib)


@dataclass(slots=True)
class _Space:
    """Of one node."""

    mhz: int
    memory_mib: int
    all_mhz: int
    all_memory_mib: int
    taken: bool
    """Jobs may be placed on it now."""
    pool: str
    datacenter: str
    drivers: frozenset[str]

    def suits(self, placement: Placement) -> bool:
        pools = placement.node_pool in {self.pool, "all"}
        return pools and any(fnmatchcase(self.datacenter, glob) for glob in placement.datacenters) and placement.driver in self.drivers


@dataclass(slots=True)
class Room:
    """Made anew from each look at the cluster; between two looks jobs take and give by themselves."""

    nodes: dict[str, _Space] = field(default_factory=dict[str, _Space])
    known: bool = False
    """The cluster was looked at."""
    counted: Counter[str] = field(default_factory=Counter[str])
    """By Nomad's job: how many of its ranks the estimate counts as holding room."""

    def look(self, nodes: Sequence[Node], allocations: Iterable[Allocation]) -> None:
        """`allocations`: those that hold resources, of everybody."""
        self.nodes = {node.id: _space(node) for node in nodes}
        self.known, self.counted = True, Counter()
        for allocation in allocations:
            space = self.nodes.get(allocation.node_id)
            if space is None or allocation.allocated_resources is None:
                continue
            self.counted[allocation.job_id] += 1
            for task in (allocation.allocated_resources.tasks or {}).values():
                space.mhz -= task.cpu.cpu_shares
                space.memory_mib -= task.memory.memory_mb

    def could_ever_fit(self, spec: ReplicaSpec, placement: Placement, settings: NomadSettings) -> bool:
        """With nothing else on it. True when there is no suitable node at all: one may come."""
        suitable = [space for space in self.nodes.values() if space.suits(placement)]
        if not self.known or not suitable:
            return True
        need = need_of(spec.resources, settings)
        return sum(_times(space.all_mhz, space.all_memory_mib, need) for space in suitable) >= spec.replicas

    def fits_now(self, spec: ReplicaSpec, placement: Placement, settings: NomadSettings) -> bool:
        """Every rank, beside what is there. True when the cluster is not known: then Nomad is asked."""
        if not self.known:
            return True
        need = need_of(spec.resources, settings)
        free = [space for space in self.nodes.values() if space.taken and space.suits(placement)]
        return sum(_times(space.mhz, space.memory_mib, need) for space in free) >= spec.replicas

    def reserve(self, nomad_id: str, spec: ReplicaSpec, placement: Placement, settings: NomadSettings) -> None:
        """What a job that is on its way will take, until the next look: first nodes first, as far as it fits."""
        need, left = need_of(spec.resources, settings), spec.replicas
        for space in self.nodes.values():
            if not space.taken or not space.suits(placement):
                continue
            here = min(left, _times(space.mhz, space.memory_mib, need))
            space.mhz -= here * need.mhz
            space.memory_mib -= here * need.memory_mib
            left -= here
        self.counted[nomad_id] += spec.replicas - left

    def give_back(self, nomad_id: str, node_ids: Iterable[str], spec: ReplicaSpec, settings: NomadSettings) -> None:
        """What a job that is over held, as far as it is counted, on the nodes of its ranks; corrected by the next look."""
        need = need_of(spec.resources, settings)
        for node_id in islice(node_ids, self.counted.pop(nomad_id, 0)):
            if (space := self.nodes.get(node_id)) is not None:
                space.mhz = min(space.mhz + need.mhz, space.all_mhz)
                space.memory_mib = min(space.memory_mib + need.memory_mib, space.all_memory_mib)

    def totals(self, placement: Placement) -> tuple[int, int, int, int]:
        """(MHz in all, MHz free, MiB in all, MiB free) of the nodes that take such jobs now."""
        spaces = [space for space in self.nodes.values() if space.taken and space.suits(placement)]
        return (
            sum(space.all_mhz for space in spaces),
            sum(max(space.mhz, 0) for space in spaces),
            sum(space.all_memory_mib for space in spaces),
            sum(max(space.memory_mib, 0) for space in spaces),
        )


def _times(mhz: int, memory_mib: int, need: Need) -> int:
    counts = [max(mhz, 0) // need.mhz] if need.mhz else []
    if need.memory_mib:
        counts.append(max(memory_mib, 0) // need.memory_mib)
    return min(counts, default=1 << 20)


def _space(node: Node) -> _Space:
    whole, kept = node.node_resources, node.reserved_resources
    mhz = (whole.cpu.cpu_shares if whole and whole.cpu else 0) - (kept.cpu.cpu_shares if kept and kept.cpu else 0)
    memory = (whole.memory.memory_mb if whole and whole.memory else 0) - (kept.memory.memory_mb if kept and kept.memory else 0)
    return _Space(
        mhz=mhz,
        memory_mib=memory,
        all_mhz=mhz,
        all_memory_mib=memory,
        taken=node.status == "ready" and node.scheduling_eligibility == "eligible",
        pool=node.node_pool,
        datacenter=node.datacenter,
        drivers=frozenset(name for name, driver in (node.drivers or {}).items() if driver.detected and driver.healthy),
    )
