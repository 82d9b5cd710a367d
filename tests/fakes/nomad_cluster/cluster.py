"""A model of a Nomad cluster: allocations with their lives, and what operators and machines do to them.

No I/O, no waiting, no clock but `now_ms`, which the world moves; one seeded source of randomness. `step` lets one thing happen. The rules
are those that a real agent showed (facts: nomad-tried): short tasks skip `running`, a terminal allocation may still have a live task, a
drain looks like success, a purge takes allocations away without a word, `alloc stop` starts a replacement, a node that comes back ends what
is still on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from msgspec import structs
from serai_backends.model import End, Why
from serai_backends.nomad import names
from serai_backends.nomad.client import Event
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.wire import (
    Allocation,
    AllocMetric,
    DesiredTransition,
    DriverInfo,
    Evaluation,
    Job,
    NetworkStatus,
    Node,
    NodeCpu,
    NodeMemory,
    NodeResources,
    TaskState,
    Variable,
)

from fakes.nomad_cluster import tasks
from fakes.nomad_cluster.history import History

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from fakes.nomad_cluster.tasks import Fate, Verdict

NODE_MHZ, NODE_MIB = 8_000, 64_000


@dataclass(slots=True, eq=False)
class Machine:
    id: str
    slots: int
    up: bool = True
    eligible: bool = True


@dataclass(slots=True, eq=False)
class Known:
    """A job at Nomad."""

    wire: Job
    groups: tuple[str, ...]
    placed: dict[str, list[Life]] = field(default_factory=dict[str, "list[Life]"])
    evaluations: list[Evaluation] = field(default_factory=list[Evaluation])


@dataclass(slots=True, eq=False)
class Life:
    """An allocation: what Nomad says of it, and what is true."""

    job: Known
    machine: Machine
    wire: Allocation
    fate: Fate
    docker: bool
    main: TaskState = TaskState()
    killed: Verdict | None = None
    """It is to be ended; what has to be told then."""
    own: bool = False
    """It ended by itself; a kill that comes later makes it nobody else's doing."""
    ran: bool = False
    started_ms: int | None = None
    ended_ms: int | None = None
    over: bool = False
    """Nothing of it runs, and nothing will."""
    verdicts: list[Verdict] = field(default_factory=list["Verdict"])
    """What may be told of its end."""
    erased: bool = False
    lost: bool = False
    """Its machine was not heard of for too long."""
    ending: bool = False
    """Nomad calls it terminal and its task lives on."""


@dataclass(slots=True)
class Body:
    """What the program of a rank of a job did, over all attempts and allocations."""

    runs: int = 0
    lives: list[Life] = field(default_factory=list[Life])
    mark: int | None = None
    """Code of the start script of which its mark lies in the job's folder."""


