"""What the servers know: one index for all changes, the tables, and the events that tell of each change."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from fakes.nomad.broker import Broker, Event
from fakes.nomad.spec import Group, Job, Json


@dataclass(frozen=True)
class NodeSpec:
    """A node of the cluster, as a test asks for it."""

    name: str = "node-1"
    cpu_mhz: int = 32_000
    memory_mb: int = 32_768
    disk_mb: int = 250_000
    pool: str = "default"
    datacenter: str = "dc1"
    drivers: tuple[str, ...] = ("raw_exec",)
    attributes: tuple[tuple[str, str], ...] = ()
    max_allocs: int = 5_000
    """Of the client's garbage collection: with more, those that ended go first."""
    bridge: bool = True


class TaskEvent(msgspec.Struct, frozen=True, rename="pascal"):
    """One line of a task's story; empty fields are told too, as Nomad does."""

    type: str
    time: int
    display_message: str = ""
    message: str = ""
    details: dict[str, str] = {}
    exit_code: int = 0
    signal: int = 0
    kill_timeout: int = 0
    kill_error: str = ""
    kill_reason: str = ""
    driver_error: str = ""
    driver_message: str = ""
    download_error: str = ""
    validation_error: str = ""
    setup_error: str = ""
    vault_error: str = ""
    failed_sibling: str = ""
    fails_task: bool = False
    generic_source: str = ""
    restart_reason: str = ""
    start_delay: int = 0
    disk_limit: int = 0
    task_signal: str = ""
    task_signal_reason: str = ""


class TaskState(msgspec.Struct, rename="pascal"):
    state: str = "pending"
    failed: bool = False
    restarts: int = 0
    last_restart: None = None
    paused: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    events: list[TaskEvent] = []

    def copied(self) -> TaskState:
        return TaskState(
            state=self.state,
            failed=self.failed,
            restarts=self.restarts,
            started_at=self.started_at,
            finished_at=self.finished_at,
            events=list(self.events),
        )


@dataclass
class Node:
    spec: NodeSpec
    id: str
    status: str = "ready"
    eligible: bool = True
    draining: bool = False
    create_index: int = 0
    modify_index: int = 0
    used_cpu: int = 0
    used_memory: int = 0
    used_disk: int = 0
    volumes: dict[str, str] = field(default_factory=dict[str, str])
    """Dynamic host volumes: name → folder."""


@dataclass
class JobRow:
    raw: Json
    """As Nomad tells it back, without what changes by itself."""
    spec: Job
    namespace: str
    version: int = 0
    status: str = "pending"
    stop: bool = False
    create_index: int = 0
    modify_index: int = 0
    job_modify_index: int = 0
    submit_time: int = 0

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.spec.id


@dataclass
class Evaluation:
    id: str
    job: JobRow
    triggered_by: str
    status: str = "pending"
    description: str = ""
    blocked_eval: str = ""
    previous_eval: str = ""
    failed: dict[str, Json] = field(default_factory=dict[str, Json])
    queued: dict[str, int] | None = None
    create_index: int = 0
    modify_index: int = 0
    create_time: int = 0
    modify_time: int = 0
    snapshot_index: int = 0


@dataclass(eq=False)
class Allocation:
    id: str
    name: str
    job: JobRow
    job_version: int
    group: Group
    node: Node
    eval_id: str
    static: Json
    """Resources and metrics, which stay as they are."""
    desired: str = "run"
    desired_description: str = ""
    client: str = "pending"
    client_description: str = ""
    job_meta: dict[str, str] | None = None
    """The job's, as the allocation was made of it."""
    transition: dict[str, bool] = field(default_factory=dict[str, bool])
    states: dict[str, TaskState] | None = None
    address: str | None = None
    """As the servers know it; None = they have not heard."""
    next_allocation: str = ""
    preempted_by: str = ""
    create_index: int = 0
    modify_index: int = 0
    alloc_modify_index: int = 0
    create_time: int = 0
    modify_time: int = 0
    released: bool = False
    """Its share of the node was given back."""

    @property
    def client_terminal(self) -> bool:
        return self.client in {"complete", "failed", "lost"}

    @property
    def terminal(self) -> bool:
        return self.client_terminal or self.desired in {"stop", "evict"}


