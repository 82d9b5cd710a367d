"""The agent as tests hold it: its settings, its life, and what they may do to it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from aiohttp import web

from fakes.nomad import shapes
from fakes.nomad.broker import Broker
from fakes.nomad.client import Clients
from fakes.nomad.cluster import Allocation, Cluster, Node, NodeSpec
from fakes.nomad.drivers import Exit
from fakes.nomad.files import Files
from fakes.nomad.http import Fault, Faults, middleware
from fakes.nomad.jobs import Jobs
from fakes.nomad.nodes import Nodes
from fakes.nomad.runner import Runner
from fakes.nomad.scheduler import Scheduler
from fakes.nomad.shell import Shells
from fakes.nomad.stream import Stream
from fakes.nomad.variables import Variables

_EVERY_DRIVER = ("docker", "exec", "podman", "raw_exec")


class FakeAgent:
    """Server and clients in one. `simulated`: no processes; a task runs until `finish` or until it is killed."""

    def __init__(
        self,
        nodes: Sequence[NodeSpec] | None = None,
        *,
        simulated: bool = False,
        event_buffer_size: int = 100,
        heartbeat_s: float = 30.0,
        update_delay_s: float = 0.02,
        unstarted_kill_s: float = 0.1,
        template_event_s: float = 3.0,
        splay_s: float = 0.05,
        token: str | None = None,
        namespaces: Sequence[str] = (),
        clock: Callable[[], int] = time.time_ns,
        seed: int = 1,
        version: str = "2.0.6-dev",
    ) -> None:
        chosen = tuple(nodes) if nodes is not None else (NodeSpec(drivers=_EVERY_DRIVER if simulated else ("raw_exec",)),)
        self._folder = tempfile.TemporaryDirectory(prefix="fake-nomad-")
        self.data = Path(self._folder.name)
        self.broker = Broker(event_buffer_size)
        self.cluster = Cluster(chosen, self.broker, clock, seed)
        self.cluster.namespaces |= dict.fromkeys(namespaces, "")
        self._last_address = int(ipaddress.IPv4Address("127.64.0.0")) + (seed % 512) * 4096
        self.clients = Clients(
            self.cluster,
            self.data,
            simulated=simulated,
            clock=clock,
            update_delay_s=update_delay_s,
            unstarted_kill_s=unstarted_kill_s,
            template_event_s=template_event_s,
            splay_s=splay_s,
            version=version,
            addresses=self._address,
        )
        self.scheduler = Scheduler(self.cluster, self.clients.place, self.clients.stop, version)
        self.clients.room = self.scheduler.unblock
        self.jobs = Jobs(self.cluster, self.scheduler, self.clients)
        self.nodes = Nodes(self.cluster, self.scheduler, self.clients, version, token=token, buffer=event_buffer_size)
        self.variables = Variables(self.cluster, self.clients)
        self.files = Files(self.clients)
        self.shells = Shells(self.clients)
        self.stream = Stream(self.broker, heartbeat_s, token)
        self.faults = Faults()
        self._token = token
        self._runner: web.AppRunner | None = None
        self.port = 0

    def _address(self) -> str:
        """Of an allocation in bridge mode: its own, and one that programs of this machine can bind and reach."""
        self._last_address += 1
        return str(ipaddress.IPv4Address(self._last_address))

    # life

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FakeAgent:
        await self._serve()
        for node in self.cluster.nodes.values():
            self.nodes.told(node, "NodeRegistration")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        await self.clients.close()
        await self._hang_up()
        await self.shells.close()
        self._folder.cleanup()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[middleware(self.faults, self._token)], client_max_size=8 * 1024 * 1024)
        parts = (self.jobs, self.nodes, self.variables, self.files, self.shells, self.stream)
        for part in parts:
            app.add_routes(part.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", self.port))
        self.port = int(ours.getsockname()[1])
        self.clients.http = self.nodes.http = f"127.0.0.1:{self.port}"
        await web.SockSite(self._runner, ours).start()

    async def _hang_up(self) -> None:
        self.broker.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def go_down(self) -> None:
        """The agent is gone, gracefully or not: streams end, calls are refused, tasks live on."""
        self.clients.silent = True
        await self._hang_up()

    async def come_back(self, lag_s: float = 0.0, replayed: int = 20) -> None:
        """It starts again on the same port. For `lag_s` it still tells the states of before; its buffer has `replayed` old lines again."""
        self.broker.restarted(replayed)
        await self._serve()
        loop = asyncio.get_running_loop()

        def hears() -> None:
            self.clients.silent = False
            self.clients.flush()

        if lag_s:
            loop.call_later(lag_s, hears)
        else:
            hears()

    # what tests do to it

    def cut_streams(self) -> int:
        """Each event stream ends as by a lost connection; how many there were."""
        return self.broker.cut()

    def lose_events(self, changes: int) -> None:
        """The next so many changes are told by no stream, not even to one that comes later; 0 = all are told again."""
        self.broker.lose(changes)

    def split_lines(self, lines: int) -> None:
        """The next so many changes come as one line for each event."""
        self.broker.split_next = lines

    def fail_next(self, method: str, path: str, status: int, text: str, *, times: int = 1, after: bool = False) -> None:
        """Calls whose path starts so are answered so; `after`: they are carried out first, and only the answer is lost."""
        self.faults.failures.append(Fault(method, path, status, text, after, times))

    def delay(self, path: str, seconds: float) -> None:
        """Calls whose path starts so are looked at later; 0 = at once again."""
        self.faults.delays[path] = seconds

    def refuse_start(self, job_or_image: str, driver_error: str) -> None:
        """Tasks of this job, or with this image, meet a Driver Failure."""
        self.clients.troubles[job_or_image] = driver_error

    def alloc(self, alloc_id: str) -> Allocation:
        return self.cluster.allocs[alloc_id]

    def allocs_of(self, job_id: str, namespace: str = "default") -> list[Allocation]:
        return list(self.cluster.of_job.get((namespace, job_id), {}).values())

    def runner(self, alloc_id: str) -> Runner:
        """The allocation as its node knows it."""
        return self.clients.runners[alloc_id]

    def node(self, name: str) -> Node:
        return next(n for n in self.cluster.nodes.values() if name in {n.spec.name, n.id})

    def finish(self, alloc_id: str, *, exit_code: int = 0, signal: int = 0, oom: bool = False, task: str = "main") -> None:
        """A simulated task ends by itself. As with the real one, docker tells a signal only in the exit code."""
        driver = next(t.driver for t in self.alloc(alloc_id).group.members if t.name == task)
        code = 137 if oom and not exit_code and not signal else exit_code
        told = 0 if driver in {"docker", "podman"} else signal
        self.clients.finish(alloc_id, Exit(128 + signal, told, oom) if signal else Exit(code, 0, oom), task)

    def drain(self, name: str) -> None:
        self.nodes.drained(self.node(name))

    def lose(self, name: str) -> None:
        """The node's heartbeats are missed."""
        self.nodes.down(self.node(name))

    def find(self, name: str) -> None:
        """The lost node is back."""
        self.nodes.up(self.node(name))

    def preempt(self, alloc_id: str, by: str = "00000000-0000-0000-0000-00000000beef") -> None:
        """Another job of higher priority takes its room. By the scheduler's rules (read, not seen) it comes again where there is room."""
        alloc = self.alloc(alloc_id)
        index = self.cluster.next("allocs", "evals")
        alloc.desired, alloc.preempted_by = "evict", by
        alloc.desired_description = f"Preempted by alloc ID {by}"
        alloc.modify_index = alloc.alloc_modify_index = index
        alloc.node.used_cpu += sum(t.asks.cpu for t in alloc.group.members)
        alloc.node.used_memory += sum(t.asks.memory_mb for t in alloc.group.members)
        one = self.cluster.new_eval(alloc.job, "preemption", index)
        self.cluster.tell(index, shapes.alloc_event("PlanResult", alloc, index), shapes.eval_event("PlanResult", one, index))
        self.clients.stop(alloc)
        self.scheduler.evaluate(one)

    def gc(self) -> None:
        """As `nomad system gc`."""
        self.jobs.collect()

    def purge(self, job_id: str, namespace: str = "default") -> None:
        """Behind everybody's back: the job is gone with its allocations, which no event tells."""
        row = self.cluster.jobs[namespace, job_id]
        row.stop = True
        self.jobs.purge(row, self.cluster.next("jobs", "evals", "allocs"))

    def operator_stop(self, alloc_id: str, *, reschedule: bool = True) -> None:
        """As `nomad alloc stop`; without `reschedule` another one comes in its place."""
        self.jobs.stop(self.alloc(alloc_id), reschedule=reschedule)

    def settle(self) -> None:
        """What the clients know is told to the servers now."""
        self.clients.flush()
