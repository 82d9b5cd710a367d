"""First come, first served, by what the machine has: pure bookkeeping, no I/O.

Strict order: a small job never overtakes a large one that waits, else large ones would wait for ever.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from serai_backends.local.places import Places
from serai_backends.model import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

ESTIMATED = 1000
"""Jobs of the queue whose start is estimated; further back it would cost much and say little."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a whole job takes: cores and bytes of memory of all its replicas."""

    cpu: int
    memory_bytes: int
    limit_ms: int = 0
    """Longest time in RUNNING; 0 = none."""


class CapacityQueue:
    def __init__(self, cpu: int, memory_bytes: int) -> None:
        self.cpu, self.memory_bytes = cpu, memory_bytes
        self._waiting: dict[str, Need] = {}
        self._places = Places()
        self._running: dict[str, Need] = {}
        self._since: dict[str, int] = {}
        """When a running job began to run, where that is known."""
        self._used_cpu = self._used_memory = 0
        self._estimates: dict[str, int] | None = None
        """Latest start by job; None = to be made anew."""

    @property
    def used(self) -> Need:
        return Need(self._used_cpu, self._used_memory)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def running_count(self) -> int:
        return len(self._running)

    def first(self, count: int) -> list[str]:
        """Ids of the first jobs that wait, the next one first."""
        return list(islice(self._waiting, count))

    def is_waiting(self, job_id: str) -> bool:
        return job_id in self._waiting

    def refusal(self, need: Need) -> str | None:
        """Why it can never run here, in words; None = it can."""
        if need.cpu > self.cpu:
            return f"the job needs {_cores(need.cpu)}, the machine has {self.cpu}"
        if need.memory_bytes > self.memory_bytes:
            return f"the job needs {_size(need.memory_bytes)} of memory, the machine has {_size(self.memory_bytes)}"
        return None

    def add(self, job_id: str, need: Need) -> None:
        self._waiting[job_id] = need
        self._places.append(job_id)
        if len(self._waiting) <= ESTIMATED:
            self._estimates = None

    def take(self) -> str | None:
        """The next job that fits now; it holds its place from here on. None = nothing waits or the first does not fit."""
        for job_id, need in self._waiting.items():
            if not self._fits(need):
                return None
            del self._waiting[job_id]
            self._places.remove(job_id)
            self.occupy(job_id, need)
            return job_id
        return None

    def occupy(self, job_id: str, need: Need) -> None:
        """A job that runs already (adopted)."""
        self._running[job_id] = need
        self._used_cpu += need.cpu
        self._used_memory += need.memory_bytes
        self._estimates = None

    def began(self, job_id: str, since_ms: int) -> None:
        """It runs since then, for estimates."""
        if job_id in self._running and self._since.get(job_id) != since_ms:
            self._since[job_id] = since_ms
            self._estimates = None

    def limit(self, job_id: str, limit_ms: int) -> None:
        """Its limit is another one now."""
        for jobs in (self._waiting, self._running):
            if job_id in jobs:
                jobs[job_id] = replace(jobs[job_id], limit_ms=limit_ms)
                self._estimates = None

    def put_back(self, job_id: str) -> None:
        """It could not be started now: first again."""
        need = self._running[job_id]
        self._release(job_id)
        self._waiting = {job_id: need, **self._waiting}
        self._places = Places(self._waiting)

    def remove(self, job_id: str) -> None:
        if self._waiting.pop(job_id, None) is not None:
            self._places.remove(job_id)
            self._estimates = None
        if job_id in self._running:
            self._release(job_id)

    def explain(self, job_id: str, now_ms: int) -> Waiting | None:
        """For what it waits; None = it does not."""
        need = self._waiting.get(job_id)
        if need is None:
            return None
        free_cpu, free_memory = max(0, self.cpu - self._used_cpu), max(0, self.memory_bytes - self._used_memory)
        return Waiting(
            ahead=self._places.before(job_id),
            cpu=need.cpu if need.cpu > free_cpu else 0,
            free_cpu=free_cpu,
            all_cpu=self.cpu,
            memory_bytes=need.memory_bytes if need.memory_bytes > free_memory else 0,
            free_memory_bytes=free_memory,
            latest_start_ms=self._latest_start_ms(job_id, now_ms),
        )

    def _release(self, job_id: str) -> None:
        need = self._running.pop(job_id)
        self._since.pop(job_id, None)
        self._used_cpu -= need.cpu
        self._used_memory -= need.memory_bytes
        self._estimates = None

    def _fits(self, need: Need) -> bool:
        return self._used_cpu + need.cpu <= self.cpu and self._used_memory + need.memory_bytes <= self.memory_bytes

    def _latest_start_ms(self, job_id: str, now_ms: int) -> int | None:
        if self._estimates is None:
            # once for each change of the queue, for all jobs at its head
            self._estimates = dict(self._simulate(now_ms))
        return self._estimates.get(job_id)

    def _simulate(self, now_ms: int) -> Iterator[tuple[str, int]]:
        """When each job starts if all before it use their limits up, as far as that can be said."""
        cpu, memory = self.cpu - self._used_cpu, self.memory_bytes - self._used_memory
        ends = [
            # one that outlived its limit ends any moment; one without a limit never does, for all that is known
            (max(now_ms, self._since.get(job_id, now_ms) + need.limit_ms), need.cpu, need.memory_bytes)
            for job_id, need in self._running.items()
            if need.limit_ms
        ]
        heapq.heapify(ends)
        at_ms = now_ms
        for job_id, need in islice(self._waiting.items(), ESTIMATED):
            while need.cpu > cpu or need.memory_bytes > memory:
                if not ends:
                    return
                end_ms, more_cpu, more_memory = heapq.heappop(ends)
                at_ms, cpu, memory = max(at_ms, end_ms), cpu + more_cpu, memory + more_memory
            yield job_id, at_ms
            cpu, memory = cpu - need.cpu, memory - need.memory_bytes
            if need.limit_ms:
                heapq.heappush(ends, (at_ms + need.limit_ms, need.cpu, need.memory_bytes))


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
