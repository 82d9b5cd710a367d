"""What the pages see as it happens: the list of jobs, one job, a job's output. One WebSocket for each, for as long as the login holds.

Text messages are JSON: `{"jobs": …}`, `{"job": …}`, `{"error": why}`. Output comes as binary messages, byte for byte: rank (4 bytes),
stream (1; 1 = stdout, 2 = stderr), offset (8), then the data; numbers big-endian. The browser knows the offsets and asks from there on
after a cut.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing

import msgspec
import structlog
from serai.core.v1 import errors_pb2
from serai.jobs.v1 import jobs_service_pb2 as jobs_pb2
from serai.sessions.v1 import sessions_service_pb2 as sessions_pb2

from serai_gateway.clock import Clock
from serai_gateway.console import documents
from serai_gateway.console.calls import JOBS, Calls, Query, invalid
from serai_gateway.console.guard import OPERATOR, Guard, check_source, in_words
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone
from serai_gateway.tasks import cancel
from serai_gateway.upstream import HOLDER, SESSIONS, Upstream, UpstreamError, closing
from serai_gateway.ws.paths import SocketPath
from serai_gateway.ws.protocol import Rules
from serai_gateway.ws.socket import Socket

LOGGED_OUT = 4401
FAILED = 4500
"""Close codes of our own (RFC 6455 §7.4.2); the pages know them."""
LOOK_EVERY_S = 3.0
"""Between two looks for jobs that are new on the list."""
GATHER_S = 0.25
"""After a change, for others that come with it: many jobs may change at once."""
WATCHED = 50
"""Jobs of the list whose changes are shown at once."""
LONGEST_TAIL = 1024 * 1024
"""Bytes of each stream."""
_HEAD = struct.Struct(">IBQ")
_RULES = Rules(most_bytes=1024)

_log = structlog.stdlib.get_logger("serai_gateway.console")

Work = Callable[[], Awaitable[None]]


class Live:
    """The sockets."""

    def __init__(self, upstream: Upstream, guard: Guard, calls: Calls, clock: Clock) -> None:
        self._upstream = upstream
        self._guard = guard
        self._calls = calls
        self._clock = clock

    def paths(self) -> Iterable[SocketPath]:
        yield SocketPath("/console/live/jobs", self.jobs, _RULES)
        yield SocketPath("/console/live/job", self.job, _RULES)
        yield SocketPath("/console/live/output", self.output, _RULES)

    async def jobs(self, socket: Socket) -> None:
        """The first page of the list again and again, when something on it has changed."""

        async def work() -> None:
            request = Query(socket.query).list_request()
            await _JobList(self._calls, self._upstream, self._clock, request, socket).run()

        await self._serve(socket, work)

    async def job(self, socket: Socket) -> None:
        """A job now and after each change, until it is final."""

        async def work() -> None:
            request = jobs_pb2.WatchRequest(job_id=Query(socket.query).text("id"))
            async with aclosing(_reports(self._upstream, request)) as reports:
                async for report in reports:
                    await _say(socket, {"job": documents.job(report)})

        await self._serve(socket, work)

    async def output(self, socket: Socket) -> None:
        """A job's output until it ends: the last `tail` bytes of each stream, or from the offsets that `from` names."""

        async def work() -> None:
            query = Query(socket.query)
            request = jobs_pb2.FollowRequest(job_id=query.text("id"), ranks=query.numbers("ranks"), follow=True)
            if query.text("from"):
                request.offsets.extend(_offsets(query.text("from")))
            else:
                request.tail_bytes = query.number("tail", LONGEST_TAIL, 1, LONGEST_TAIL)
            async with aclosing(_pieces(self._upstream, request)) as pieces:
                async for piece in pieces:
                    await _send_piece(socket, piece)
            await _say(socket, {"ended": True})

        await self._serve(socket, work)

    async def _serve(self, socket: Socket, work: Work) -> None:
        """Accepts the socket of an operator, and does the work until it is done, the browser leaves, or the login ends."""
        try:
            check_source(socket.headers, changing=True)
            secret = self._guard.secret(socket.headers)
            held = await _hold(self._upstream, secret)
        except GatewayError as error:
            _log.warning("console refused", path=socket.path, reason=error.row.name, why=error.why)
            await socket.refuse(error)
            return
        async with closing(held) as login:
            await socket.accept()
            working = asyncio.ensure_future(_worked(socket, work))
            leaving = asyncio.ensure_future(_until_left(socket))
            ending = asyncio.ensure_future(_until_over(login))
            tasks = {working, leaving, ending}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel(tasks)
            if ending.done() and not ending.cancelled() and ending.result():
                await socket.close(LOGGED_OUT, "logged out")
        if working.done() and not working.cancelled():
            working.result()