@dataclass
class Variable:
    path: str
    namespace: str
    items: dict[str, str]
    create_index: int
    modify_index: int
    create_time: int
    modify_time: int


class Cluster:
    """Tables and index. Each change is made by `commit`, which tells the broker too."""

    def __init__(self, nodes: Sequence[NodeSpec], broker: Broker, clock: Callable[[], int], seed: int) -> None:
        self.broker, self.clock = broker, clock
        self._random = random.Random(seed)
        self.index = 10
        self.tables: dict[str, int] = {}
        self.jobs: dict[tuple[str, str], JobRow] = {}
        self.evals: dict[str, Evaluation] = {}
        self.allocs: dict[str, Allocation] = {}
        self.of_job: dict[tuple[str, str], dict[str, Allocation]] = {}
        self.evals_of_job: dict[tuple[str, str], dict[str, Evaluation]] = {}
        self.variables: dict[tuple[str, str], Variable] = {}
        self.namespaces: dict[str, str] = {"default": "Default shared namespace"}
        self.pools: set[str] = {"all", "default", *(n.pool for n in nodes)}
        self.host_volumes: dict[str, Json] = {}
        self.nodes = {node.id: node for node in (Node(spec, self.new_id()) for spec in nodes)}
        for node in self.nodes.values():
            node.create_index = node.modify_index = self.next("nodes")

    def new_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128)))

    def next(self, *tables: str) -> int:
        """The index of a change to these tables."""
        self.index += 1
        for table in tables:
            self.tables[table] = self.index
        return self.index

    def at(self, table: str) -> int:
        return self.tables.get(table, 1)

    def tell(self, index: int, *events: Event) -> None:
        self.broker.publish(index, events)

    def new_eval(self, job: JobRow, triggered_by: str, index: int, previous: str = "") -> Evaluation:
        now = self.clock()
        made = Evaluation(self.new_id(), job, triggered_by, previous_eval=previous)
        made.create_index = made.modify_index = index
        made.create_time = made.modify_time = now
        made.snapshot_index = index - 1
        self.evals[made.id] = made
        self.evals_of_job.setdefault(job.key, {})[made.id] = made
        return made

    def add_alloc(self, alloc: Allocation) -> None:
        self.allocs[alloc.id] = alloc
        self.of_job.setdefault(alloc.job.key, {})[alloc.id] = alloc
        alloc.node.used_cpu += sum(t.asks.cpu for t in alloc.group.members)
        alloc.node.used_memory += sum(t.asks.memory_mb for t in alloc.group.members)
        alloc.node.used_disk += alloc.group.disk_mb

    def release(self, alloc: Allocation) -> bool:
        """Its share of the node is free again; whether that is news."""
        if alloc.released:
            return False
        alloc.released = True
        alloc.node.used_cpu -= sum(t.asks.cpu for t in alloc.group.members)
        alloc.node.used_memory -= sum(t.asks.memory_mb for t in alloc.group.members)
        alloc.node.used_disk -= alloc.group.disk_mb
        return True

    def forget_job(self, key: tuple[str, str]) -> list[Allocation]:
        """Job, evaluations and allocations are gone from the tables."""
        self.jobs.pop(key, None)
        for one in self.evals_of_job.pop(key, {}):
            self.evals.pop(one, None)
        gone = list(self.of_job.pop(key, {}).values())
        for alloc in gone:
            self.allocs.pop(alloc.id, None)
        return gone

    def job_status(self, job: JobRow) -> str:
        """pending, running or dead, as Nomad counts it."""
        allocs = self.of_job.get(job.key, {})
        if any(not a.client_terminal for a in allocs.values()):
            return "running"
        if any(e.status in {"pending", "blocked"} for e in self.evals_of_job.get(job.key, {}).values()):
            return "pending"
        return "dead" if job.stop or allocs else "pending"
