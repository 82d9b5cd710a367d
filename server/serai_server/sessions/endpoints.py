"""Where the ports of replicas are reached, asked of the backend and kept for a moment: a page asks for a hundred things at once.

Not for longer: the port of a replica that has ended may soon be another job's, and a rank of several that ends changes nothing of its job's
row. When the backend cannot be asked, nobody is sent to where the replica was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from serai_backends.api import Backend, Endpoints
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Endpoint

from serai_server.clock import Clock
from serai_server.errors import BackendDown, Unsupported, WrongState
from serai_server.store.model import Committed

GOOD_MS = 3_000
"""For how long an answer is good, from when it was asked for."""


@dataclass(frozen=True, slots=True)
class _Known:
    endpoint: Endpoint
    asked_at_ms: int


@dataclass(slots=True)
class _OfJob:
    known: dict[tuple[int, int], _Known] = field(default_factory=dict[tuple[int, int], _Known])
    """(rank, port) → where."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A page asks for many things at once; the backend is asked once."""


class EndpointCache:
    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._clock = clock
        self._backend = backend if isinstance(backend, Endpoints) else None
        self._jobs: dict[str, _OfJob] = {}

    async def find(self, job_id: str, rank: int, port: int) -> Endpoint:
        """Raises WrongState when that replica does not run or has no such port, Unsupported, BackendDown."""
        if self._backend is None:
            raise Unsupported("this provider does not open web pages or desktops of jobs")
        of_job = self._jobs.setdefault(job_id, _OfJob())
        found = self._good(of_job, rank, port)
        if found is not None:
            return found
        async with of_job.turn:
            found = self._good(of_job, rank, port)
            if found is None:
                asked_at_ms = self._clock.now_ms()
                found = await self._ask(self._backend, job_id, rank, port)
                # If the job has changed meanwhile, this goes to an entry that nobody finds any more.
                of_job.known[rank, port] = _Known(found, asked_at_ms)
        return found

    def committed(self, changes: Sequence[Committed]) -> None:
        """Jobs changed; where they are reached is asked again."""
        for change in changes:
            for record in change.records:
                self._jobs.pop(record.id, None)
            for job_id in change.gone:
                self._jobs.pop(job_id, None)

    def _good(self, of_job: _OfJob, rank: int, port: int) -> Endpoint | None:
        known = of_job.known.get((rank, port))
        # A clock that was set back makes no answer good for longer.
        return known.endpoint if known is not None and 0 <= self._clock.now_ms() - known.asked_at_ms < GOOD_MS else None

    async def _ask(self, backend: Endpoints, job_id: str, rank: int, port: int) -> Endpoint:
        try:
            return await backend.endpoint(job_id, rank, port)
        except JobNotThere as error:
            raise WrongState(f"rank {rank} of job {job_id} does not run, or was started without port {port}: start the job anew") from error
        except BackendUnavailable as error:
            raise BackendDown(f"rank {rank} of job {job_id} cannot be reached right now; try again later") from error
