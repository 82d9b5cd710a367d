"""The server's services with use cases that keep nothing: the chain of every call is real, what is behind it costs nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Never

import structlog
from fakes.usecases import MemoryJobs
from serai.core.v1.resources_pb2 import ResourceOwner
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai_server.clock import SystemClock
from serai_server.events.consumers import Asker, ConsumerReport
from serai_server.jobs.origin import Tool
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.services import dispatcher
from serai_server.store.model import EventSettlement, StoredEvent


def services_of_nothing() -> Dispatcher:
    # As a server in production logs: nothing for a call that went well.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), cache_logger_on_first_use=True)
    nothing = _Nothing()
    return dispatcher(jobs=nothing, changes=MemoryJobs(), events=nothing, health=Health(), clock=SystemClock())


class _Nothing:
    """Use cases that take everything and do nothing."""

    async def create(self, items: Sequence[Job], tool: Tool | None = None) -> None:
        for item in items:
            _owner: ResourceOwner = item.owner

    async def submit(self, request: pb.SubmitRequest, tool: Tool | None = None) -> pb.SubmitResponse:
        return pb.SubmitResponse()

    async def of_project(self, job_ids: Sequence[str], project: str) -> list[bool]:
        return [True for _ in job_ids]

    async def utilization(self) -> Never:
        raise NotImplementedError

    def products(self) -> list[ComputeSupport]:
        return []

    async def get(self, job_id: str) -> pb.JobReport:
        return pb.JobReport(id=job_id)

    async def list(self, request: pb.ListRequest) -> pb.ListResponse:
        return pb.ListResponse()

    def watch(self, job_id: str) -> Never:
        raise NotImplementedError

    def follow(self, request: pb.FollowRequest) -> Never:
        raise NotImplementedError

    def subscribe(self, consumer: str, from_now: bool, batch_size: int, asker: Asker) -> AsyncIterator[Sequence[StoredEvent]]:
        raise NotImplementedError

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker) -> None:
        pass

    async def consumers(self) -> Sequence[ConsumerReport]:
        raise NotImplementedError

    async def drop(self, consumer: str) -> None:
        raise NotImplementedError

    async def give(self, consumer: str, owner: str) -> None:
        raise NotImplementedError
