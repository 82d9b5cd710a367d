"""A server with one job, whose log it sends two bytes at a time, and that breaks off whenever it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai_client.api.jobs.v1 import jobs_service_pb2 as pb
from serai_client.api.jobs.v1.job_pb2 import JOB_STATE_IN_QUEUE, JOB_STATE_SUCCESS
from serai_client.api.jobs.v1.jobs_service_pb2_grpc import JobsServiceServicer, add_JobsServiceServicer_to_server

Break = tuple[grpc.StatusCode, str]
"""A code, and Serai's reason; an empty one = grpc itself speaks."""
AWAY: Break = (grpc.StatusCode.UNAVAILABLE, "")
RESET: Break = (grpc.StatusCode.INTERNAL, "")
DROPPED: Break = (grpc.StatusCode.CANCELLED, "")
SILENT_END: Break = (grpc.StatusCode.OK, "")
"""The stream ends well before everything was told."""

Context = grpc.aio.ServicerContext[object, object]


@dataclass
class FakeSerai(JobsServiceServicer):
    log: bytes = b""
    breaks: Sequence[Break] = ()
    """One for each call of a stream; none = to the end."""
    back: int = 0
    """Bytes that it goes back behind the offset that was asked for; below 0 = it leaves some out."""
    quiet_s: float | None = None
    """Streams that break are open for so long and tell nothing; None = they tell the beginning."""
    streams: int = 0
    ended: asyncio.Queue[bool] = field(default_factory=asyncio.Queue[bool])
    """Of each stream, when it is over: whether its caller ended it."""
    metadata: dict[str, str | bytes] = field(default_factory=dict[str, "str | bytes"])
    left_s: float = 0

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.GetResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        self.left_s = context.time_remaining()
        return pb.GetResponse()

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        reports = [pb.WatchResponse(job=pb.JobReport(state=state)) for state in (JOB_STATE_IN_QUEUE, JOB_STATE_SUCCESS)]
        end = self._next()
        if end and self.quiet_s is not None:
            await _open(context, self.quiet_s)
        else:
            for report in reports[: 1 if end else 2]:
                yield report
        await _broken(context, end)

    async def Follow(self, request: pb.FollowRequest, context: Context) -> AsyncIterator[pb.FollowResponse]:
        end = self._next()
        begin = max(request.offsets[0].offset - self.back, 0) if request.offsets else 0
        places = range(begin, len(self.log), 2)
        left = True
        try:
            if end and self.quiet_s is not None:
                await _open(context, self.quiet_s)
                places = range(0)
            for place in places[:3] if end else places:
                yield pb.FollowResponse(stream=pb.OUTPUT_STREAM_STDOUT, offset=place, data=self.log[place : place + 2])
            left = False
        finally:
            self.ended.put_nowait(left)
        await _broken(context, end)

    def _next(self) -> Break | None:
        self.streams += 1
        return self.breaks[self.streams - 1] if self.streams <= len(self.breaks) else None


async def _open(context: Context, quiet_s: float) -> None:
    """As the server does with a stream that has nothing to tell."""
    await context.send_initial_metadata((("serai-stream", "open"),))
    await asyncio.sleep(quiet_s)


async def _broken(context: Context, end: Break | None) -> None:
    if end is None or end == SILENT_END:
        return
    code, reason = end
    if not reason:
        await context.abort(code, "in words")
    info = AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(domain="serai", reason=reason))
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message="in words", details=[info])
    await context.abort(code, "in words", (("grpc-status-details-bin", status.SerializeToString()),))


@asynccontextmanager
async def serving(fake: FakeSerai, folder: Path) -> AsyncGenerator[str]:
    """Its address, until the block ends."""
    address = f"unix:{folder / 's'}"
    server = grpc.aio.server()
    add_JobsServiceServicer_to_server(fake, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)
