"""A job's output for those who watch it: from the first byte to the last, once, however often the way to the server breaks.

The server gives bytes by offset, so after a break the gateway asks for what is missing. The output has ended when the job is final and
everything that it wrote was read: a job that is paused or whose ranks are still being placed is waited for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from google.rpc import code_pb2
from serai.jobs.v1 import job_pb2, jobs_service_pb2

from serai_gateway.clock import Clock
from serai_gateway.control.backoff import Backoff
from serai_gateway.tasks import until_first
from serai_gateway.upstream import Upstream, UpstreamError, closing
from serai_gateway.ws.text import Text

FOLLOW = "/serai.jobs.v1.JobsService/Follow"
GET = "/serai.jobs.v1.JobsService/Get"
WATCH = "/serai.jobs.v1.JobsService/Watch"
PATIENCE_MS = 300_000
"""ms without any answer of the server after which a follow gives up; an upgrade takes less."""
LOOK_AGAIN_S = 5.0
"""After an end of the output that is not the job's own."""
_RETRY_BASE_MS = 100
_RETRY_CAP_MS = 5_000
_GET_TIMEOUT_S = 10.0
_FEW = 3
"""Failures in a row that may have been the connection's end and may be the server's own: it is not asked more often than that."""

FINAL = frozenset({job_pb2.JOB_STATE_SUCCESS, job_pb2.JOB_STATE_FAILURE, job_pb2.JOB_STATE_EXPIRED})
_PASSING = frozenset({code_pb2.UNAVAILABLE, code_pb2.DEADLINE_EXCEEDED, code_pb2.CANCELLED, code_pb2.ABORTED, code_pb2.RESOURCE_EXHAUSTED})
_UNCLEAR = frozenset({code_pb2.INTERNAL, code_pb2.UNKNOWN})

_log = structlog.stdlib.get_logger("serai_gateway.ws.log")

Place = tuple[int, jobs_service_pb2.OutputStream.ValueType]
"""Rank and stream."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one stream of one rank."""

    rank: int
    stderr: bool
    text: str


class Log:
    """One reading of one job's output."""

    def __init__(self, upstream: Upstream, clock: Clock, random: Callable[[], float], job_id: str, metadata: Mapping[str, str]) -> None:
        """`metadata`: for whom the server is asked."""
        self._upstream = upstream
        self._clock = clock
        self._job_id = job_id
        self._metadata = metadata
        self._offsets: dict[Place, int] = {}
        """Of the next byte."""
        self._texts: dict[Place, Text] = {}
        self._backoff = Backoff(base_ms=_RETRY_BASE_MS, cap_ms=_RETRY_CAP_MS, random=random)
        self._silent_since_ms: int | None = None
        """Since when the server does not answer; None = it does."""

    async def pieces(self) -> AsyncGenerator[Piece]:
        """All of it, each stream in order, until the job is final. UpstreamError when the server refuses or stays away too long."""
        while True:
            async with aclosing(self._read(follow=True)) as found:
                async for piece in found:
                    yield piece
            if (await self.report()).state in FINAL:
                # What was written between the end of the reading and the job's own.
                async with aclosing(self._read(follow=False)) as found:
                    async for piece in found:
                        yield piece
                return
            # A job that is paused, or whose ranks are placed again; or the server has stopped and ended the reading without an error.
            await until_first(self._changed(), self._clock.sleep(LOOK_AGAIN_S))

    async def report(self) -> jobs_service_pb2.JobReport:
        """The job as it is now. UpstreamError as above."""
        request = jobs_service_pb2.GetRequest(job_id=self._job_id).SerializeToString()
        while True:
            try:
                answer = await self._upstream.unary(GET, request, self._metadata, _GET_TIMEOUT_S)
            except UpstreamError as error:
                await self._pause(error)
            else:
                self._answered()
                return jobs_service_pb2.GetResponse.FromString(answer).job

    async def _read(self, *, follow: bool) -> AsyncGenerator[Piece]:
        """What is not read yet; breaks of the connection are mended here."""
        while True:
            offsets = [
                jobs_service_pb2.FollowOffset(rank=rank, stream=stream, offset=offset) for (rank, stream), offset in self._offsets.items()
            ]
            request = jobs_service_pb2.FollowRequest(job_id=self._job_id, offsets=offsets, follow=follow)
            try:
                async with closing(self._upstream.stream(FOLLOW, request.SerializeToString(), self._metadata)) as chunks:
                    async for raw in chunks:
                        self._answered()
                        chunk = jobs_service_pb2.FollowResponse.FromString(raw)
                        for text in self._texts_of(chunk):
                            yield Piece(chunk.rank, chunk.stream == jobs_service_pb2.OUTPUT_STREAM_STDERR, text)
            except UpstreamError as error:
                await self._pause(error)
            else:
                return

    def _texts_of(self, chunk: jobs_service_pb2.FollowResponse) -> list[str]:
        place = (chunk.rank, chunk.stream)
        text = self._texts.setdefault(place, Text())
        known = self._offsets.get(place, 0)
        data = chunk.data
        if chunk.offset < known:
            data = data[known - chunk.offset :]
        elif chunk.offset > known:
            text.restart()
        self._offsets[place] = max(known, chunk.offset + len(chunk.data))
        return list(text.pieces(data))

    async def _changed(self) -> None:
        """Until something has happened to the job after its present state."""
        request = jobs_service_pb2.WatchRequest(job_id=self._job_id).SerializeToString()
        reports = 0
        try:
            async with closing(self._upstream.stream(WATCH, request, self._metadata)) as found:
                async for raw in found:
                    self._answered()
                    reports += 1
                    if reports == 2 or jobs_service_pb2.WatchResponse.FromString(raw).job.state in FINAL:
                        return
        except UpstreamError as error:
            await self._pause(error)
        else:  # the server ended it, which it does when it stops
            await self._clock.sleep(self._backoff.failed() / 1_000)

    def _answered(self) -> None:
        self._backoff.succeeded()
        self._silent_since_ms = None

    async def _pause(self, error: UpstreamError) -> None:
        """Before the server is asked again; raises the error when it is of no use to ask."""
        code = error.status.code
        now_ms = self._clock.now_ms()
        if self._silent_since_ms is None:
            self._silent_since_ms = now_ms
            _log.info("a job's output cannot be read right now, it goes on where it stopped", job_id=self._job_id, cause=str(error))
        hopeless = code not in _PASSING and (code not in _UNCLEAR or self._backoff.failures >= _FEW)
        if hopeless or now_ms - self._silent_since_ms >= PATIENCE_MS:
            raise error
        await self._clock.sleep(self._backoff.failed() / 1_000)
