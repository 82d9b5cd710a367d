"""What is known of one job now: its row, and of each rank what the newest word of Nomad says.

Words of Nomad come in any order, twice, or not at all (event stream, lists, single answers): of each allocation the one with the greatest
ModifyIndex counts, and what has ended stays as it ended. Nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict

from serai_backends.model import End, JobObservation, Phase, ReplicaObservation, Why
from serai_backends.nomad import names, observed
from serai_backends.nomad.records import Record, Stage, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serai_backends.model import Endpoint, ReplicaSpec, Waiting
    from serai_backends.nomad.wire import Allocation, Evaluation


class _Stopped(TypedDict):
    end: End
    why: Why
    cause: str


_UNREACHED = "unknown"
"""Nomad's status of an allocation whose node is out of reach and may come back."""
PURGED = "it was purged"
COLLECTED = "it was collected as garbage"


@dataclass(slots=True)
class Rank:
    """One rank of the attempt that counts."""

    facts: ReplicaObservation
    node_id: str = ""
    alloc_id: str = ""
    """Its first allocation; a later one is somebody's `alloc stop` or a re-run, which the start script refuses."""
    created_index: int = 0
    index: int = 0
    begun: bool = False
    """Its program, not only its start script."""
    over: bool = False
    unreached_since_ms: int | None = None
    """Since when its node is out of reach; None = it is not."""
    given_up: bool = False
    """It was out of reach for too long. Should its node come back, it must not go on: the job is deregistered."""
    address: str | None = None
    fetching: str = ""
    """Image that its node is fetching; empty = none."""
    endpoints: tuple[tuple[int, Endpoint], ...] = ()
    """Where its ports are reached on its node, which never changes, by its ports inside; empty = it has none, or they are not known."""

    @property
    def failed(self) -> bool:
        """Its end is the provider's doing, or what was asked for could not be started: the other ranks are of no use."""
        return self.over and (self.facts.started_at_ms is None or self.facts.end in {End.LOST, End.START_FAILED, End.CANCELED})


