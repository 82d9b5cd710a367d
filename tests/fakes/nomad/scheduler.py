"""Which allocation goes to which node, and why not; which ones are stopped. One evaluation at a time.

What a changed registration does to ranks that ended is the real one's doing, not a mistake: they run again (nomad-tried §3).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

from fakes.nomad import shapes
from fakes.nomad.cluster import Allocation, Cluster, Evaluation, JobRow, Node
from fakes.nomad.spec import Constraint, Group, Json

NOT_NEEDED = "alloc not needed due to job update"
MIGRATED = "alloc is being migrated"
UPDATED = "alloc is being updated due to job update"
LOST = "alloc is lost since its node is down"
UNKNOWN = "alloc is unknown since its node is disconnected"


class Scheduler:
    def __init__(self, cluster: Cluster, place: Callable[[Allocation], None], stop: Callable[[Allocation], None], version: str) -> None:
        self._cluster, self._version = cluster, version
        self._place, self._stop = place, stop
        self._blocked: dict[tuple[str, str], Evaluation] = {}
        self._ports: dict[str, Iterator[int]] = {}

    def evaluate(self, one: Evaluation) -> None:
        """The plan is made, applied and told; what found no room gets a blocked evaluation."""
        job = one.job
        if self._cluster.evals.get(one.id) is not one or one.status not in {"pending", "blocked"}:
            return
        blocked = self._blocked.pop(job.key, None)
        stopped = self._stops(job)
        placed: list[Allocation] = []
        failed: dict[str, Json] = {}
        queued: dict[str, int] = {}
        groups = [] if job.stop else job.spec.groups
        for group in groups:
            names = self._wanted(job, group)
            queued[group.name] = 0
            for name in names:
                node, metrics = self._choose(job, group)
                if node is None:
                    failed[group.name] = metrics
                    queued[group.name] += 1
                else:
                    placed.append(self._allocate(one, group, name, node, metrics))
        self._apply(one, stopped, placed)
        for alloc in stopped:
            if alloc.client == "lost":
                self._cluster.release(alloc)
        if blocked is not None and blocked is not one:
            self._finish(blocked, "canceled", {}, None)
        if failed:
            self._block(one, failed)
        self._finish(one, "complete", failed, queued)
        for alloc in placed:
            self._place(alloc)
        for alloc in stopped:
            self._stop(alloc)

    def unblock(self) -> None:
        """Room came: whatever is blocked is looked at again."""
        for one in list(self._blocked.values()):
            job = one.job
            if any(self._choose(job, g)[0] is not None for g in job.spec.groups if self._wanted(job, g)):
                self.evaluate(one)

    def forget(self, job: JobRow) -> None:
        """Its blocked evaluation is canceled with the job."""
        one = self._blocked.pop(job.key, None)
        if one is not None:
            self._finish(one, "canceled", {}, None)

    def _stops(self, job: JobRow) -> list[Allocation]:
        """Those that the job does not want any more, each with its reason set."""
        groups = {} if job.stop else {g.name: g for g in job.spec.groups}
        stopped: list[Allocation] = []
        for alloc in self._cluster.of_job.get(job.key, {}).values():
            group = groups.get(alloc.group.name)
            kept = group is not None and int(alloc.name.rsplit("[", 1)[1][:-1]) < group.size
            old = alloc.job_version != job.version
            if alloc.node.status in {"down", "disconnected"} and not alloc.client_terminal:
                if _cut_off(alloc):
                    stopped.append(alloc)
                continue
            if not kept and alloc.desired == "run" and (not alloc.client_terminal or old or job.stop):
                if alloc.client_terminal and job.stop:
                    continue
                alloc.desired, alloc.desired_description = "stop", NOT_NEEDED
                stopped.append(alloc)
            elif alloc.terminal or group is None:
                continue
            elif alloc.transition.get("Migrate") or alloc.transition.get("Reschedule"):
                alloc.desired, alloc.desired_description = "stop", MIGRATED
                stopped.append(alloc)
            elif old and _remade(alloc, job, group):
                alloc.desired, alloc.desired_description = "stop", UPDATED
                stopped.append(alloc)
            elif old:
                alloc.job_version, alloc.group = job.version, group
                alloc.modify_index = alloc.alloc_modify_index = self._cluster.next("allocs")
        return stopped

    def _wanted(self, job: JobRow, group: Group) -> list[str]:
        """Names of allocations that have to be placed."""
        taken: set[str] = set()
        for alloc in self._cluster.of_job.get(job.key, {}).values():
            if alloc.group.name != group.name:
                continue
            over, now = alloc.desired == "run", alloc.job_version == job.version
            # what ended by itself counts, because there are no attempts; what was stopped counts unless its stop asks for another one
            if not alloc.terminal or (now and (over or (alloc.desired == "stop" and not _replaced(alloc)))):
                taken.add(alloc.name)
        return [name for name in (f"{job.id}.{group.name}[{i}]" for i in range(group.size)) if name not in taken]

    def _choose(self, job: JobRow, group: Group) -> tuple[Node | None, Json]:
        pool = [n for n in self._cluster.nodes.values() if n.status == "ready" and n.eligible and job.spec.pool in {"all", n.spec.pool}]
        centres = job.spec.datacenters or ["*"]
        near = [n for n in pool if any(_matches(c, n.spec.datacenter) for c in centres)]
        counted: dict[str, int] = {}
        for node in near:
            counted[node.spec.datacenter] = counted.get(node.spec.datacenter, 0) + 1
        filtered: dict[str, int] = {}
        exhausted: dict[str, int] = {}
        fitting: list[Node] = []
        for node in near:
            why = self._unfit(job, group, node)
            full = "" if why else _full(node, group)
            if why:
                filtered[why] = filtered.get(why, 0) + 1
            elif full:
                exhausted[full] = exhausted.get(full, 0) + 1
            else:
                fitting.append(node)
        metrics: Json = {
            "NodesEvaluated": len(near),
            "NodesFiltered": sum(filtered.values()),
            "NodesInPool": len(near),
            "NodePool": job.spec.pool,
            "NodesAvailable": counted,
            "ClassFiltered": None,
            "ConstraintFiltered": filtered or None,
            "NodesExhausted": sum(exhausted.values()),
            "ClassExhausted": None,
            "DimensionExhausted": exhausted or None,
            "QuotaExhausted": None,
            "ResourcesExhausted": _asked(group) if exhausted else None,
            "Scores": None,
            "ScoreMetaData": None,
            "AllocationTime": 50_000,
            "CoalescedFailures": 0,
        }
        # the fullest node that fits, as Nomad packs batch jobs
        best = max(fitting, key=lambda n: (n.used_cpu / n.spec.cpu_mhz, n.used_memory / n.spec.memory_mb), default=None)
        return best, metrics

    def _unfit(self, job: JobRow, group: Group, node: Node) -> str:
        """Nomad's words for what the node does not have."""
        if any(t.driver not in node.spec.drivers for t in group.members):
            return "missing drivers"
        for volume in (group.volumes or {}).values():
            if volume.type == "host" and volume.source not in node.volumes:
                return "missing compatible host volumes"
        if group.network is not None and group.network.mode not in {"host", "none"} and not node.spec.bridge:
            return "missing network"
        facts = {f"${{attr.{k}}}": v for k, v in shapes.attributes(node, self._version).items()}
        facts |= {"${node.datacenter}": node.spec.datacenter, "${node.unique.name}": node.spec.name, "${node.unique.id}": node.id}
        facts |= {"${node.pool}": node.spec.pool}
        asked = [*(job.spec.constraints or []), *(group.constraints or []), *(c for t in group.members for c in t.constraints or [])]
        for constraint in asked:
            if not _holds(constraint, facts):
                return f"{constraint.l_target} {constraint.operand} {constraint.r_target}"
        return ""

    def _allocate(self, one: Evaluation, group: Group, name: str, node: Node, metrics: Json) -> Allocation:
        job = one.job
        static = shapes.resources(group, "127.0.0.1", self._ports_of(group, node))
        static["Metrics"] = metrics | {"ScoreMetaData": [{"NodeID": node.id, "Scores": {"binpack": 0.1}, "NormScore": 0.1}]}
        alloc = Allocation(self._cluster.new_id(), name, job, job.version, group, node, one.id, static)
        alloc.job_meta = job.spec.meta
        for old in self._cluster.of_job.get(job.key, {}).values():
            if (
                old.name == name
                and old.desired == "stop"
                and (_replaced(old) or old.desired_description == UPDATED)
                and not old.next_allocation
            ):
                old.next_allocation = alloc.id
        self._cluster.add_alloc(alloc)
        return alloc

    def _ports_of(self, group: Group, node: Node) -> list[Json] | None:
        if group.network is None:
            return None
        ports: list[Json] = []
        # what a fake maps is a port of this machine: each process of a test run begins elsewhere
        numbers = self._ports.setdefault(node.id, itertools.cycle(_from(os.getpid() * 97 % 12_000)))
        for port in group.network.dynamic_ports or []:
            value = next(numbers)
            ports.append({"Label": port.label, "Value": value, "To": value if port.to == -1 else port.to, "HostIP": "127.0.0.1"})
        ports.extend({"Label": p.label, "Value": p.value, "To": p.to, "HostIP": "127.0.0.1"} for p in group.network.reserved_ports or [])
        return ports or None

    def _apply(self, one: Evaluation, stopped: list[Allocation], placed: list[Allocation]) -> None:
        if not stopped and not placed:
            return
        index = self._cluster.next("allocs", "evals", "jobs")
        now = self._cluster.clock()
        for alloc in [*stopped, *placed]:
            alloc.modify_index = alloc.alloc_modify_index = index
            alloc.modify_time = now
        for alloc in placed:
            alloc.create_index, alloc.create_time = index, now
        one.modify_index = index
        events = [shapes.eval_event("PlanResult", one, index)]
        events.extend(shapes.alloc_event("PlanResult", a, index) for a in [*stopped, *placed])
        status = self._cluster.job_status(one.job)
        if status != one.job.status:
            one.job.status, one.job.modify_index = status, index
            events.append(shapes.job_event("PlanResult", one.job, index))
        self._cluster.tell(index, *events)

    def _block(self, one: Evaluation, failed: dict[str, Json]) -> None:
        index = self._cluster.next("evals")
        blocked = self._cluster.new_eval(one.job, "queued-allocs", index, one.id)
        blocked.status, blocked.description = "blocked", "created to place remaining allocations"
        blocked.failed = failed
        one.blocked_eval = blocked.id
        self._blocked[one.job.key] = blocked
        self._cluster.tell(index, shapes.eval_event("EvaluationUpdated", blocked, index))

    def _finish(self, one: Evaluation, status: str, failed: dict[str, Json], queued: dict[str, int] | None) -> None:
        index = self._cluster.next("evals")
        one.status, one.failed, one.queued = status, failed, queued
        one.modify_index, one.modify_time = index, self._cluster.clock()
        self._cluster.tell(index, shapes.eval_event("EvaluationUpdated", one, index))


