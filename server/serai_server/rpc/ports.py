"""What the front needs of the use cases behind it. JobsService and EventLog have these shapes; tests bring fakes with their rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai.jobs.v1.jobs_service_pb2 import FollowRequest, FollowResponse, JobReport, ListRequest, ListResponse

from serai_server.store.model import EventSettlement, StoredEvent


class Jobs(Protocol):
    """The use cases of jobs (serai_server.jobs.service). All may raise SeraiError and what store and backends raise."""

    async def create(self, items: Sequence[Job]) -> None: ...

    async def terminate(self, job_ids: Sequence[str]) -> None: ...

    def products(self) -> Sequence[ComputeSupport]: ...

    async def get(self, job_id: str) -> JobReport: ...

    async def list(self, request: ListRequest) -> ListResponse: ...

    def watch(self, job_id: str) -> AsyncIterator[JobReport]: ...

    def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]: ...


class Events(Protocol):
    """The event log (serai_server.events)."""

    def subscribe(self, consumer: str, from_now: bool, batch_size: int) -> AsyncIterator[Sequence[StoredEvent]]:
        """`batch_size` 0 = the most that there may be in one."""
        ...

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement]) -> None: ...