@dataclass(slots=True)
class View:
    """Made of its row; the ranks from what the row says that was seen."""

    record: Record
    ranks: list[Rank] = field(default_factory=list[Rank])
    evaluations: dict[str, Evaluation] = field(default_factory=dict[str, "Evaluation"])
    extra: dict[str, bool] = field(default_factory=dict[str, bool])
    """Further allocations of a rank, which no group should have: id → over."""
    gone: str = ""
    """Nomad does not know the job any more, and how that came; empty = it does, or it was not asked."""
    first_placed_at_ms: int | None = None
    shared: bool = False
    """Its folder can be looked into: a start that failed left its mark there."""
    unsure: dict[int, tuple[Allocation, int]] = field(default_factory=dict[int, tuple["Allocation", int]])
    """By rank, with the time since when: allocations of which only the marks in the job's folder say whether the program began."""
    early: dict[str, Allocation] = field(default_factory=dict[str, "Allocation"])
    """What was heard of allocations before Nomad's answer to the registration: they are this job's when they are younger than it."""
    gate_written: bool = False
    """The variable with the addresses is at Nomad; after a restart written once more, which changes nothing."""
    deregistered: bool = False
    """This process asked Nomad to end it, had the answer, and has listed its allocations since."""
    peers_written: str | None = None
    """What this process wrote of other jobs' addresses; None = it has not yet."""
    waiting: Waiting | None = None
    """Its place in our own line."""
    reason: str = ""
    """For what it waits, where that is no place in the line."""
    look_again_at_ms: int | None = None
    not_before_ms: int = 0
    """Taken back before: it is not released again earlier, and others may pass it meanwhile."""

    def __post_init__(self) -> None:
        if not self.ranks:
            self.ranks = waiting_ranks(self.spec)
        told = self.record.observation
        for facts in told.replicas if told is not None else ():
            if facts.rank < len(self.ranks):
                rank = self.ranks[facts.rank]
                rank.facts, rank.over, rank.address = facts, facts.phase is Phase.ENDED, facts.address or None
                rank.begun = facts.started_at_ms is not None

    @property
    def spec(self) -> ReplicaSpec:
        return self.record.spec

    @property
    def nomad_id(self) -> str:
        return names.nomad_id(self.record.job_id, self.record.attempt)

    @property
    def gated(self) -> bool:
        """Its ranks wait for each other, or for their peers' doors, behind the variable."""
        return self.spec.replicas > 1 or bool(self.spec.peers)

    @property
    def placed(self) -> bool:
        return all(rank.alloc_id for rank in self.ranks)

    @property
    def on_its_way(self) -> bool:
        """Given to Nomad, and not all of it is known to have a place: it may lack room. One rank without peers is OPENED by then."""
        return self.record.stage in {Stage.RELEASED, Stage.OPENED} and not self.placed and not self.started

    @property
    def addresses(self) -> list[str] | None:
        """Of every rank; None = not all are known."""
        found = [rank.address for rank in self.ranks]
        return [address for address in found if address is not None] if all(found) else None

    @property
    def failed_starts(self) -> list[int]:
        """When ranks ended that could not start, as long as others have not ended."""
        if all(rank.over for rank in self.ranks):
            return []
        return [rank.facts.ended_at_ms or 0 for rank in self.ranks if rank.over and rank.facts.end is End.START_FAILED]

    @property
    def over(self) -> bool:
        """Nothing of it runs, or will, and how each rank ended is known."""
        return not self.unsure and all(rank.over for rank in self.ranks) and all(self.extra.values())

    @property
    def nothing_lives(self) -> bool:
        """As `over`, where ranks that were never placed count as over: right only after a deregistration."""
        return not self.unsure and all(rank.over or not rank.alloc_id for rank in self.ranks) and all(self.extra.values())

    @property
    def started(self) -> bool:
        """Every rank has."""
        return all(rank.facts.started_at_ms is not None for rank in self.ranks)

    def see(self, alloc: Allocation, ours: Callable[[int], int], now_ms: int, marks: frozenset[int] | None = None) -> bool:  # noqa: PLR0911 - one reason each
        """A word on an allocation of this attempt; whether it said anything new.

        `ours`: a node's time in ours. `marks`: what the rank's start script left in the job's folder; None = nobody has looked.
        """
        number = names.rank_of(alloc.task_group)
        if alloc.job_id != self.nomad_id or number is None or number >= len(self.ranks):
            return False
        if not self.record.registered_index:
            self._keep(alloc)
            return False
        if alloc.create_index < self.record.registered_index:
            # Of a job of the same name that was purged before: Nomad lists it on.
            return False
        rank = self.ranks[number]
        if rank.alloc_id and alloc.id != rank.alloc_id:
            return self._see_other(rank, alloc, ours, now_ms)
        address = rank.address or observed.address_of(alloc)
        if alloc.modify_index < rank.index or (alloc.modify_index == rank.index and address == rank.address):
            return False
        if marks is None and self._needs_marks(rank, alloc):
            _, since_ms = self.unsure.get(number, (alloc, now_ms))
            self.unsure[number] = (alloc, since_ms)
            return True
        rank.begun = rank.begun or observed.runs(alloc)
        fresh = alloc.modify_index > rank.index
        rank.alloc_id, rank.index, rank.created_index = alloc.id, alloc.modify_index, alloc.create_index
        rank.address, rank.node_id = address, alloc.node_id or rank.node_id
        rank.endpoints = rank.endpoints or observed.endpoints_of(alloc)
        if self.first_placed_at_ms is None:
            self.first_placed_at_ms = now_ms
        if fresh and not rank.over:
            rank.facts = self._facts(alloc, ours, rank.facts, now_ms, marks)
            rank.over = rank.facts.phase is Phase.ENDED
            rank.fetching = observed.fetching(alloc)
        if alloc.client_status != _UNREACHED or rank.over:
            rank.unreached_since_ms = None
        elif rank.unreached_since_ms is None:
            rank.unreached_since_ms = now_ms
        if address and not rank.facts.address:
            rank.facts = replace(rank.facts, address=address)
        return True

    def _needs_marks(self, rank: Rank, alloc: Allocation) -> bool:
        if not self.shared or rank.over:
            return False
        return observed.may_be_start(alloc) or (not rank.begun and observed.runs(alloc))

    def _keep(self, alloc: Allocation) -> None:
        kept = self.early.get(alloc.id)
        if kept is None or alloc.modify_index > kept.modify_index:
            self.early[alloc.id] = alloc

    def registered(self, ours: Callable[[int], int], now_ms: int) -> None:
        """The registration's index is known: what was heard before it is."""
        early, self.early = self.early, {}
        for alloc in early.values():
            self.see(alloc, ours, now_ms)

    def _see_other(self, rank: Rank, alloc: Allocation, ours: Callable[[int], int], now_ms: int) -> bool:
        if alloc.create_index < rank.created_index and not rank.over:
            # The one that was seen first is the later one.
            self.extra[rank.alloc_id] = False
            rank.alloc_id, rank.index, rank.created_index, rank.address, rank.endpoints = "", 0, 0, None, ()
            return self.see(alloc, ours, now_ms)
        # one whose node is out of reach is ended by Nomad when the node comes back: the job is deregistered by then
        over = observed.is_over(alloc) or alloc.client_status == _UNREACHED
        if self.extra.get(alloc.id) == over or self.extra.get(alloc.id):
            return False
        self.extra[alloc.id] = over
        return True

    def _facts(
        self, alloc: Allocation, ours: Callable[[int], int], old: ReplicaObservation, now_ms: int, marks: frozenset[int] | None
    ) -> ReplicaObservation:
        stopped = self.record.stage in {Stage.STOPPING, Stage.TAKEN_BACK}
        program, image = (self.spec.argv[0] if self.spec.argv else ""), self.spec.image
        new = observed.observe(old.rank, alloc, observed.Around(stopped, ours, program, image, marks))
        started = old.started_at_ms if old.started_at_ms is not None else new.started_at_ms
        if new.end is End.START_FAILED:
            started = None
        elif started is not None:
            # By our clock: never before it was taken on, never in the future.
            started = min(max(started, self.record.released_at_ms or self.record.submitted_at_ms), now_ms)
        ended = new.ended_at_ms
        if new.phase is Phase.ENDED:
            ended = min(max(ended if ended is not None else now_ms, started or self.record.submitted_at_ms), now_ms)
        if self.record.stop is StopReason.RANK_FAILED and new.end is End.CANCELED:
            # Was it our stop, or what we stopped the job for? Nomad tells our deregistration as the stop of "the job".
            own = observed.observe(old.rank, alloc, observed.Around(stopped=False, ours=ours, program=program, image=image, marks=marks))
            by_us = own.end is End.CANCELED and (own.why is Why.NONE or (own.why is Why.STOPPED_BY_OPERATOR and own.cause == "the job"))
            new = replace(new, **self._why_stopped(started)) if by_us else own
        # after a restart an old entry of the stream may be the first word that is heard
        phase = Phase.RUNNING if new.phase is Phase.WAITING and old.phase is Phase.RUNNING else new.phase
        address, node = new.address or old.address, new.node or old.node
        return replace(new, phase=phase, started_at_ms=started, ended_at_ms=ended, address=address, node=node)

    def _why_stopped(self, started_at_ms: int | None) -> _Stopped:
        """Of a rank that ended because the job was stopped."""
        if self.record.stop is not StopReason.RANK_FAILED:
            return {"end": End.CANCELED, "why": Why.NONE, "cause": ""}
        if self.record.failure is None or started_at_ms is not None:
            return {"end": End.CANCELED, "why": Why.ANOTHER_RANK_FAILED, "cause": ""}
        why, cause = self.record.failure
        return {"end": End.START_FAILED, "why": why, "cause": cause}

    def give_up(self, now_ms: int, patience_ms: int) -> None:
        """Ranks whose nodes were out of reach for so long are lost."""
        for rank in self.ranks:
            if rank.unreached_since_ms is None or rank.over or now_ms < rank.unreached_since_ms + patience_ms:
                continue
            rank.over = rank.given_up = True
            ended_ms = max(rank.unreached_since_ms, rank.facts.started_at_ms or 0)
            lost = _Stopped(end=End.LOST, why=Why.NODE_LOST, cause=rank.facts.node)
            rank.facts = replace(rank.facts, phase=Phase.ENDED, ended_at_ms=ended_ms, **lost)

    def lose(self, number: int, how: str, now_ms: int) -> None:
        """A rank of which Nomad says nothing any more."""
        rank = self.ranks[number]
        if rank.over:
            return
        rank.over = True
        rank.facts = replace(
            rank.facts,
            phase=Phase.ENDED,
            end=End.LOST,
            why=Why.FORGOTTEN_BY_CLUSTER,
            cause=how,
            ended_at_ms=max(now_ms, rank.facts.started_at_ms or 0),
        )

    def stopped_outside(self, number: int, now_ms: int) -> None:
        """A rank that was never placed, of a job that somebody else stopped."""
        rank = self.ranks[number]
        rank.over = True
        rank.facts = replace(
            rank.facts, phase=Phase.ENDED, end=End.CANCELED, why=Why.STOPPED_BY_OPERATOR, cause="the job", ended_at_ms=now_ms
        )

    def next_attempt(self, record: Record) -> None:
        """Everything of the attempt that was taken back is forgotten."""
        self.record = record
        self.ranks = waiting_ranks(self.spec)
        self.evaluations, self.extra, self.early, self.unsure, self.gone = {}, {}, {}, {}, ""
        self.first_placed_at_ms = None
        self.gate_written = self.deregistered = False
        self.peers_written = None

    def observation(self) -> JobObservation:
        """What is told of it now. ENDED only by `ending`, which is stored first."""
        record = self.record
        if record.stage is Stage.ENDED and record.observation is not None:
            return record.observation
        since_ms = running_since(record, [rank.facts for rank in self.ranks])
        started = since_ms is not None
        # what ends with an attempt that is taken back is nobody's end
        facts = [rank.facts for rank in (waiting_ranks(self.spec) if record.stage is Stage.TAKEN_BACK else self.ranks)]
        return JobObservation(
            job_id=record.job_id,
            phase=Phase.RUNNING if started else Phase.WAITING,
            replicas=tuple(facts),
            reason="" if started else self.reason or self._preparing(),
            waiting=None if started or record.stage is not Stage.QUEUED or (self.reason and self.not_before_ms) else self.waiting,
            running_since_ms=since_ms,
        )

    def _preparing(self) -> str:
        if self.record.stage is not Stage.OPENED:
            return ""
        images = {rank.fetching for rank in self.ranks if rank.fetching}
        return f"waiting until its image {min(images)} is fetched" if images else ""

    def ending(self, now_ms: int) -> JobObservation:
        """Its last word, of what is known now: ranks of which nothing is known never started, or are lost."""
        for number, rank in enumerate(self.ranks):
            if rank.facts.phase is Phase.ENDED:
                continue
            if self.record.stage is Stage.STOPPING or (not rank.alloc_id and not self.gone):
                why = Why.ANOTHER_RANK_FAILED if self.record.stop is StopReason.RANK_FAILED else Why.NONE
                rank.facts = replace(rank.facts, phase=Phase.ENDED, end=End.CANCELED, why=why, ended_at_ms=now_ms)
            else:
                self.lose(number, self.gone or COLLECTED, now_ms)
        replicas = tuple(rank.facts for rank in self.ranks)
        return ended(self.record, replicas, now_ms)


