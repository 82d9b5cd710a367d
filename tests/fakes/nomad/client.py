"""The clients of all nodes: they start what was placed, and tell the servers in batches what became of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from fakes.nomad import shapes
from fakes.nomad.cluster import Allocation, Cluster, TaskState
from fakes.nomad.drivers import Exit, Played
from fakes.nomad.runner import Killing, Runner
from fakes.nomad.spec import Task


def status_of(states: Mapping[str, TaskState]) -> tuple[str, str]:
    """As the real client sums its tasks up."""
    if any(s.state == "dead" and s.failed for s in states.values()):
        return "failed", "Failed tasks"
    if any(s.state == "running" for s in states.values()):
        return "running", "Tasks are running"
    if any(s.state == "pending" for s in states.values()):
        return "pending", "No tasks have started"
    return "complete", "All tasks have completed"


class Clients:
    def __init__(
        self,
        cluster: Cluster,
        data: Path,
        *,
        simulated: bool,
        clock: Callable[[], int],
        update_delay_s: float,
        unstarted_kill_s: float,
        template_event_s: float,
        splay_s: float,
        version: str,
        addresses: Callable[[], str],
    ) -> None:
        self.cluster, self.data, self.simulated, self.clock = cluster, data, simulated, clock
        self.update_delay_s, self.unstarted_kill_s = update_delay_s, unstarted_kill_s
        self.template_event_s, self.splay_s = template_event_s, splay_s
        self.version, self._addresses = version, addresses
        self.room: Callable[[], None] = lambda: None
        """Called when a node has room again."""
        self.http = ""
        self.silent = False
        """The agent is away: tasks live on, the servers hear nothing."""
        self.runners: dict[str, Runner] = {}
        self._here: dict[str, dict[str, Runner]] = {}
        self._ended: dict[str, dict[str, Runner]] = {}
        """The same by node: all, and those that are over, oldest first."""
        self.gone: dict[str, str] = {}
        """Allocations whose files the client has collected: id → job id."""
        self.troubles: dict[str, str] = {}
        """Job id or image → DriverError of its next starts."""
        self._changes: dict[tuple[str, str], asyncio.Event] = {}
        self._dirty: dict[str, Runner] = {}
        self._flush: asyncio.TimerHandle | None = None

    def place(self, alloc: Allocation) -> None:
        network = alloc.group.network
        bridge = network is not None and network.mode not in {"host", "none"}
        runner = Runner(alloc, self, self._addresses() if bridge else "")
        self.runners[alloc.id] = runner
        self._here.setdefault(alloc.node.id, {})[alloc.id] = runner
        runner.start()
        self._collect(alloc.node.id, alloc.node.spec.max_allocs)

    def stop(self, alloc: Allocation) -> None:
        runner = self.runners.get(alloc.id)
        if runner is not None and alloc.node.status == "ready":
            runner.stop(Killing())

    def reconnected(self, alloc: Allocation) -> None:
        """Its node hears the servers again: what it should not run any more is ended, the rest is told."""
        runner = self.runners.get(alloc.id)
        if runner is None or alloc.client not in {"unknown", "lost"}:
            return
        for name, state in runner.states.items():
            if alloc.client == "unknown" and state.state == "running":
                runner.note(name, "Reconnected", "Client reconnected")
        if alloc.desired != "run":
            runner.stop(Killing())
        self.changed(runner)

    def vanish(self, alloc: Allocation) -> None:
        """Purged: the servers do not know it any more; its tasks are ended all the same."""
        runner = self.runners.get(alloc.id)
        if runner is not None:
            runner.vanished = True
            runner.stop(Killing())
            self._forget_when_over(runner)
        self.cluster.release(alloc)

    def _forget_when_over(self, runner: Runner) -> None:
        if runner.vanished and runner.over:
            self._drop(runner)

    def _collect(self, node: str, limit: int) -> None:
        """The client's garbage collection: above the limit the oldest that ended lose folder and logs."""
        here, ended = self._here.get(node, {}), self._ended.get(node, {})
        while ended and len(here) > limit:
            self.collect(next(iter(ended.values())))

    def collect(self, runner: Runner) -> None:
        self.gone[runner.alloc.id] = runner.alloc.job.id
        self._drop(runner)

    def _drop(self, runner: Runner) -> None:
        self.runners.pop(runner.alloc.id, None)
        for table in (self._here, self._ended):
            table.get(runner.alloc.node.id, {}).pop(runner.alloc.id, None)

    # what a life asks of its node

    def variable_for(self, alloc: Allocation, task: str, path: str) -> Mapping[str, str] | None:
        """By the workload identity of the task: its own paths and no others."""
        job, group = alloc.job.id, alloc.group.name
        own = {"nomad/jobs", f"nomad/jobs/{job}", f"nomad/jobs/{job}/{group}", f"nomad/jobs/{job}/{group}/{task}"}
        found = self.cluster.variables.get((alloc.job.namespace, path)) if path in own else None
        return None if found is None else found.items

    def variable_changed(self, namespace: str, path: str) -> asyncio.Event:
        return self._changes.setdefault((namespace, path), asyncio.Event())

    def variable_written(self, namespace: str, path: str) -> None:
        event = self._changes.pop((namespace, path), None)
        if event is not None:
            event.set()

    def start_trouble(self, alloc: Allocation, task: Task) -> str:
        image = str((task.config or {}).get("image", ""))
        return self.troubles.get(alloc.job.id, "") or self.troubles.get(image, "")

    def inherited(self) -> dict[str, str]:
        """A raw_exec task has the agent's own environment."""
        return dict(os.environ)

    def changed(self, runner: Runner) -> None:
        if runner.vanished:
            self._forget_when_over(runner)
            return
        if runner.over:
            self._ended.setdefault(runner.alloc.node.id, {})[runner.alloc.id] = runner
        self._dirty[runner.alloc.id] = runner
        if self._flush is None and not self.silent:
            self._flush = asyncio.get_running_loop().call_later(self.update_delay_s, self.flush)

    # what the servers hear

    def flush(self) -> None:
        """One index for all that changed since the last time."""
        if self._flush is not None:
            self._flush.cancel()
        self._flush = None
        if self.silent:
            return
        lost_nodes = {n.id for n in self.cluster.nodes.values() if n.status != "ready"}
        batch = [r for r in self._dirty.values() if r.alloc.node.id not in lost_nodes and r.alloc.id in self.cluster.allocs]
        self._dirty = {i: r for i, r in self._dirty.items() if r.alloc.node.id in lost_nodes}
        if not batch:
            return
        index = self.cluster.next("allocs", "jobs", "nodes")
        for runner in batch:
            self._heard(runner, index)
        self.tell([r.alloc for r in batch], index)

    def tell(self, batch: list[Allocation], index: int) -> None:
        """Events of allocations that changed, of their jobs and nodes; room that came is used."""
        events = [shapes.alloc_event("AllocationUpdated", a, index) for a in batch]
        jobs = {a.job.key: a.job for a in batch}
        for job in jobs.values():
            status = self.cluster.job_status(job)
            if status != job.status:
                job.status, job.modify_index = status, index
                events.append(shapes.job_event("AllocationUpdated", job, index))
        nodes = {a.node.id: a.node for a in batch}
        events.extend(shapes.node_event("AllocationUpdated", n, self.version, self.http, index) for n in nodes.values())
        self.cluster.tell(index, *events)
        freed = [a for a in batch if a.client_terminal and self.cluster.release(a)]
        if freed:
            self.room()

    def _heard(self, runner: Runner, index: int) -> None:
        alloc = runner.alloc
        alloc.states = {name: state.copied() for name, state in runner.states.items()}
        alloc.address = runner.network
        alloc.client, alloc.client_description = status_of(runner.states)
        if runner.description and alloc.client in {"complete", "failed"}:
            alloc.client_description = runner.description
        alloc.modify_index, alloc.modify_time = index, self.clock()

    # the test's word

    def finish(self, alloc_id: str, how: Exit, task: str) -> None:
        runner = self.runners[alloc_id]
        running = runner.running.get(task)
        if not isinstance(running, Played):
            raise TypeError(
                f"task {task} of {alloc_id} is {runner.states[task].state} and not played: only simulated tasks that run can be finished"
            )
        running.finish(how)

    async def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
        self.silent = True
        await asyncio.gather(*(r.close() for r in list(self.runners.values())))