class Cluster:
    def __init__(self, rng: Random, *, now_ms: int, machines: int = 4, slots: int = 6, kept: int = 40) -> None:
        self.rng, self.now_ms = rng, now_ms
        self.history = History(rng, kept)
        self.machines = [Machine(f"node-{n}", slots) for n in range(machines)]
        self.jobs: dict[str, Known] = {}
        self.allocations: dict[str, Life] = {}
        self.variables: dict[str, Variable] = {}
        self.bodies: dict[tuple[str, int], Body] = {}
        self.operators_stops: set[str] = set()
        """Serai's ids of jobs that an operator stopped."""
        """By Serai's job and rank."""
        self.wrong: list[str] = []
        """Rules of the model that the backend broke."""
        self._active: list[Life] = []
        self._waiting: list[Known] = []
        self._ids = count(1)

    # calls

    def register(self, nomad_id: str, groups: tuple[str, ...], meta: dict[str, str]) -> int | None:
        """Create if absent: the index; None = it exists."""
        index = self._next()
        if nomad_id in self.jobs:
            return None
        wire = Job(id=nomad_id, name=nomad_id, type="batch", status="pending", meta=meta, create_index=index, modify_index=index)
        job = self.jobs[nomad_id] = Known(structs.replace(wire, job_modify_index=index), groups)
        self._tell(Event("Job", "JobRegistered", nomad_id, index, job=job.wire), self._evaluation(job, "pending"))
        self._waiting.append(job)
        return index

    def deregister(self, nomad_id: str, *, purge: bool, verdict: Verdict) -> None:
        """`verdict`: what has to be told of what it ends."""
        job = self.jobs.get(nomad_id)
        if job is None:
            return
        index = self._next()
        job.wire = structs.replace(job.wire, stop=True, modify_index=index)
        if verdict == by_operator():
            self.operators_stops.add((job.wire.meta or {})[names.META_JOB])
        if purge:
            self._erase(job, "JobDeregistered")
        else:
            for life in self._lives(job):
                self._want_end(life, verdict, desired="stop", why="alloc not needed due to job update")
            self._set_dead(job)
            self._tell(Event("Job", "JobDeregistered", nomad_id, index, job=job.wire), self._evaluation(job, "complete"))

    def put_variable(self, path: str, items: dict[str, str], cas: int | None) -> Variable | int:
        """The new index, or the stored one that is in the way."""
        stored = self.variables.get(path)
        if cas is not None and (stored.modify_index if stored is not None else 0) != cas and stored is not None:
            return stored
        index = self._next()
        created = stored.create_index if stored is not None else index
        self.variables[path] = Variable(path=path, items=dict(items), create_index=created, modify_index=index)
        return index

    def nodes(self) -> list[Node]:
        whole = NodeResources(cpu=NodeCpu(cpu_shares=NODE_MHZ), memory=NodeMemory(memory_mb=NODE_MIB))
        return [
            Node(
                id=machine.id,
                name=machine.id,
                datacenter="dc1",
                node_pool="default",
                status="ready" if machine.up else "down",
                scheduling_eligibility="eligible" if machine.eligible else "ineligible",
                drivers={"docker": DriverInfo(detected=True, healthy=True)},
                node_resources=whole,
            )
            for machine in self.machines
        ]

    # what happens by itself

    def step(self) -> None:
        """One thing happens: a job is looked at by the scheduler, or an allocation goes on."""
        if self._waiting and (not self._active or self.rng.random() < 0.3):
            self._schedule(self._waiting.pop(self.rng.randrange(len(self._waiting))))
        elif self._active:
            place = self.rng.randrange(len(self._active))
            life = self._active[place]
            if not life.over and not life.erased:
                self._advance(life)
            if life.over or life.erased:
                self._active[place] = self._active[-1]
                self._active.pop()

    def disturb(self) -> None:
        """What operators and machines do."""
        match self.rng.randrange(10):
            case 0:
                self._toggle(self.rng.choice(self.machines))
            case 1:
                self._drain(self.rng.choice(self.machines))
            case 2 | 3 if self.jobs:
                job = self._any_job()
                self.deregister(job.wire.id, purge=self.rng.random() < 0.4, verdict=by_operator())
            case 4 | 5 if self._active:
                self._stop_by_hand(self.rng.choice(self._active))
            case 6 if self._active:
                self._preempt(self.rng.choice(self._active))
            case 7 if self.jobs:
                self._collect()
            case 8:
                self.history.restart()
            case _:
                pass

    def calm(self) -> None:
        """Every machine is there again and takes jobs."""
        for machine in self.machines:
            if not machine.up:
                self._toggle(machine)
            machine.eligible = True

    @property
    def busy(self) -> bool:
        return bool(self._active or self._waiting)

    def _any_job(self) -> Known:
        return self.jobs[self.rng.choice(list(self.jobs))]

    def _lives(self, job: Known) -> Iterable[Life]:
        return [life for lives in job.placed.values() for life in lives]

    def _schedule(self, job: Known) -> None:
        """Place what fits; of the rest the evaluation says why not, and it is tried again."""
        if job.wire.stop or self.jobs.get(job.wire.id) is not job:
            return
        missing = [group for group in job.groups if not job.placed.get(group)]
        events: list[Event] = []
        index = self._next()
        for group in list(missing):
            machine = self._free_machine()
            if machine is None:
                break
            missing.remove(group)
            events.append(self._place(job, group, machine, index))
        if missing:
            self._waiting.append(job)
            full = AllocMetric(nodes_exhausted=1, dimension_exhausted={"memory": 1})
            events.append(self._evaluation(job, "complete", dict.fromkeys(missing, full)))
        elif events:
            events.append(self._evaluation(job, "complete"))
        if events:
            self._tell(*events)

    def _free_machine(self) -> Machine | None:
        used: dict[str, int] = {}
        for life in self._active:
            used[life.machine.id] = used.get(life.machine.id, 0) + 1
        free = [m for m in self.machines if m.up and m.eligible and used.get(m.id, 0) < m.slots]
        return self.rng.choice(free) if free else None

    def _place(self, job: Known, group: str, machine: Machine, index: int) -> Event:
        number = next(self._ids)
        wire = Allocation(
            id=f"alloc-{number}",
            job_id=job.wire.id,
            task_group=group,
            node_id=machine.id,
            node_name=machine.id,
            desired_status="run",
            client_status="pending",
            create_index=index,
            modify_index=index,
            modify_time=self.now_ms * 1_000_000,
        )
        life = Life(job, machine, wire, self._fate(), docker=self.rng.random() < 0.5)
        job.placed.setdefault(group, []).append(life)
        self.allocations[wire.id] = life
        self._active.append(life)
        self._body(life).lives.append(life)
        return Event("Allocation", "PlanResult", wire.id, index, allocation=wire)

    def _fate(self) -> Fate:
        kind = self.rng.choices(
            ("exit", "signal", "docker-signal", "memory", "child-memory", "no-start", "script"), weights=(60, 10, 10, 5, 5, 6, 4), k=1
        )[0]
        # a program may use a code of the start script's too
        own = (codes.NOT_FOUND, codes.NOT_READY) if kind == "script" else (0, 0, 1, 3, 127, 128, codes.NOT_FOUND)
        number = self.rng.choice((9, 11, 15) if "signal" in kind else own)
        return tasks.Fate(kind, number)

    def _body(self, life: Life) -> Body:
        meta, rank = life.job.wire.meta or {}, names.rank_of(life.wire.task_group)
        return self.bodies.setdefault((meta[names.META_JOB], rank if rank is not None else -1), Body())

    def _advance(self, life: Life) -> None:
        if not life.machine.up:
            return
        if life.ending:
            self._end(life)
        elif life.main.state == "":
            life.main = tasks.waiting(self.now_ms)
            address = f"10.0.{self.rng.randrange(256)}.{self.rng.randrange(1, 255)}"
            life.wire = structs.replace(life.wire, network_status=NetworkStatus(interface_name="eth0", address=address))
            self._say(life, "pending")
        elif life.main.state == "pending":
            self._begin(life)
        elif life.killed is not None or self.rng.random() < 0.3:
            self._finish(life)

    def _begin(self, life: Life) -> None:
        if life.killed is not None:
            self._finish(life)
            return
        variable = self.variables.get(names.variable(life.job.wire.id))
        if variable is None:
            return
        if life.fate.kind == "no-start":
            self._finish(life)
            return
        life.main = tasks.started(life.main, self.now_ms)
        life.started_ms = self.now_ms
        body = self._body(life)
        if body.runs:
            life.fate = tasks.REFUSED
            body.mark = tasks.REFUSED.number
            self._finish(life)
            return
        body.runs += 1
        life.ran = True
        self._check_gate(life, variable.items.get(names.NODES, ""))
        if life.fate.kind == "script":
            body.mark = life.fate.number
        if self.rng.random() < 0.3:
            self._finish(life)
        else:
            self._say(life, "running")

    def _check_gate(self, life: Life, nodes: str) -> None:
        """All ranks are placed, and the program reads the addresses that they have."""
        if nodes == "self" and len(life.job.groups) == 1:
            return
        now = [(lives[0].wire.network_status or NetworkStatus()).address for lives in life.job.placed.values() if lives]
        if len(now) != len(life.job.groups) or sorted(now) != sorted(nodes.split("\n")):
            self.wrong.append(f"{life.wire.job_id} {life.wire.task_group} starts with {nodes!r}, and its ranks have {now}")

    def _finish(self, life: Life) -> None:
        """The program is over; Nomad may call the allocation terminal before its task is dead."""
        life.own = life.killed is None
        life.verdicts = [life.killed] if life.killed is not None else [life.fate.verdict]
        if life.docker and life.started_ms is not None and self.rng.random() < 0.3:
            life.ending = True
            self._say(life, "complete" if life.killed is not None or not life.fate.failed else "failed")
        else:
            self._end(life)

    def _end(self, life: Life) -> None:
        life.main = tasks.ended(life.main, life.fate, self.now_ms, killed=not life.own)
        life.over, life.ended_ms = True, self.now_ms
        self._say(life, "failed" if life.main.failed else "complete")
        self._set_dead(life.job)

    def _set_dead(self, job: Known) -> None:
        if all(life.over for life in self._lives(job)) and (job.wire.stop or len(job.placed) == len(job.groups)):
            job.wire = structs.replace(job.wire, status="dead")

    def _say(self, life: Life, status: str) -> None:
        """The node's word, as an event."""
        index = self._next()
        life.wire = structs.replace(
            life.wire, client_status=status, task_states={names.MAIN: life.main}, modify_index=index, modify_time=self.now_ms * 1_000_000
        )
        if not life.erased:
            self._tell(Event("Allocation", "AllocationUpdated", life.wire.id, index, allocation=life.wire))

    # what operators and machines do

    def _want_end(self, life: Life, verdict: Verdict, *, desired: str, why: str, move: DesiredTransition | None = None) -> None:
        """Servers want it ended, whatever the node says; the first who wants it counts."""
        if life.over or life.wire.desired_status != "run":
            return
        if not life.ending:
            life.killed = verdict
        life.wire = structs.replace(
            life.wire, desired_status=desired, desired_description=why, desired_transition=move, modify_index=self.history.index
        )
        self._tell(Event("Allocation", "PlanResult", life.wire.id, self.history.index, allocation=life.wire))

    def _stop_by_hand(self, life: Life) -> None:
        self._next()
        move = DesiredTransition(migrate=True, reschedule=self.rng.random() < 0.5)
        stopped = life.over or life.wire.desired_status != "run"
        self._want_end(life, by_operator(), desired="stop", why="alloc is being migrated", move=move)
        machine = self._free_machine()
        if not stopped and not move.reschedule and machine is not None and not life.job.wire.stop:
            self._tell(self._place(life.job, life.wire.task_group, machine, self._next()))

    def _drain(self, machine: Machine) -> None:
        machine.eligible = not machine.eligible
        self._next()
        self._tell(Event("Node", "NodeDrain", machine.id, self.history.index))
        if not machine.eligible:
            move = DesiredTransition(migrate=True, migrate_disable_placement=True)
            for life in [life for life in self._active if life.machine is machine]:
                verdict = (End.CANCELED, None, None, Why.NODE_DRAINED)
                self._want_end(life, verdict, desired="stop", why="alloc is being migrated", move=move)

    def _preempt(self, life: Life) -> None:
        self._next()
        self._want_end(life, (End.CANCELED, None, None, Why.PREEMPTED), desired="evict", why="Preempted by alloc ID x")

    def _toggle(self, machine: Machine) -> None:
        """A machine is not heard of any more, and what is on it is lost; or it is back, and ends what it still has."""
        machine.up = not machine.up
        self._next()
        self._tell(Event("Node", "NodeRegistration" if machine.up else "NodeDeregistration", machine.id, self.history.index))
        for life in [life for life in self._active if life.machine is machine]:
            if machine.up:
                life.main = life.main if life.main.state else tasks.waiting(self.now_ms)
                seen = list(life.verdicts)
                self._end(life)
                life.verdicts = [*seen, *life.verdicts]
            else:
                self._lose(life)

    def _lose(self, life: Life) -> None:
        life.lost = True
        lost: Verdict = (End.LOST, None, None, Why.NODE_LOST)
        self._say(life, "unknown")
        if not life.ending:
            self._want_end(life, lost, desired="stop", why="alloc is lost since its node is down")
        life.verdicts = [*life.verdicts, lost] if life.ending else [lost, *([life.killed] if life.killed is not None else [])]
        self._say(life, "lost")

    def _collect(self) -> None:
        """`system gc`: every dead job goes, with a word for each and none for its allocations."""
        for job in [job for job in self.jobs.values() if job.wire.status == "dead"]:
            self._erase(job, "JobBatchDeregistered")

    def _erase(self, job: Known, kind: str) -> None:
        index = self._next()
        del self.jobs[job.wire.id]
        for life in self._lives(job):
            life.erased = True
            self.allocations.pop(life.wire.id, None)
        self._tell(Event("Job", kind, job.wire.id, index), self._evaluation(job, "pending"))

    # events

    def _next(self) -> int:
        self.history.index += 1
        return self.history.index

    def _tell(self, *events: Event) -> None:
        self.history.add(*events)

    def _evaluation(self, job: Known, status: str, failed: dict[str, AllocMetric] | None = None) -> Event:
        index = self.history.index
        evaluation = Evaluation(
            id=f"eval-{next(self._ids)}", job_id=job.wire.id, status=status, failed_tg_allocs=failed, create_index=index, modify_index=index
        )
        job.evaluations = [*job.evaluations[-5:], evaluation]
        return Event("Evaluation", "EvaluationUpdated", evaluation.id, index, evaluation=evaluation)


def by_operator() -> Verdict:
    return End.CANCELED, None, None, Why.STOPPED_BY_OPERATOR
