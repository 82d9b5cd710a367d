"""What was told of each job, against what truly became of it.

The rules: a job's phase only goes forward, each one is told once; RUNNING is told when every rank has truly started, with the true times;
the last word is told once and never another one; each rank's end is the one that it had, unless Nomad lost it before anybody could see.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from serai_backends.model import End, JobObservation, Phase, ReplicaObservation, Why

from fakes.nomad_cluster.cluster import by_operator

if TYPE_CHECKING:
    from fakes.nomad_cluster.cluster import Cluster, Life
    from fakes.nomad_cluster.tasks import Verdict

_ORDER = [Phase.WAITING, Phase.RUNNING, Phase.ENDED]
_OURS: set[Verdict] = {(End.CANCELED, None, None, Why.NONE), (End.CANCELED, None, None, Why.ANOTHER_RANK_FAILED)}
_FORGOTTEN: Verdict = (End.LOST, None, None, Why.FORGOTTEN_BY_CLUSTER)


@dataclass(slots=True)
class _Told:
    phases: list[Phase] = field(default_factory=list[Phase])
    last: JobObservation | None = None
    since_ms: int | None = None


class Judge:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: dict[str, _Told] = {}
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()
        """What was shown, by name, so that a run that shows nothing is noticed."""

    def tell(self, seen: JobObservation) -> None:
        """The backend tells this, now."""
        told = self._told.setdefault(seen.job_id, _Told())
        before = told.phases[-1] if told.phases else None
        if before is not None and _ORDER.index(seen.phase) < _ORDER.index(before):
            self._wrong(seen, f"was {before.value}")
        if before is Phase.ENDED and seen != told.last:
            self._wrong(seen, f"was told as\n    {told.last}\n    and now as\n    {seen}")
        for old, new in zip(told.last.replicas if told.last is not None else (), seen.replicas, strict=False):
            if _ORDER.index(new.phase) < _ORDER.index(old.phase):
                self._wrong(seen, f"rank {new.rank} was {old.phase.value} and is {new.phase.value}")
            if old.phase is Phase.ENDED and replace(new, address="") != replace(old, address=""):
                self._wrong(seen, f"rank {new.rank} had ended as {old}, now as {new}")
        if seen.phase is not before:
            told.phases.append(seen.phase)
            self.seen[seen.phase.value] += 1
        if told.since_ms is not None and seen.running_since_ms != told.since_ms:
            self._wrong(seen, f"ran since {told.since_ms}")
        told.since_ms = seen.running_since_ms
        told.last = seen
        if seen.phase is Phase.RUNNING and before is not Phase.RUNNING:
            self._check_running(seen)
        if seen.phase is Phase.ENDED and before is not Phase.ENDED:
            self._check_nothing_lives(seen)

    def ended(self, job_id: str) -> bool:
        told = self._told.get(job_id)
        return told is not None and told.phases[-1:] == [Phase.ENDED]

    def settle(self, job_id: str) -> None:
        """The job is over at the cluster too, and is about to be forgotten: its last word is compared with the truth."""
        last = self._told[job_id].last
        assert last is not None
        for facts in last.replicas:
            body = self._cluster.bodies.get((job_id, facts.rank))
            if body is not None and body.runs > 1:
                self._wrong(last, f"rank {facts.rank} ran {body.runs} times")
            lives = body.lives if body is not None else []
            # of the registration that came last: an answer that was lost may have cost an earlier one
            mine = [life for life in lives if life.job is lives[-1].job]
            # of several, by an operator's "alloc stop", either's end may be the one that was heard of first
            verdict = _verdict(facts)
            fitting = [life for life in mine if verdict in self._allowed(life)]
            # both of them may have ended so: then it is the one whose time was told
            fitting.sort(key=lambda life: life.ended_ms != facts.ended_at_ms)
            self._check_rank(last, facts, (fitting or mine or [None])[0])

    def _check_running(self, seen: JobObservation) -> None:
        for facts in seen.replicas:
            body = self._cluster.bodies.get((seen.job_id, facts.rank))
            starts = {life.started_ms for life in body.lives} if body is not None else set[int | None]()
            if body is None or body.runs != 1 or facts.started_at_ms not in starts:
                self._wrong(seen, f"rank {facts.rank} is said to run since {facts.started_at_ms}, truly {starts}")

    def _check_nothing_lives(self, seen: JobObservation) -> None:
        """Nothing of it runs any more, where anybody can know that."""
        for facts in seen.replicas:
            body = self._cluster.bodies.get((seen.job_id, facts.rank))
            alive = [life.wire.id for life in body.lives if not (life.over or life.erased or life.lost)] if body is not None else []
            if alive:
                self._wrong(seen, f"{alive} of rank {facts.rank} still live")

    def _check_rank(self, last: JobObservation, facts: ReplicaObservation, life: Life | None) -> None:
        verdict = _verdict(facts)
        allowed = _OURS | {_FORGOTTEN} if life is None else self._allowed(life)
        if (life is None or life.erased) and last.job_id in self._cluster.operators_stops:
            allowed = allowed | {by_operator()}
        self.seen[f"{facts.end.value if facts.end else None} {facts.why.value}".strip()] += 1
        if verdict not in allowed:
            truth = "was never placed" if life is None else f"{life.wire.id} of {life.wire.job_id}"
            self._wrong(last, f"rank {facts.rank} ({truth}) is told as {verdict}, allowed {sorted(map(str, allowed))}")
        if life is None or life.erased or facts.end in {End.LOST, End.START_FAILED}:
            return
        if life.ran and facts.started_at_ms != life.started_ms:
            self._wrong(last, f"rank {facts.rank} is said to have started at {facts.started_at_ms}, truly at {life.started_ms}")
        if life.over and life.ran and facts.ended_at_ms != life.ended_ms:
            self._wrong(last, f"rank {facts.rank} is said to have ended at {facts.ended_at_ms}, truly at {life.ended_ms}")

    @staticmethod
    def _allowed(life: Life) -> set[Verdict]:
        allowed = set(life.verdicts)
        if life.killed is not None or not life.verdicts:
            # when we had it stopped too, nobody can say who was first
            allowed |= _OURS
        if life.erased:
            # nobody saw it: lost, or ended by the stop that was under way
            allowed |= {_FORGOTTEN, *_OURS}
            if life.killed is not None:
                allowed.add(life.killed)
        return allowed

    def _wrong(self, seen: JobObservation, what: str) -> None:
        self.wrong.append(f"{seen.job_id} ({seen.phase.value}): {what}")


def _verdict(facts: ReplicaObservation) -> Verdict:
    return facts.end or End.LOST, facts.exit_code, facts.signal, facts.why
