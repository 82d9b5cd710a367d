"""Short words for jobs and allocations of the Nomad backend, for tests of its pure parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import msgspec
from serai_backends.model import ReplicaSpec, Resources
from serai_backends.nomad import names
from serai_backends.nomad.records import Record, Stage, StopReason
from serai_backends.nomad.view import View
from serai_backends.nomad.wire import Allocation

if TYPE_CHECKING:
    from serai_backends.model import Peer


class Words(TypedDict, total=False):
    """What `alloc` may be told."""

    rank: int
    id: str
    index: int
    created: int
    status: str
    desired: str
    task: str
    started: bool
    exit_code: int
    address: str


class State(TypedDict, total=False):
    """Of an allocation, whichever it is."""

    status: str
    task: str
    started: bool
    address: str


RUNNING: State = {"status": "running", "task": "running", "address": "10.0.0.9"}
FAILED: State = {"status": "failed", "task": "dead", "started": False}
STARTED = "2026-01-01T00:00:00.5Z"
FINISHED = "2026-01-01T00:00:02.25Z"


def spec_of(job_id: str = "job", replicas: int = 1, peers: tuple[Peer, ...] = (), cpu: int = 1, memory_mib: int = 64) -> ReplicaSpec:
    resources = Resources(cpu=cpu, memory_bytes=memory_mib << 20)
    return ReplicaSpec(job_id, replicas, ("true",), (), resources, f"drive/Jobs/x/{job_id}", image="acme/batch:1.0.0", peers=peers)


def view_of(
    stage: Stage,
    *,
    job_id: str = "job",
    replicas: int = 1,
    peers: tuple[Peer, ...] = (),
    prepared: bool = True,
    index: int = 0,
    gate: bool = False,
    stop: StopReason | None = None,
    sequence: int = 1,
    cpu: int = 1,
) -> View:
    spec = spec_of(job_id, replicas, peers, cpu)
    view = View(Record(job_id=job_id, sequence=sequence, stage=stage, spec=spec, prepared=prepared, registered_index=index, stop=stop))
    view.gate_written = gate
    return view


def alloc(view: View, **words: Unpack[Words]) -> Allocation:
    """An allocation of the view's attempt as an event has it."""
    rank, task, status = words.get("rank", 0), words.get("task", "pending"), words.get("status", "pending")
    exit_code, address = words.get("exit_code", 0), words.get("address", "")
    began = words.get("started", task != "pending")
    events: list[dict[str, object]] = [{"Type": "Received"}, {"Type": "Task Setup"}]
    if began:
        events.append({"Type": "Started"})
    if task == "dead" and began:
        events.append({"Type": "Terminated", "ExitCode": exit_code, "Details": {"exit_code": str(exit_code), "oom_killed": "false"}})
    elif task == "dead":
        events.append({"Type": "Driver Failure", "DriverError": "no", "FailsTask": True})
    state = {
        "State": task,
        "Failed": status == "failed",
        "StartedAt": STARTED if began else None,
        "FinishedAt": FINISHED if task == "dead" else None,
        "Events": events,
    }
    return msgspec.convert(
        {
            "ID": words.get("id", f"alloc-{rank}"),
            "JobID": view.nomad_id,
            "TaskGroup": names.group(rank),
            "NodeID": "node-id",
            "NodeName": "node-7",
            "DesiredStatus": words.get("desired", "run"),
            "ClientStatus": status,
            "TaskStates": {"main": state},
            "NetworkStatus": {"InterfaceName": "eth0", "Address": address} if address else None,
            "CreateIndex": words.get("created", 6),
            "ModifyIndex": words.get("index", 10),
        },
        Allocation,
    )
