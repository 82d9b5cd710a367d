"""Which replicas of a running job have ended. The job's row does not tell: it changes when the last one has."""

from __future__ import annotations

from serai_backends.api import Backend
from serai_backends.errors import BackendUnavailable
from serai_backends.model import Phase

from serai_server.errors import BackendDown


class Ranks:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ended(self, job_id: str, replicas: int) -> frozenset[int]:
        """Of a job that is not over. Raises BackendDown."""
        if replicas == 1:
            return frozenset()  # then the job would be over
        try:
            seen = await self._backend.inspect(job_id)
        except BackendUnavailable as error:
            raise BackendDown(f"what job {job_id} does cannot be told right now; try again later") from error
        return frozenset(r.rank for r in seen.replicas if r.phase is Phase.ENDED) if seen is not None else frozenset()