class _JobList:
    """One page of jobs as it changes. Those that are not final are watched; who is new is looked for now and then."""

    def __init__(self, calls: Calls, upstream: Upstream, clock: Clock, request: jobs_pb2.ListRequest, socket: Socket) -> None:
        self._calls = calls
        self._upstream = upstream
        self._clock = clock
        self._request = request.SerializeToString()
        self._socket = socket
        self._changed = asyncio.Event()

    async def run(self) -> None:
        last = b""
        while True:
            self._changed.clear()
            answer = jobs_pb2.ListResponse.FromString(await self._calls.ask(JOBS + "List", self._request))
            utilization = await self._calls.utilization(Query(b""))
            said = msgspec.json.encode({"jobs": documents.jobs(answer), "utilization": utilization})
            if said != last:
                await self._socket.send(said.decode())
            last = said
            await self._wait([report for report in answer.jobs if not report.HasField("ended_at_ms")][:WATCHED])

    async def _wait(self, active: list[jobs_pb2.JobReport]) -> None:
        """Until one of these jobs has changed, or it is time to look for new ones."""
        watching = [asyncio.ensure_future(self._watch(report)) for report in active]
        pausing = asyncio.ensure_future(self._clock.sleep(LOOK_EVERY_S))
        noticing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({pausing, noticing}, return_when=asyncio.FIRST_COMPLETED)
            if noticing.done():
                await self._clock.sleep(GATHER_S)
        finally:
            await cancel({*watching, pausing, noticing})

    async def _watch(self, report: jobs_pb2.JobReport) -> None:
        seen = _telling(report)
        try:
            async with aclosing(_reports(self._upstream, jobs_pb2.WatchRequest(job_id=report.id))) as reports:
                async for now in reports:
                    if _telling(now) != seen:
                        self._changed.set()
                        return
        except (GatewayError, UpstreamError):
            return  # the next look at the list tells


def _telling(report: jobs_pb2.JobReport) -> tuple[object, ...]:
    """What the list shows of a job."""
    return report.state, report.status, report.stopping, report.charged_periods


async def _hold(upstream: Upstream, secret: str) -> AsyncIterator[bytes]:
    """A stream that ends with the login. GatewayError when it does not hold now."""
    request = sessions_pb2.HoldRequest(secret=secret, kind=sessions_pb2.SESSION_KIND_CONSOLE)
    stream = upstream.stream(SESSIONS + "Hold", request.SerializeToString(), HOLDER)
    try:
        await anext(stream)
    except UpstreamError as error:
        raise in_words(error) from error
    except StopAsyncIteration as error:
        raise GatewayError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, "This login is over") from error
    return stream


async def _until_over(login: AsyncIterator[bytes]) -> bool:
    """Returns when the login is over; false = nobody knows whether it holds, and the page asks again."""
    try:
        async for _ in login:
            pass
    except UpstreamError:
        return False
    return True


async def _until_left(socket: Socket) -> None:
    """The pages say nothing on these sockets."""
    while await socket.receive() is not None:
        pass


async def _worked(socket: Socket, work: Work) -> None:
    """What goes wrong is told to the page, and ends the socket."""
    try:
        await work()
    except ClientGone:
        return
    except UpstreamError as error:
        told = in_words(error)
        if not isinstance(told, GatewayError):
            raise
        await _fail(socket, told)
    except GatewayError as error:
        await _fail(socket, error)


async def _fail(socket: Socket, error: GatewayError) -> None:
    try:
        await _say(socket, {"error": error.words, "reason": error.row.name})
        await socket.close(FAILED, error.row.name)
    except ClientGone:
        return


async def _say(socket: Socket, message: dict[str, object]) -> None:
    await socket.send(msgspec.json.encode(message).decode())


async def _send_piece(socket: Socket, piece: jobs_pb2.FollowResponse) -> None:
    await socket.send(_HEAD.pack(piece.rank, piece.stream, piece.offset) + piece.data)


async def _reports(upstream: Upstream, request: jobs_pb2.WatchRequest) -> AsyncGenerator[jobs_pb2.JobReport]:
    async with closing(upstream.stream(JOBS + "Watch", request.SerializeToString(), OPERATOR)) as answers:
        async for answer in answers:
            yield jobs_pb2.WatchResponse.FromString(answer).job


async def _pieces(upstream: Upstream, request: jobs_pb2.FollowRequest) -> AsyncGenerator[jobs_pb2.FollowResponse]:
    async with closing(upstream.stream(JOBS + "Follow", request.SerializeToString(), OPERATOR)) as answers:
        async for answer in answers:
            yield jobs_pb2.FollowResponse.FromString(answer)


def _offsets(text: str) -> list[jobs_pb2.FollowOffset]:
    """ "0.1.500,0.2.10": rank, stream and offset of each."""
    found: list[jobs_pb2.FollowOffset] = []
    for part in text.split(","):
        numbers = part.split(".")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
            raise invalid("from: expected rank.stream.offset with commas between them")
        rank, stream, offset = (int(number) for number in numbers)
        if rank >= 2**31 or stream not in (1, 2):
            raise invalid("from: there is no such rank or stream")
        kind = jobs_pb2.OUTPUT_STREAM_STDOUT if stream == 1 else jobs_pb2.OUTPUT_STREAM_STDERR
        found.append(jobs_pb2.FollowOffset(rank=rank, stream=kind, offset=offset))
    return found
