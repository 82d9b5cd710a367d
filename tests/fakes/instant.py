"""A backend for tests that keeps every rule of `serai_backends.api` in memory.

InstantBackend runs "programs" that are words: ("exit", "3"), ("signal", "9"), ("print", TEXT, …words), ("hang",).
A test can also end a replica by hand with `end`. What it keeps lies in an InstantMachine: a second instance can take over.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from serai_backends.common.board import Board
from serai_backends.errors import BackendUnavailable, JobNotThere, SubmissionRefused
from serai_backends.model import (
    Capacity,
    CheckReport,
    End,
    Features,
    JobObservation,
    LogChunk,
    Pause,
    Phase,
    ReplicaObservation,
    ReplicaSpec,
    Stream,
    WatchEvent,
    Why,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


CHUNK_BYTES = 64 * 1024
HOLDING = {Phase.RUNNING, Phase.SUSPENDED}
"""Phases of jobs that have their cores and memory."""


@dataclass(slots=True)
class InstantJob:
    spec: ReplicaSpec
    observation: JobObservation
    output: dict[tuple[int, Stream], bytearray] = field(default_factory=dict[tuple[int, Stream], bytearray])


@dataclass(slots=True)
class InstantMachine:
    """What outlives an instance."""

    cpu: int = 1_000_000
    memory_bytes: int = 1 << 50
    jobs: dict[str, InstantJob] = field(default_factory=dict[str, InstantJob])
    folders: dict[str, InstantJob] = field(default_factory=dict[str, InstantJob])
    """Forgotten jobs by output folder: what they wrote is still there."""
    canceled: set[str] = field(default_factory=set[str])
    starts: list[str] = field(default_factory=list[str])
    """Ids of jobs in the order in which they were started; an id that is there twice was run twice."""
    ticks: itertools.count[int] = field(default_factory=lambda: itertools.count(1_700_000_000_000))
    """Its clock: each look is 1 ms later."""


class InstantBackend:
    def __init__(self, machine: InstantMachine | None = None) -> None:
        self.machine = machine or InstantMachine()
        self._board = Board()

    @property
    def name(self) -> str:
        return "instant"

    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True)

    async def submit(self, spec: ReplicaSpec) -> None:
        self._check_open()
        if spec.job_id in self.machine.jobs:
            return
        if spec.resources.cpu * spec.replicas > self.machine.cpu or spec.resources.memory_bytes * spec.replicas > self.machine.memory_bytes:
            raise SubmissionRefused("it is larger than the machine", Why.TOO_LARGE)
        waiting = tuple(ReplicaObservation(rank=rank, phase=Phase.WAITING) for rank in range(spec.replicas))
        observation = JobObservation(job_id=spec.job_id, phase=Phase.WAITING, replicas=waiting, reason="in the queue")
        self.machine.jobs[spec.job_id] = InstantJob(spec, observation)
        self._board.publish(observation)
        if spec.job_id in self.machine.canceled:
            self._end_all(spec.job_id, End.CANCELED)
        self._schedule()

    async def cancel(self, job_id: str, grace_ms: int = 0) -> None:
        del grace_ms  # programs here end at once
        self._check_open()
        self.machine.canceled.add(job_id)
        self._end_all(job_id, End.CANCELED)
        self._schedule()

    async def suspend(self, job_id: str) -> None:
        self._check_open()
        job = self.machine.jobs.get(job_id)
        if job is not None and job.observation.phase is Phase.RUNNING:
            pauses = (*job.observation.pauses, Pause(started_at_ms=next(self.machine.ticks), ended_at_ms=None))
            job.observation = replace(job.observation, phase=Phase.SUSPENDED, pauses=pauses)
            self._board.publish(job.observation)

    async def resume(self, job_id: str) -> None:
        self._check_open()
        job = self.machine.jobs.get(job_id)
        if job is not None and job.observation.phase is Phase.SUSPENDED:
            *before, last = job.observation.pauses
            pauses = (*before, replace(last, ended_at_ms=next(self.machine.ticks)))
            job.observation = replace(job.observation, phase=Phase.RUNNING, pauses=pauses)
            self._board.publish(job.observation)

    async def inspect(self, job_id: str) -> JobObservation | None:
        job = self.machine.jobs.get(job_id)
        return job.observation if job else None

    async def list(self) -> Sequence[JobObservation]:
        return [job.observation for job in self.machine.jobs.values()]

    def watch(self, after: int | None = None) -> AsyncIterator[WatchEvent]:
        return self._board.watch(after)

    async def forget(self, job_id: str) -> None:
        job = self.machine.jobs.get(job_id)
        if job is not None and job.observation.phase is Phase.ENDED:
            self.machine.folders[job.spec.output_folder] = self.machine.jobs.pop(job_id)
            self.machine.canceled.discard(job_id)
            self._board.remove(job_id)

    async def logs(
        self,
        job_id: str,
        rank: int,
        stream: Stream,
        offset: int = 0,
        *,
        tail: int | None = None,
        follow: bool = False,
        output_folder: str = "",
    ) -> AsyncIterator[LogChunk]:
        job = self.machine.jobs.get(job_id) or self.machine.folders.get(output_folder)
        if job is None or not 0 <= rank < job.spec.replicas:
            raise JobNotThere(job_id)
        if tail is not None:
            offset = max(offset, len(job.output.get((rank, stream), b"")) - tail)
        changed = self._board.subscribe(job_id)
        try:
            while True:
                changed.clear()
                ended = job.observation.replicas[rank].phase is Phase.ENDED
                data = job.output.get((rank, stream), b"")
                while offset < len(data):
                    chunk = LogChunk(offset=offset, data=bytes(data[offset : offset + CHUNK_BYTES]))
                    offset += len(chunk.data)
                    yield chunk
                if ended or not follow:
                    return
                if self._board.closed:
                    raise BackendUnavailable("closed")
                await changed.wait()
        finally:
            self._board.unsubscribe(changed, job_id)

    async def capacity(self) -> Capacity:
        running = [job.spec for job in self.machine.jobs.values() if job.observation.phase in HOLDING]
        waiting = [job for job in self.machine.jobs.values() if job.observation.phase is Phase.WAITING]
        return Capacity(
            cpu=self.machine.cpu,
            memory_bytes=self.machine.memory_bytes,
            used_cpu=sum(spec.resources.cpu * spec.replicas for spec in running),
            used_memory_bytes=sum(spec.resources.memory_bytes * spec.replicas for spec in running),
            running_jobs=len(running),
            waiting_jobs=len(waiting),
        )

    async def check(self) -> CheckReport:
        return CheckReport()

    async def close(self) -> None:
        self._board.close()

    # For tests

    def write(self, job_id: str, rank: int, stream: Stream, data: bytes) -> None:
        """As if the replica had printed it."""
        job = self.machine.jobs[job_id]
        job.output.setdefault((rank, stream), bytearray()).extend(data)
        # followers hear of output as of any change
        self._board.touch(job_id)

    def wait_for(self, job_id: str, reason: str) -> None:
        """A waiting job waits for something else now."""
        job = self.machine.jobs[job_id]
        job.observation = replace(job.observation, reason=reason)
        self._board.publish(job.observation)

    def end(
        self,
        job_id: str,
        rank: int,
        end: End,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        cause: str = "",
        why: Why = Why.NONE,
    ) -> None:
        """End one replica; the job ends with its last one."""
        job = self.machine.jobs[job_id]
        now_ms = next(self.machine.ticks)
        replicas = tuple(
            replace(r, phase=Phase.ENDED, end=end, exit_code=exit_code, signal=signal, cause=cause, why=why, ended_at_ms=now_ms)
            if r.rank == rank and r.phase is not Phase.ENDED
            else r
            for r in job.observation.replicas
        )
        over = all(r.phase is Phase.ENDED for r in replicas)
        job.observation = replace(
            job.observation,
            phase=Phase.ENDED if over else job.observation.phase,
            replicas=replicas,
            reason=cause if over else job.observation.reason,
            why=why if over else Why.NONE,
            ended_at_ms=now_ms if over else None,
        )
        self._board.publish(job.observation)

    def _check_open(self) -> None:
        if self._board.closed:
            raise BackendUnavailable("the backend is closed")

    def _end_all(self, job_id: str, end: End) -> None:
        job = self.machine.jobs.get(job_id)
        for replica in job.observation.replicas if job else ():
            if replica.phase is not Phase.ENDED:
                self.end(job_id, replica.rank, end)

    def _schedule(self) -> None:
        used = [job.spec for job in self.machine.jobs.values() if job.observation.phase in HOLDING]
        cpu = self.machine.cpu - sum(spec.resources.cpu * spec.replicas for spec in used)
        memory = self.machine.memory_bytes - sum(spec.resources.memory_bytes * spec.replicas for spec in used)
        for job in list(self.machine.jobs.values()):
            if job.observation.phase is Phase.WAITING:
                spec = job.spec
                if spec.resources.cpu * spec.replicas > cpu or spec.resources.memory_bytes * spec.replicas > memory:
                    return
                self._start(job)
                self._schedule()
                return

    def _start(self, job: InstantJob) -> None:
        self.machine.starts.append(job.spec.job_id)
        now_ms = next(self.machine.ticks)
        replicas = tuple(
            replace(r, phase=Phase.RUNNING, node="instant", address=f"127.1.0.{r.rank + 1}", started_at_ms=now_ms)
            for r in job.observation.replicas
        )
        job.observation = replace(job.observation, phase=Phase.RUNNING, replicas=replicas, reason="", running_since_ms=now_ms)
        self._board.publish(job.observation)
        for rank in range(job.spec.replicas):
            self._run(job.spec, rank, list(job.spec.argv))

    def _run(self, spec: ReplicaSpec, rank: int, words: list[str]) -> None:
        while words:
            match words.pop(0):
                case "print":
                    self.write(spec.job_id, rank, Stream.STDOUT, words.pop(0).encode())
                case "exit":
                    self.end(spec.job_id, rank, End.EXITED, exit_code=int(words.pop(0)))
                    return
                case "signal":
                    self.end(spec.job_id, rank, End.SIGNALED, signal=int(words.pop(0)))
                    return
                case "hang":
                    return
                case program:
                    for other in range(spec.replicas):
                        self.end(spec.job_id, other, End.START_FAILED, cause=program, why=Why.COMMAND_NOT_FOUND)
                    return
        self.end(spec.job_id, rank, End.EXITED, exit_code=0)
