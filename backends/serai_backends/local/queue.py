"""First come, first served, by what the machine has: pure bookkeeping, no I/O.

Strict order: a small job never overtakes a large one that waits, else large ones would wait for ever.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """What a whole job takes: cores and bytes of memory of all its replicas."""

    cpu: int
    memory_bytes: int


class CapacityQueue:
    def __init__(self, cpu: int, memory_bytes: int) -> None:
        self.cpu, self.memory_bytes = cpu, memory_bytes
        self._waiting: dict[str, Need] = {}
        self._running: dict[str, Need] = {}

    @property
    def used(self) -> Need:
        return Need(sum(n.cpu for n in self._running.values()), sum(n.memory_bytes for n in self._running.values()))

    @property
    def waiting(self) -> list[str]:
        """Job ids, the next one first."""
        return list(self._waiting)

    @property
    def running_count(self) -> int:
        return len(self._running)

    def refusal(self, need: Need) -> str | None:
        """Why it can never run here, in words; None = it can."""
        if need.cpu > self.cpu:
            return f"the job needs {_cores(need.cpu)}, the machine has {self.cpu}"
        if need.memory_bytes > self.memory_bytes:
            return f"the job needs {_size(need.memory_bytes)} of memory, the machine has {_size(self.memory_bytes)}"
        return None

    def add(self, job_id: str, need: Need) -> None:
        self._waiting[job_id] = need

    def take(self) -> str | None:
        """The next job that fits now; it holds its place from here on. None = nothing waits or the first does not fit."""
        for job_id, need in self._waiting.items():
            if not self._fits(need):
                return None
            del self._waiting[job_id]
            self._running[job_id] = need
            return job_id
        return None

    def occupy(self, job_id: str, need: Need) -> None:
        """A job that runs already (adopted)."""
        self._running[job_id] = need

    def put_back(self, job_id: str) -> None:
        """It could not be started now: first again."""
        need = self._running.pop(job_id)
        self._waiting = {job_id: need, **self._waiting}

    def remove(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)
        self._running.pop(job_id, None)

    def reason(self, job_id: str) -> str:
        """For what it waits, in words; empty = for nothing, it is being started."""
        need = self._waiting.get(job_id)
        if need is None:
            return ""
        used = self.used
        ahead = list(self._waiting).index(job_id)
        parts: list[str] = []
        if used.cpu + need.cpu > self.cpu or ahead:
            parts.append(f"{_cores(need.cpu)}: {max(0, self.cpu - used.cpu)} free of {self.cpu}")
        if used.memory_bytes + need.memory_bytes > self.memory_bytes:
            parts.append(f"{_size(need.memory_bytes)} of memory: {_size(max(0, self.memory_bytes - used.memory_bytes))} free")
        if not parts:
            return ""
        jobs = "" if not ahead else ", 1 job is ahead" if ahead == 1 else f", {ahead} jobs are ahead"
        return f"waiting for {' and '.join(parts)}{jobs}"

    def _fits(self, need: Need) -> bool:
        used = self.used
        return used.cpu + need.cpu <= self.cpu and used.memory_bytes + need.memory_bytes <= self.memory_bytes


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
