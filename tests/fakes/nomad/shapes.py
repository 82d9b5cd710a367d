"""What the servers know, in Nomad's JSON: list entries, single answers, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from fakes.nomad.broker import Event
from fakes.nomad.cluster import Allocation, Evaluation, JobRow, Node, Variable
from fakes.nomad.spec import Group, Json

_encode = msgspec.json.Encoder().encode


def rfc3339(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09d}Z"


def job(row: JobRow) -> Json:
    return row.raw | {
        "Status": row.status,
        "Stop": row.stop,
        "Version": row.version,
        "CreateIndex": row.create_index,
        "ModifyIndex": row.modify_index,
        "JobModifyIndex": row.job_modify_index,
        "SubmitTime": row.submit_time,
    }


def job_stub(row: JobRow, allocs: Sequence[Allocation], *, meta: bool) -> Json:
    stub: Json = {
        "ID": row.id,
        "ParentID": "",
        "Name": row.raw["Name"],
        "Namespace": row.namespace,
        "Datacenters": row.raw["Datacenters"],
        "NodePool": row.spec.pool,
        "Multiregion": None,
        "Type": row.raw["Type"],
        "Priority": row.raw["Priority"],
        "Periodic": False,
        "ParameterizedJob": False,
        "Stop": row.stop,
        "Status": row.status,
        "StatusDescription": "",
        "JobSummary": {
            "JobID": row.id,
            "Namespace": row.namespace,
            "Summary": {g.name: _summary(g, allocs) for g in row.spec.groups},
            "Children": {"Pending": 0, "Running": 0, "Dead": 0},
            "CreateIndex": row.create_index,
            "ModifyIndex": row.modify_index,
        },
        "CreateIndex": row.create_index,
        "ModifyIndex": row.modify_index,
        "JobModifyIndex": row.job_modify_index,
        "SubmitTime": row.submit_time,
    }
    if meta:
        stub["Meta"] = row.spec.meta
    return stub


def _summary(group: Group, allocs: Sequence[Allocation]) -> dict[str, int]:
    names: tuple[str, ...] = ("Queued", "Complete", "Failed", "Running", "Starting", "Lost", "Unknown")
    counted = {name: 0 for name in names}  # noqa: C420 - its keys are str, not these words
    words = {"pending": "Starting"}
    for alloc in allocs:
        if alloc.group.name == group.name:
            counted[words.get(alloc.client, alloc.client.capitalize())] += 1
    return counted


def resources(group: Group, node_ip: str, ports: list[Json] | None) -> Json:
    """The parts of an allocation that stay as they are from its placement on."""
    networks: list[Json] | None = [{"Mode": n.mode, "IP": node_ip} for n in group.networks or []] or None
    sums = {
        "CPU": sum(t.asks.cpu for t in group.members),
        "MemoryMB": sum(t.asks.memory_mb for t in group.members),
        "MemoryMaxMB": sum(t.asks.memory_max_mb or t.asks.memory_mb for t in group.members),
        "DiskMB": group.disk_mb,
    }
    return {
        "AllocatedResources": {
            "Tasks": {
                t.name: {
                    "Cpu": {"CpuShares": t.asks.cpu, "ReservedCores": None},
                    "Memory": {"MemoryMB": t.asks.memory_mb, "MemoryMaxMB": t.asks.memory_max_mb or 0},
                    "Networks": None,
                    "Devices": None,
                }
                for t in group.members
            },
            "TaskLifecycles": {
                t.name: None if t.lifecycle is None else {"Hook": t.lifecycle.hook, "Sidecar": t.lifecycle.sidecar} for t in group.members
            },
            "Shared": {"DiskMB": group.disk_mb, "Networks": networks, "Ports": ports},
        },
        "Resources": _flat(sums, networks),
        "SharedResources": _flat({"DiskMB": group.disk_mb}, networks),
        "TaskResources": {
            t.name: _flat({"CPU": t.asks.cpu, "MemoryMB": t.asks.memory_mb, "MemoryMaxMB": t.asks.memory_max_mb or 0}, None)
            for t in group.members
        },
    }


def _flat(some: dict[str, int], networks: list[Json] | None) -> Json:
    flat: Json = dict.fromkeys(("CPU", "Cores", "MemoryMB", "MemoryMaxMB", "DiskMB", "IOPS", "SecretsMB"), 0)
    return flat | some | {"Networks": networks, "Devices": None, "NUMA": None}


def _network(alloc: Allocation) -> Json | None:
    if alloc.address is None:
        return None
    return {"InterfaceName": "eth0" if alloc.address else "", "Address": alloc.address, "AddressIPv6": "", "DNS": None}


def alloc_stub(alloc: Allocation, *, states: bool, ask: bool) -> Json:
    """As a list has it: every field, also the empty ones; neither network nor the job."""
    transition = {
        name: alloc.transition.get(name)
        for name in ("Migrate", "Reschedule", "ForceReschedule", "NoShutdownDelay", "MigrateDisablePlacement")
    }
    stub: Json = {
        "ID": alloc.id,
        "EvalID": alloc.eval_id,
        "Name": alloc.name,
        "Namespace": alloc.job.namespace,
        "NodeID": alloc.node.id,
        "NodeName": alloc.node.spec.name,
        "JobID": alloc.job.id,
        "JobType": alloc.job.raw["Type"],
        "JobVersion": alloc.job_version,
        "TaskGroup": alloc.group.name,
        "DesiredStatus": alloc.desired,
        "DesiredDescription": alloc.desired_description,
        "ClientStatus": alloc.client,
        "ClientDescription": alloc.client_description,
        "DesiredTransition": transition,
        "TaskStates": alloc.states if states else None,
        "DeploymentStatus": None,
        "FollowupEvalID": "",
        "NextAllocation": alloc.next_allocation,
        "RescheduleTracker": None,
        "PreemptedAllocations": None,
        "PreemptedByAllocation": alloc.preempted_by,
        "CreateIndex": alloc.create_index,
        "ModifyIndex": alloc.modify_index,
        "CreateTime": alloc.create_time,
        "ModifyTime": alloc.modify_time,
    }
    if ask:
        stub["AllocatedResources"] = alloc.static["AllocatedResources"]
    return stub


def alloc_whole(alloc: Allocation, *, with_job: bool) -> Json:
    """As a single answer or an event has it: empty texts are left out."""
    whole: Json = {
        "ID": alloc.id,
        "Namespace": alloc.job.namespace,
        "EvalID": alloc.eval_id,
        "Name": alloc.name,
        "NodeID": alloc.node.id,
        "NodeName": alloc.node.spec.name,
        "JobID": alloc.job.id,
        "TaskGroup": alloc.group.name,
        **alloc.static,
        "DesiredStatus": alloc.desired,
        "ClientStatus": alloc.client,
        "CreateIndex": alloc.create_index,
        "ModifyIndex": alloc.modify_index,
        "AllocModifyIndex": alloc.alloc_modify_index,
        "CreateTime": alloc.create_time,
        "ModifyTime": alloc.modify_time,
    }
    optional: Json = {
        "DesiredDescription": alloc.desired_description,
        "ClientDescription": alloc.client_description,
        "DesiredTransition": dict(alloc.transition),
        "NextAllocation": alloc.next_allocation,
        "PreemptedByAllocation": alloc.preempted_by,
        "TaskStates": alloc.states,
        "NetworkStatus": _network(alloc),
    }
    whole |= {key: value for key, value in optional.items() if value}
    if with_job:
        whole["Job"] = job(alloc.job)
    return whole


def evaluation(one: Evaluation) -> Json:
    told: Json = {
        "ID": one.id,
        "Namespace": one.job.namespace,
        "Priority": one.job.raw["Priority"],
        "Type": one.job.raw["Type"],
        "TriggeredBy": one.triggered_by,
        "JobID": one.job.id,
        "JobModifyIndex": one.job.job_modify_index,
        "Status": one.status,
        "CreateIndex": one.create_index,
        "ModifyIndex": one.modify_index,
        "CreateTime": one.create_time,
        "ModifyTime": one.modify_time,
    }
    optional: Json = {
        "StatusDescription": one.description,
        "BlockedEval": one.blocked_eval,
        "PreviousEval": one.previous_eval,
        "FailedTGAllocs": one.failed,
        "QueuedAllocations": one.queued,
        "SnapshotIndex": one.snapshot_index if one.status != "pending" else 0,
    }
    return told | {key: value for key, value in optional.items() if value}


@lru_cache(maxsize=4096)
def _drivers(names: tuple[str, ...], played: bool) -> Json:
    every = ("docker", "exec", "java", "podman", "qemu", "raw_exec")
    known = [n for n in every if n in names or n not in {"podman"}]
    stamp = rfc3339(0)
    return {
        name: {
            "Attributes": {f"driver.{name}": "true"} if name in names else {},
            "Detected": name in names,
            "Healthy": name in names,
            "HealthDescription": "Healthy" if name in names else "",
            "UpdateTime": stamp,
        }
        for name in known
    }


def node_stub(node: Node, version: str, *, ask: bool) -> Json:
    stub: Json = {
        "Address": "127.0.0.1",
        "ID": node.id,
        "Name": node.spec.name,
        "Datacenter": node.spec.datacenter,
        "NodeClass": "",
        "NodePool": node.spec.pool,
        "Version": version,
        "Drain": node.draining,
        "SchedulingEligibility": "eligible" if node.eligible else "ineligible",
        "Status": node.status,
        "StatusDescription": "",
        "Drivers": _drivers(node.spec.drivers, True),
        "HostVolumes": {name: {"Path": path, "ReadOnly": False} for name, path in node.volumes.items()},
        "LastDrain": None,
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    }
    if ask:
        stub |= _node_resources(node)
    return stub


def _node_resources(node: Node) -> Json:
    return {
        "NodeResources": {
            "Cpu": {"CpuShares": node.spec.cpu_mhz, "TotalCpuCores": 2, "ReservableCpuCores": [0, 1]},
            "Memory": {"MemoryMB": node.spec.memory_mb},
            "Disk": {"DiskMB": node.spec.disk_mb},
            "Devices": None,
            "MinDynamicPort": 20000,
            "MaxDynamicPort": 32000,
        },
        "ReservedResources": {
            "Cpu": {"CpuShares": 0, "ReservedCpuCores": None},
            "Memory": {"MemoryMB": 0},
            "Disk": {"DiskMB": 0},
            "Networks": {"ReservedHostPorts": ""},
        },
    }


def attributes(node: Node, version: str) -> dict[str, str]:
    found = {
        "kernel.name": "linux",
        "cpu.arch": "amd64",
        "nomad.version": version,
        "unique.hostname": node.spec.name,
        "unique.network.ip-address": "127.0.0.1",
        "cpu.totalcompute": str(node.spec.cpu_mhz),
        "memory.totalbytes": str(node.spec.memory_mb * 1024 * 1024),
        "plugins.host_volume.mkdir.version": "0.0.1",
        "os.cgroups.version": "1",
    }
    found |= {f"driver.{name}": "1" for name in node.spec.drivers}
    if node.spec.bridge:
        found |= {f"plugins.cni.version.{name}": "1.0.0" for name in ("bridge", "firewall", "host-local", "loopback", "portmap")}
    return found | dict(node.spec.attributes)


def node_whole(node: Node, version: str, http: str) -> Json:
    whole = node_stub(node, version, ask=True)
    del whole["Address"], whole["Version"]
    no_events: list[Json] = []
    return whole | {
        "Attributes": attributes(node, version),
        "Meta": {},
        "Links": {},
        "HTTPAddr": http,
        "DrainStrategy": {"Deadline": 0, "IgnoreSystemJobs": False} if node.draining else None,
        "ComputedClass": "v1:1",
        "TLSEnabled": False,
        "SecretID": "",
        "StatusUpdatedAt": 0,
        "Events": no_events,
    }


def variable(one: Variable, *, items: bool) -> Json:
    told: Json = {
        "Namespace": one.namespace,
        "Path": one.path,
        "CreateIndex": one.create_index,
        "ModifyIndex": one.modify_index,
        "CreateTime": one.create_time,
        "ModifyTime": one.modify_time,
    }
    return told | {"Items": one.items} if items else told


def _event(topic: str, kind: str, key: str, index: int, payload: Json, *, namespace: str, filters: tuple[str, ...] = ()) -> Event:
    told: Json = {"Topic": topic, "Type": kind, "Key": key, "Namespace": namespace, "FilterKeys": filters or None, "Index": index}
    return Event(topic, kind, key, namespace, filters, _encode(told | {"Payload": payload}))


def job_event(kind: str, row: JobRow, index: int) -> Event:
    return _event("Job", kind, row.id, index, {"Job": job(row)}, namespace=row.namespace)


def eval_event(kind: str, one: Evaluation, index: int) -> Event:
    payload: Json = {"Evaluation": evaluation(one)}
    return _event("Evaluation", kind, one.id, index, payload, namespace=one.job.namespace, filters=(one.job.id, ""))


def alloc_event(kind: str, alloc: Allocation, index: int) -> Event:
    payload: Json = {"Allocation": alloc_whole(alloc, with_job=False)}
    return _event("Allocation", kind, alloc.id, index, payload, namespace=alloc.job.namespace, filters=(alloc.job.id, ""))


def node_event(kind: str, node: Node, version: str, http: str, index: int) -> Event:
    return _event("Node", kind, node.id, index, {"Node": node_whole(node, version, http)}, namespace="")


def variable_event(one: Variable, index: int, *, deleted: bool) -> Event:
    payload: Json = {"Metadata": variable(one, items=False), "Deleted": deleted}
    return _event("Variable", "VariableDeleted" if deleted else "VariableUpdated", one.path, index, payload, namespace=one.namespace)
