"""From what a job's folder says to a JobObservation: pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from serai_backends.local.supervisor.namespaces import address
from serai_backends.model import End, JobObservation, Pause, Phase, ReplicaObservation, Waiting, Why

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serai_backends.local.journal import Line


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is, or will be."""

    node: str
    """This machine's name."""
    block: str
    begun: bool
    """Its replicas have a place; before, they are nowhere."""
    held: str = ""
    """While it is being started: for what that waits, in words."""


@dataclass(slots=True)
class History:
    """The journal's lines, sorted by what they are about; grows with the journal."""

    starts: dict[int, int] = field(default_factory=dict[int, int])
    """ms by rank."""
    ends: dict[int, Line] = field(default_factory=dict[int, "Line"])
    pauses: list[Pause] = field(default_factory=list[Pause])
    done_at_ms: int | None = None
    cause: str = ""
    why: str = ""

    @property
    def suspended(self) -> bool:
        return bool(self.pauses) and self.pauses[-1].ended_at_ms is None

    def add(self, lines: Iterable[Line]) -> None:
        for line in lines:
            kind, rank, at = line.get("k"), line.get("rank", 0), line.get("at", 0)
            if kind == "start":
                self.starts.setdefault(rank, at)
            elif kind == "end":
                self.ends.setdefault(rank, line)
            elif kind == "suspend":
                self.pauses.append(Pause(started_at_ms=at, ended_at_ms=None))
            elif kind == "resume" and self.suspended:
                self.pauses[-1] = replace(self.pauses[-1], ended_at_ms=at)
            elif kind == "done" and self.done_at_ms is None:
                self.done_at_ms, self.cause, self.why = at, line.get("cause", ""), line.get("why", "")


def observe(job_id: str, replicas: int, place: Place, history: History, waiting: Waiting | None) -> JobObservation:
    """`waiting`: for what the job waits, used while it waits; None = it is being started."""
    ended = history.done_at_ms is not None
    started = len(history.starts) == replicas
    runs = Phase.SUSPENDED if history.suspended else Phase.RUNNING
    phase = Phase.ENDED if ended else runs if place.begun and started else Phase.WAITING
    return JobObservation(
        job_id=job_id,
        phase=phase,
        replicas=tuple(_replica(rank, place, history) for rank in range(replicas)),
        reason=history.cause if ended else place.held if phase is Phase.WAITING and waiting is None else "",
        why=Why(history.why) if ended else Why.NONE,
        waiting=waiting if phase is Phase.WAITING else None,
        pauses=tuple(history.pauses),
        running_since_ms=max(history.starts.values()) if started else None,
        ended_at_ms=history.done_at_ms,
    )


def _replica(rank: int, place: Place, history: History) -> ReplicaObservation:
    node = place.node if place.begun else ""
    own_address = address(place.block, rank) if place.begun else ""
    started_at_ms, line = history.starts.get(rank), history.ends.get(rank)
    if line is None:
        return ReplicaObservation(
            rank=rank,
            phase=Phase.WAITING if started_at_ms is None else Phase.RUNNING,
            node=node,
            address=own_address,
            started_at_ms=started_at_ms,
        )
    return ReplicaObservation(
        rank=rank,
        phase=Phase.ENDED,
        end=End(line.get("end", "lost")),
        exit_code=line.get("code"),
        signal=line.get("signal"),
        node=node,
        address=own_address,
        cause=line.get("cause", ""),
        why=Why(line.get("why", "")),
        started_at_ms=started_at_ms,
        ended_at_ms=line.get("at"),
    )