def waiting_ranks(spec: ReplicaSpec) -> list[Rank]:
    """Of an attempt of which nothing is known."""
    return [Rank(ReplicaObservation(rank=rank, phase=Phase.WAITING)) for rank in range(spec.replicas)]


def running_since(record: Record, replicas: Sequence[ReplicaObservation]) -> int | None:
    """When the last rank started; None = not every one has. Once told it stays, also when a start turns out to have failed."""
    told = record.observation
    if told is not None and told.running_since_ms is not None:
        return told.running_since_ms
    starts = [facts.started_at_ms for facts in replicas]
    return max((time for time in starts if time is not None), default=None) if None not in starts else None


def ended(record: Record, replicas: tuple[ReplicaObservation, ...], now_ms: int) -> JobObservation:
    """Of a job whose ranks have all ended."""
    since = running_since(record, replicas)
    first = next((facts for facts in replicas if facts.why not in {Why.NONE, Why.ANOTHER_RANK_FAILED, Why.CHILD_OUT_OF_MEMORY}), None)
    return JobObservation(
        job_id=record.job_id,
        phase=Phase.ENDED,
        replicas=replicas,
        reason=first.cause if first is not None and since is None else "",
        why=first.why if first is not None and since is None else Why.NONE,
        running_since_ms=since,
        ended_at_ms=max((facts.ended_at_ms or 0 for facts in replicas), default=0) or now_ms,
    )


def refused(record: Record, end: End, why: Why, detail: str, now_ms: int) -> JobObservation:
    """Of a job that ended before anything of it was at Nomad."""
    one = ReplicaObservation(rank=0, phase=Phase.ENDED, end=end, why=why, cause=detail, ended_at_ms=now_ms)
    over = ended(record, tuple(replace(one, rank=rank) for rank in range(record.spec.replicas)), now_ms)
    return replace(over, reason=detail, why=why)