def _remade(alloc: Allocation, job: JobRow, group: Group) -> bool:
    """What cannot be changed while a task runs: all of it but counts and time limits."""
    then, now = alloc.group, group
    return (then.members, then.networks, then.volumes, then.meta, alloc.job_meta) != (
        now.members,
        now.networks,
        now.volumes,
        now.meta,
        job.spec.meta,
    )


def _cut_off(alloc: Allocation) -> bool:
    """Of a node that is not heard of: what runs with a `lost_after` becomes unknown and waits; all else is lost, and another one comes in
    its place, whatever `replace` says (seen). Whether that is news."""
    running, disconnect = alloc.client in {"running", "unknown"}, alloc.group.disconnect
    if running and disconnect is not None and disconnect.lost_after:
        news = alloc.client != "unknown"
        alloc.client, alloc.client_description = "unknown", UNKNOWN
        if alloc.job.stop and alloc.desired == "run":
            alloc.desired, alloc.desired_description, news = "stop", NOT_NEEDED, True
        return news
    alloc.desired, alloc.desired_description = "stop", LOST
    alloc.client = "lost"
    if running:
        alloc.client_description = UNKNOWN
    return True


def _replaced(alloc: Allocation) -> bool:
    """Whether its stop asks for another one in its place."""
    asked = alloc.transition
    if alloc.desired_description == LOST:
        return True
    return bool(asked.get("Migrate")) and not asked.get("MigrateDisablePlacement") and not asked.get("Reschedule")


