"""Where the ports of replicas are reached, asked of the backend once and kept until the job changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from serai_backends.api import Backend, Endpoints
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import Endpoint

from serai_server.errors import BackendDown, Unsupported, WrongState
from serai_server.store.model import Committed


@dataclass(slots=True)
class _OfJob:
    known: dict[tuple[int, int], Endpoint] = field(default_factory=dict[tuple[int, int], Endpoint])
    """(rank, port) → where."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A page asks for many things at once; the backend is asked once."""


class EndpointCache:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend if isinstance(backend, Endpoints) else None
        self._jobs: dict[str, _OfJob] = {}

    async def find(self, job_id: str, rank: int, port: int) -> Endpoint:
        """Raises WrongState when that replica does not run or has no such port, Unsupported, BackendDown."""
        if self._backend is None:
            raise Unsupported("this provider does not open web pages or desktops of jobs")
        of_job = self._jobs.setdefault(job_id, _OfJob())
        found = of_job.known.get((rank, port))
        if found is not None:
            return found
        async with of_job.turn:
            found = of_job.known.get((rank, port))
            if found is None:
                found = await self._ask(self._backend, job_id, rank, port)
                # If the job has changed meanwhile, this goes to an entry that nobody finds any more.
                of_job.known[rank, port] = found
        return found

    def committed(self, changes: Sequence[Committed]) -> None:
        """Jobs changed; where they are reached is asked again."""
        for change in changes:
            for record in change.records:
                self._jobs.pop(record.id, None)
            for job_id in change.gone:
                self._jobs.pop(job_id, None)

    async def _ask(self, backend: Endpoints, job_id: str, rank: int, port: int) -> Endpoint:
        try:
            return await backend.endpoint(job_id, rank, port)
        except JobNotThere as error:
            raise WrongState(f"rank {rank} of job {job_id} does not run, or was started without port {port}: start the job anew") from error
        except BackendUnavailable as error:
            raise BackendDown(f"rank {rank} of job {job_id} cannot be reached right now; try again later") from error
