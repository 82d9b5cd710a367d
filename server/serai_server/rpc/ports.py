"""What the front needs of the use cases behind it. JobsService and EventLog have these shapes; tests bring fakes with their rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai.jobs.v1.jobs_service_pb2 import ExtendItem, FollowRequest, FollowResponse, JobReport, ListRequest, ListResponse, UpdateAclItem
from serai_backends.model import Capacity

from serai_server.store.model import EventSettlement, StoredEvent


class Jobs(Protocol):
    """The use cases of jobs (serai_server.jobs.service). All may raise SeraiError and what store and backends raise."""

    async def create(self, items: Sequence[Job]) -> None: ...

    def products(self) -> Sequence[ComputeSupport]: ...

    async def utilization(self) -> Capacity: ...

    async def get(self, job_id: str) -> JobReport: ...

    async def list(self, request: ListRequest) -> ListResponse: ...

    def watch(self, job_id: str) -> AsyncIterator[JobReport]: ...

    def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]: ...


class Changes(Protocol):
    """What may be asked of jobs that exist (serai_server.jobs.changes)."""

    async def terminate(self, items: Sequence[Job], *, for_core: bool) -> None: ...

    async def extend(self, items: Sequence[ExtendItem]) -> None: ...

    async def suspend(self, job_ids: Sequence[str]) -> None: ...

    async def unsuspend(self, job_ids: Sequence[str]) -> None: ...

    async def verify(self, items: Sequence[Job], *, cautious: bool = False) -> None: ...

    async def update_acl(self, items: Sequence[UpdateAclItem]) -> None: ...

    async def update_labels(self, items: Sequence[Job]) -> None: ...

    async def disown(self, job_ids: Sequence[str]) -> None: ...


class Events(Protocol):
    """The event log (serai_server.events)."""

    def subscribe(self, consumer: str, from_now: bool, batch_size: int) -> AsyncIterator[Sequence[StoredEvent]]:
        """`batch_size` 0 = the most that there may be in one."""
        ...

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement]) -> None: ...