def _matches(pattern: str, name: str) -> bool:
    return pattern in {"*", name} or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def _full(node: Node, group: Group) -> str:
    if node.used_cpu + sum(t.asks.cpu for t in group.members) > node.spec.cpu_mhz:
        return "cpu"
    if node.used_memory + sum(t.asks.memory_mb for t in group.members) > node.spec.memory_mb:
        return "memory"
    if node.used_disk + group.disk_mb > node.spec.disk_mb:
        return "disk"
    return ""


def _asked(group: Group) -> Json:
    zero: Json = dict.fromkeys(("CPU", "Cores", "DiskMB", "IOPS", "MemoryMaxMB", "SecretsMB"), 0)
    none: Json = {"Devices": None, "NUMA": None, "Networks": None}
    return {t.name: zero | none | {"CPU": t.asks.cpu, "MemoryMB": t.asks.memory_mb} for t in group.members}


def _holds(constraint: Constraint, facts: dict[str, str]) -> bool:
    left = facts.get(constraint.l_target, "" if constraint.l_target.startswith("${") else constraint.l_target)
    right = facts.get(constraint.r_target, constraint.r_target)
    match constraint.operand:
        case "=" | "==" | "is":
            return left == right
        case "!=" | "not":
            return left != right
        case "set_contains":
            return set(right.split(",")) <= set(left.split(","))
        case "is_set":
            return left != ""
        case "is_not_set":
            return left == ""
        case _:
            return True


def _from(first: int) -> list[int]:
    """All ports that Nomad gives, from that one on."""
    return [*range(20_000 + first, 32_000), *range(20_000, 20_000 + first)]
