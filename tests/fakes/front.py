"""The real gRPC front over in-memory use cases, on a Unix socket, for tests of the front and of the command line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc.aio
import structlog
from serai.events.v1 import events_service_pb2_grpc
from serai.jobs.v1 import jobs_service_pb2_grpc
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.server import grpc_server
from serai_server.rpc.services import dispatcher
from structlog.typing import FilteringBoundLogger

from fakes.usecases import MemoryEvents, MemoryJobs


class FixedClock:
    """Time stands still; a sleep gives way once."""

    def now_ms(self) -> int:
        return 1_700_000_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def silent() -> FilteringBoundLogger:
    """A log that says nothing, so that what a test captures is the command's alone."""
    return cast(
        "FilteringBoundLogger",
        structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)),
    )


@dataclass
class Front:
    jobs: MemoryJobs = field(default_factory=MemoryJobs)
    events: MemoryEvents = field(default_factory=MemoryEvents)
    health: Health = field(default_factory=Health)
    limit_s: float = 30.0

    def dispatcher(self) -> Dispatcher:
        return dispatcher(
            jobs=self.jobs,
            changes=self.jobs,
            events=self.events,
            health=self.health,
            clock=FixedClock(),
            log=silent(),
            limit_s=self.limit_s,
        )


@dataclass
class Served:
    front: Front
    socket: Path
    channel: grpc.aio.Channel
    jobs: jobs_service_pb2_grpc.JobsServiceAsyncStub
    events: events_service_pb2_grpc.EventsServiceAsyncStub


@asynccontextmanager
async def served(socket: Path, front: Front | None = None, stop_grace_s: float = 5.0) -> AsyncGenerator[Served]:
    front = front or Front()
    async with grpc_server(front.dispatcher(), socket, stop_grace_s), grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        jobs = jobs_service_pb2_grpc.JobsServiceStub(channel)
        events = events_service_pb2_grpc.EventsServiceStub(channel)
        yield Served(front, socket, channel, jobs, events)
