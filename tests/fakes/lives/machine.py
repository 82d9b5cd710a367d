"""A machine that runs scripts: it outlives every server, and its own record of who ran when is what bills are compared with.

What is due happens at its own time, to the ms, however late the clock of the world gets there; so the server sees things late, as it
does when it was away.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from serai_backends.errors import SubmissionRefused
from serai_backends.model import End, JobObservation, Pause, Phase, ReplicaObservation, ReplicaSpec

from fakes.lives.plan import Script


@dataclass(slots=True)
class Program:
    """One job on the machine, and what really happened to it."""

    script: Script
    replicas: int
    phase: Phase = Phase.WAITING
    end: End | None = None
    ended_at_ms: int | None = None
    stretches: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """When it ran, from and to."""
    since_ms: int | None = None
    """Since when it runs; None = it does not."""
    pauses: list[Pause] = field(default_factory=list[Pause])
    forgotten: bool = False
    turn: int = 0
    """Grows when it starts, pauses or ends: an end that was due before a pause is not due any more."""
    asked: str = ""
    """What it is being brought to: pause, resume or kill."""
    ran_at_cancel_ms: int | None = None

    @property
    def started(self) -> bool:
        return bool(self.stretches) or self.since_ms is not None

    def ran_ms(self, now_ms: int) -> int:
        return sum(b - a for a, b in self.stretches) + (now_ms - self.since_ms if self.since_ms is not None else 0)

    def observation(self, job_id: str) -> JobObservation:
        first = self.stretches[0][0] if self.stretches else self.since_ms
        coded = self.script.exit_code if self.end is End.EXITED else None
        phase = Phase.RUNNING if self.phase is Phase.SUSPENDED else self.phase
        return JobObservation(
            job_id=job_id,
            phase=self.phase,
            replicas=tuple(
                ReplicaObservation(rank, phase, end=self.end, exit_code=coded, started_at_ms=first, ended_at_ms=self.ended_at_ms)
                for rank in range(self.replicas)
            ),
            pauses=tuple(self.pauses),
            running_since_ms=first,
            ended_at_ms=self.ended_at_ms,
        )


class Machine:
    def __init__(self, scripts: dict[str, Script]) -> None:
        self._scripts = scripts
        self.programs: dict[str, Program] = {}
        self._canceled: set[str] = set()
        self._due: list[tuple[int, int, str, str, int]] = []
        self._order = itertools.count()
        self.listener: Callable[[str], None] | None = None
        """Told of each change; None = no server is there."""
        self.faults: list[str] = []
        """What no server may do to it."""

    def next_ms(self) -> int | None:
        return self._due[0][0] if self._due else None

    def advance(self, now_ms: int) -> None:
        """Everything that is due by now, each at its own time."""
        while self._due and self._due[0][0] <= now_ms:
            at_ms, _, job_id, what, turn = heapq.heappop(self._due)
            program = self.programs[job_id]
            if program.phase is not Phase.ENDED and turn in {program.turn, -1}:
                self._happen(program, job_id, what, at_ms)

    def submit(self, spec: ReplicaSpec, now_ms: int) -> None:
        known = self.programs.get(spec.job_id)
        if known is not None:
            if known.forgotten:
                self.faults.append(f"{spec.job_id} was submitted after it was forgotten")
            return
        script = self._scripts[spec.job_id]
        if script.refused:
            raise SubmissionRefused("the job is larger than the machine")
        program = self.programs[spec.job_id] = Program(script, spec.replicas)
        if spec.job_id in self._canceled:
            self._end(program, spec.job_id, End.CANCELED, now_ms)
        else:
            self._later(now_ms + script.queue_ms, spec.job_id, "start", -1)
        self._tell(spec.job_id)

    def cancel(self, job_id: str, now_ms: int) -> None:
        self._canceled.add(job_id)
        program = self.programs.get(job_id)
        if program is None or program.phase is Phase.ENDED or program.asked == "kill":
            return
        program.ran_at_cancel_ms = program.ran_ms(now_ms)
        if program.phase is Phase.WAITING:
            self._end(program, job_id, End.CANCELED, now_ms)
        else:
            program.asked = "kill"
            self._later(now_ms + program.script.kill_ms, job_id, "kill", -1)

    def suspend(self, job_id: str, now_ms: int) -> None:
        program = self.programs.get(job_id)
        if program is not None and program.phase is Phase.RUNNING and not program.asked:
            program.asked = "pause"
            self._later(now_ms + program.script.pause_ms, job_id, "pause", program.turn)

    def resume(self, job_id: str, now_ms: int) -> None:
        program = self.programs.get(job_id)
        if program is not None and program.phase is Phase.SUSPENDED and not program.asked:
            program.asked = "resume"
            self._later(now_ms + program.script.resume_ms, job_id, "resume", program.turn)

    def forget(self, job_id: str) -> None:
        program = self.programs.get(job_id)
        if program is not None and program.phase is Phase.ENDED:
            program.forgotten = True

    def inspect(self, job_id: str) -> JobObservation | None:
        program = self.programs.get(job_id)
        return None if program is None or program.forgotten else program.observation(job_id)

    def _later(self, at_ms: int, job_id: str, what: str, turn: int) -> None:
        heapq.heappush(self._due, (at_ms, next(self._order), job_id, what, turn))

    def _happen(self, program: Program, job_id: str, what: str, at_ms: int) -> None:
        match what:
            case "start" if program.phase is Phase.WAITING:
                self._run(program, job_id, at_ms)
            case "end" if program.phase is Phase.RUNNING:
                self._end(program, job_id, End.EXITED, at_ms)
            case "pause" if program.phase is Phase.RUNNING:
                self._stand(program, at_ms)
                program.pauses.append(Pause(at_ms, None))
                program.phase = Phase.SUSPENDED
                program.asked = "" if program.asked == "pause" else program.asked
            case "resume" if program.phase is Phase.SUSPENDED:
                program.pauses[-1] = Pause(program.pauses[-1].started_at_ms, at_ms)
                program.asked = "" if program.asked == "resume" else program.asked
                self._run(program, job_id, at_ms)
            case "kill":
                self._end(program, job_id, End.CANCELED, at_ms)
            case _:
                return
        self._tell(job_id)

    def _run(self, program: Program, job_id: str, at_ms: int) -> None:
        left_ms = None if program.script.program_ms is None else program.script.program_ms - program.ran_ms(at_ms)
        program.phase, program.since_ms = Phase.RUNNING, at_ms
        program.turn += 1
        if left_ms is not None:
            self._later(at_ms + left_ms, job_id, "end", program.turn)

    def _stand(self, program: Program, at_ms: int) -> None:
        program.turn += 1
        if program.since_ms is not None:
            program.stretches.append((program.since_ms, at_ms))
            program.since_ms = None

    def _end(self, program: Program, job_id: str, how: End, at_ms: int) -> None:
        self._stand(program, at_ms)
        program.phase, program.end, program.ended_at_ms = Phase.ENDED, how, at_ms
        self._tell(job_id)

    def _tell(self, job_id: str) -> None:
        if self.listener is not None:
            self.listener(job_id)
