"""The server as those who follow jobs see it: an upstream in memory with the rules of JobsService's Follow, Get and Watch.

Rules, from `jobs_service.proto`: chunks of at most 64 KiB with their offsets, each stream in order, several side by side; a follow begins
where it was asked to and ends with the job's output; unknown jobs are NOT_FOUND. A test plays the program, and cuts the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field

from google.rpc import code_pb2, status_pb2
from serai.core.v1 import errors_pb2
from serai.jobs.v1 import job_pb2
from serai.jobs.v1 import jobs_service_pb2 as pb2
from serai_gateway.upstream import UpstreamError

from fakes.gateway_sessions import FakeSessions, refused

SERVICE = "/serai.jobs.v1.JobsService/"
CHUNK = 64 * 1024
OUT = pb2.OUTPUT_STREAM_STDOUT
ERR = pb2.OUTPUT_STREAM_STDERR
RUNNING = job_pb2.JOB_STATE_RUNNING
SUCCESS = job_pb2.JOB_STATE_SUCCESS
IN_QUEUE = job_pb2.JOB_STATE_IN_QUEUE


def away() -> UpstreamError:
    """The connection is broken, or nobody listens."""
    return UpstreamError(status_pb2.Status(code=code_pb2.UNAVAILABLE, message="Socket closed"))


@dataclass
class FakeJob:
    """A job and what its ranks write."""

    replicas: int = 1
    state: job_pb2.JobState.ValueType = RUNNING
    undelivered: int = 0
    over: bool = False
    """Nothing more will be written."""
    written: dict[tuple[int, pb2.OutputStream.ValueType], bytearray] = field(
        default_factory=dict[tuple[int, pb2.OutputStream.ValueType], bytearray]
    )
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, data: bytes, rank: int = 0, stream: pb2.OutputStream.ValueType = OUT) -> None:
        self.written.setdefault((rank, stream), bytearray()).extend(data)
        self.tell()

    def become(self, state: job_pb2.JobState.ValueType, *, undelivered: int = 0) -> None:
        self.state, self.undelivered = state, undelivered
        self.over = self.over or state == SUCCESS
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def report(self, job_id: str) -> pb2.JobReport:
        return pb2.JobReport(id=job_id, state=self.state, replicas=self.replicas, undelivered_events=self.undelivered)


@dataclass
class FakeLogs(FakeSessions):
    """An Exchanging that knows jobs; shells and sessions are those of FakeSessions."""

    jobs: dict[str, FakeJob] = field(default_factory=dict[str, FakeJob])
    asked: list[pb2.FollowRequest] = field(default_factory=list[pb2.FollowRequest])
    metadata: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    """Of each Follow."""
    chunks: int = 0
    """That were given out."""
    cut_after: int | None = None
    """Chunks after which each follow breaks; None = none does."""
    down: bool = False
    """Nobody answers."""
    open_follows: int = 0
    chunk_bytes: int = CHUNK

    async def unary(self, method: str, request: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
        if method != SERVICE + "Get":
            return await super().unary(method, request, metadata, timeout_s)
        if self.down:
            raise away()
        job_id = pb2.GetRequest.FromString(request).job_id
        return pb2.GetResponse(job=self._job(job_id).report(job_id)).SerializeToString()

    async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncIterator[bytes]:
        if self.down and method.startswith(SERVICE):
            raise away()
        if method == SERVICE + "Follow":
            asked = pb2.FollowRequest.FromString(request)
            self.asked.append(asked)
            self.metadata.append(metadata)
            self.open_follows += 1
            try:
                async for chunk in self._follow(asked):
                    yield chunk.SerializeToString()
            finally:
                self.open_follows -= 1
        elif method == SERVICE + "Watch":
            job_id = pb2.WatchRequest.FromString(request).job_id
            while True:
                job = self._job(job_id)
                changed = job.changed
                yield pb2.WatchResponse(job=job.report(job_id)).SerializeToString()
                if job.state == SUCCESS:
                    return
                await changed.wait()
        else:
            async for answer in super().stream(method, request, metadata):
                yield answer

    async def _follow(self, asked: pb2.FollowRequest) -> AsyncGenerator[pb2.FollowResponse]:
        job = self._job(asked.job_id)
        at = {(offset.rank, offset.stream): offset.offset for offset in asked.offsets}
        given = 0
        while True:
            changed, over = job.changed, job.over
            more = False
            for place, written in list(job.written.items()):
                start = at.get(place, 0)
                data = bytes(written[start : start + self.chunk_bytes])
                if not data:
                    continue
                more = True
                if self.cut_after is not None and given >= self.cut_after:
                    raise away()
                at[place] = start + len(data)
                given += 1
                self.chunks += 1
                yield pb2.FollowResponse(rank=place[0], stream=place[1], offset=start, data=data)
            if self.down:
                raise away()
            if more:
                continue
            if over or not asked.follow:
                return
            await changed.wait()

    def _job(self, job_id: str) -> FakeJob:
        if job_id not in self.jobs:
            raise refused(errors_pb2.ERROR_REASON_JOB_UNKNOWN, f"no job {job_id!r} is known here")
        return self.jobs[job_id]
