"""What is read of Nomad's JSON, field by field under Nomad's own names in snake_case; unknown fields are skipped.

Nomad leaves empty fields out in some answers and sends null in others (facts: nomad-tried §4), so everything has a default.
Times are ns since epoch where the name says so, otherwise RFC 3339 texts, "" or null where they are not known.
"""

from __future__ import annotations

import msgspec


class _Read(msgspec.Struct, frozen=True, rename="pascal"):
    pass


class TaskEvent(_Read, frozen=True):
    type: str = ""
    time: int = 0
    """ns since epoch, by the node's clock."""
    message: str = ""
    display_message: str = ""
    details: dict[str, str] | None = None
    exit_code: int = 0
    signal: int = 0
    kill_error: str = ""
    kill_reason: str = ""
    driver_error: str = ""
    download_error: str = ""
    validation_error: str = ""
    setup_error: str = ""
    fails_task: bool = False
    failed_sibling: str = ""


class TaskState(_Read, frozen=True):
    state: str = ""
    """pending, running, dead."""
    failed: bool = False
    restarts: int = 0
    started_at: str | None = None
    finished_at: str | None = None
    events: tuple[TaskEvent, ...] | None = None


class NetworkStatus(_Read, frozen=True):
    interface_name: str = ""
    address: str = ""


class PortMapping(_Read, frozen=True):
    label: str = ""
    value: int = 0
    to: int = 0
    host_ip: str = msgspec.field(default="", name="HostIP")


class SharedResources(_Read, frozen=True):
    ports: tuple[PortMapping, ...] | None = None


class CpuShare(_Read, frozen=True):
    cpu_shares: int = 0


class MemoryShare(_Read, frozen=True):
    memory_mb: int = msgspec.field(default=0, name="MemoryMB")


class TaskResources(_Read, frozen=True):
    cpu: CpuShare = CpuShare()
    memory: MemoryShare = MemoryShare()


class AllocatedResources(_Read, frozen=True):
    tasks: dict[str, TaskResources] | None = None
    shared: SharedResources | None = None


class DesiredTransition(_Read, frozen=True):
    migrate: bool | None = None
    reschedule: bool | None = None
    force_reschedule: bool | None = None
    migrate_disable_placement: bool | None = None


class Allocation(_Read, frozen=True):
    """From the list, from an event or alone: what each of them has."""

    id: str = msgspec.field(default="", name="ID")
    eval_id: str = msgspec.field(default="", name="EvalID")
    name: str = ""
    namespace: str = ""
    node_id: str = msgspec.field(default="", name="NodeID")
    node_name: str = ""
    job_id: str = msgspec.field(default="", name="JobID")
    task_group: str = ""
    desired_status: str = ""
    """run, stop, evict."""
    desired_description: str = ""
    client_status: str = ""
    """pending, running, complete, failed, lost, unknown."""
    client_description: str = ""
    desired_transition: DesiredTransition | None = None
    task_states: dict[str, TaskState] | None = None
    network_status: NetworkStatus | None = None
    """Not in lists."""
    allocated_resources: AllocatedResources | None = None
    """In lists only with `resources=true`."""
    next_allocation: str = ""
    preempted_by_allocation: str = ""
    create_index: int = 0
    modify_index: int = 0
    create_time: int = 0
    modify_time: int = 0
    """ns since epoch, by the servers' clocks."""


class AllocMetric(_Read, frozen=True):
    """Why a group was not placed."""

    nodes_evaluated: int = 0
    nodes_filtered: int = 0
    nodes_in_pool: int = 0
    nodes_available: dict[str, int] | None = None
    class_filtered: dict[str, int] | None = None
    constraint_filtered: dict[str, int] | None = None
    nodes_exhausted: int = 0
    class_exhausted: dict[str, int] | None = None
    dimension_exhausted: dict[str, int] | None = None
    quota_exhausted: tuple[str, ...] | None = None
    coalesced_failures: int = 0


class Evaluation(_Read, frozen=True):
    id: str = msgspec.field(default="", name="ID")
    job_id: str = msgspec.field(default="", name="JobID")
    type: str = ""
    triggered_by: str = ""
    status: str = ""
    """pending, complete, blocked, failed, canceled."""
    status_description: str = ""
    blocked_eval: str = ""
    failed_tg_allocs: dict[str, AllocMetric] | None = msgspec.field(default=None, name="FailedTGAllocs")
    create_index: int = 0
    modify_index: int = 0


class Job(_Read, frozen=True):
    """As a list or an event has it; `meta` only where asked for."""

    id: str = msgspec.field(default="", name="ID")
    name: str = ""
    namespace: str = ""
    type: str = ""
    status: str = ""
    """pending, running, dead. Of no use for what became of the job: see the allocations."""
    status_description: str = ""
    stop: bool = False
    meta: dict[str, str] | None = None
    version: int = 0
    create_index: int = 0
    modify_index: int = 0
    job_modify_index: int = 0


class NodeCpu(_Read, frozen=True):
    cpu_shares: int = 0


class NodeMemory(_Read, frozen=True):
    memory_mb: int = msgspec.field(default=0, name="MemoryMB")


class NodeResources(_Read, frozen=True):
    cpu: NodeCpu | None = None
    memory: NodeMemory | None = None


class DriverInfo(_Read, frozen=True):
    detected: bool = False
    healthy: bool = False


class Node(_Read, frozen=True):
    id: str = msgspec.field(default="", name="ID")
    name: str = ""
    address: str = ""
    datacenter: str = ""
    node_pool: str = ""
    status: str = ""
    """initializing, ready, down, disconnected."""
    scheduling_eligibility: str = ""
    """eligible, ineligible."""
    drain: bool = False
    drivers: dict[str, DriverInfo] | None = None
    node_resources: NodeResources | None = None
    reserved_resources: NodeResources | None = None
    version: str = ""
    attributes: dict[str, str] | None = None
    modify_index: int = 0


class Variable(_Read, frozen=True):
    path: str = ""
    items: dict[str, str] = {}
    create_index: int = 0
    modify_index: int = 0

    def __repr__(self) -> str:
        """Without the items: they may be secrets."""
        return f"Variable(path={self.path!r}, modify_index={self.modify_index})"
