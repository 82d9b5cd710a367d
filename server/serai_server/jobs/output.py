"""Reads what replicas wrote, several streams side by side, each byte-exact and with its offset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from serai.jobs.v1.jobs_service_pb2 import FollowRequest, FollowResponse, OutputStream
from serai_backends.api import Backend
from serai_backends.errors import JobNotThere
from serai_backends.model import Stream

from serai_server.errors import InvalidRequest
from serai_server.jobs.registry import Registry
from serai_server.store.model import State, StoredJob

_STREAMS = {OutputStream.OUTPUT_STREAM_STDOUT: Stream.STDOUT, OutputStream.OUTPUT_STREAM_STDERR: Stream.STDERR}

_AHEAD = 4
"""Chunks, of at most 64 KiB, read ahead of a slow reader; then the source waits, not the memory grows."""


class Output:
    def __init__(self, backend: Backend, registry: Registry) -> None:
        self._backend = backend
        self._registry = registry

    async def read(self, job: StoredJob, request: FollowRequest) -> AsyncGenerator[FollowResponse]:
        """Chunks of every asked rank, both streams, as they come; each stream in order.

        Raises InvalidRequest for a rank that the job lacks, an offset or a tail below 0.
        """
        ranks = sorted(set(request.ranks)) or list(range(job.replicas))
        wrong = next((rank for rank in ranks if not 0 <= rank < job.replicas), None)
        if wrong is not None:
            there = "only rank 0" if job.replicas == 1 else f"ranks 0 to {job.replicas - 1}"
            raise InvalidRequest(f"rank {wrong}: this job has {there}", field="ranks")
        offsets = {(o.rank, o.stream): o.offset for o in request.offsets}
        if any(offset < 0 for offset in offsets.values()):
            raise InvalidRequest("expected offsets of 0 or more", field="offsets")
        if request.tail_bytes < 0:
            raise InvalidRequest("expected 0 or more bytes", field="tail_bytes")
        if request.follow:
            await self._started(job)
        queue: asyncio.Queue[FollowResponse | BaseException | None] = asyncio.Queue(_AHEAD)
        # Tasks of our own, not a TaskGroup: a generator must not yield inside one, because its closing would reach the group as an error.
        pumps = [
            asyncio.create_task(self._pump(queue, job, rank, stream, offsets.get((rank, stream)), request))
            for rank in ranks
            for stream in _STREAMS
        ]
        try:
            left = len(pumps)
            while left:
                chunk = await queue.get()
                if chunk is None:
                    left -= 1
                elif isinstance(chunk, BaseException):
                    raise chunk
                else:
                    yield chunk
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(  # noqa: PLR0917 - one stream's coordinates
        self,
        queue: asyncio.Queue[FollowResponse | BaseException | None],
        job: StoredJob,
        rank: int,
        stream: OutputStream.ValueType,
        offset: int | None,
        request: FollowRequest,
    ) -> None:
        end: BaseException | None = None
        try:
            tail = request.tail_bytes if request.tail_bytes and offset is None else None
            folder = job.output_folder.lstrip("/")
            chunks = self._backend.logs(job.id, rank, _STREAMS[stream], offset or 0, tail=tail, follow=request.follow, output_folder=folder)
            try:
                async for chunk in chunks:
                    await queue.put(FollowResponse(rank=rank, stream=stream, offset=chunk.offset, data=chunk.data))
            finally:
                # A file, or a connection: not left to the collector.
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()
        except JobNotThere:
            pass  # nothing was written: it never started
        except Exception as error:
            end = error
        await queue.put(end)

    async def _started(self, job: StoredJob) -> None:
        """Until the job has started or will never start."""
        changed = self._registry.watch(job.id)
        try:
            while (record := self._registry.get(job.id)) is not None and record.state == State.IN_QUEUE:
                changed.clear()
                await changed.wait()
        finally:
            self._registry.unwatch(job.id, changed)
