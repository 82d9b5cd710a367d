"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio

from serai_client.again import Places, Retry
from serai_client.api.events.v1.events_service_pb2_grpc import EventsServiceStub
from serai_client.api.jobs.v1 import jobs_service_pb2 as pb
from serai_client.api.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai_client.api.licenses.v1.license_servers_service_pb2_grpc import LicenseServersServiceStub
from serai_client.api.licenses.v1.licenses_service_pb2_grpc import LicensesServiceStub
from serai_client.api.sessions.v1.sessions_service_pb2_grpc import SessionsServiceStub
from serai_client.api.tokens.v1.tokens_service_pb2_grpc import TokensServiceStub
from serai_client.errors import stopped
from serai_client.job import is_final
from serai_client.options import CHANNEL, Options, place_of

Q = TypeVar("Q")
A = TypeVar("A")


class AsyncClient:
    """One connection to Serai with all its services; belongs to the event loop in which it was made.

    Each call carries the token, and a time-out when it has none of its own. Leaving the `async with` block ends the connection and every
    call in flight. Cancelling a task ends its call at the server.
    """

    def __init__(self, address: str, **options: Unpack[Options]) -> None:
        """As Client's, in a running event loop."""
        place = place_of(address, options)
        interceptors = _on_each_call(options)
        self.channel = (
            grpc.aio.insecure_channel(place.target, CHANNEL, interceptors=interceptors)
            if place.credentials is None
            else grpc.aio.secure_channel(place.target, place.credentials, CHANNEL, interceptors=interceptors)
        )
        """What the stubs use: for services that have no attribute here, such as health and reflection."""
        self._closed = False
        self._patience_s = options.get("patience_s", 60.0)
        self.jobs = JobsServiceStub(self.channel)
        self.events = EventsServiceStub(self.channel)
        self.sessions = SessionsServiceStub(self.channel)
        self.licenses = LicensesServiceStub(self.channel)
        self.license_servers = LicenseServersServiceStub(self.channel)
        self.tokens = TokensServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        await self.channel.close()

    async def watch(self, job_id: str) -> AsyncGenerator[pb.JobReport]:
        """The job's report now and after each change, up to the one that is final. After a break the present report comes once more."""
        last = pb.JobReport()

        def open_() -> grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse]:
            return self.jobs.Watch(pb.WatchRequest(job_id=job_id))

        async with aclosing(self._resumed(open_, lambda: is_final(last.state))) as answers:
            async for answer in answers:
                last = answer.job
                yield last

    async def until_final(self, job_id: str) -> pb.JobReport:
        """Wait until the job is over; its last report."""
        last = pb.JobReport()
        async with aclosing(self.watch(job_id)) as reports:
            async for report in reports:
                last = report
        return last

    async def follow(
        self, job_id: str, *, follow: bool = True, ranks: Iterable[int] = (), offsets: Iterable[pb.FollowOffset] = (), tail_bytes: int = 0
    ) -> AsyncGenerator[pb.FollowResponse]:
        """As Client.follow. Whoever leaves the loop early closes the generator (`contextlib.aclosing`), which ends the call."""
        places, only = Places(offsets, tail=tail_bytes > 0), list(ranks)

        def open_() -> grpc.aio.UnaryStreamCall[pb.FollowRequest, pb.FollowResponse]:
            request = pb.FollowRequest(job_id=job_id, follow=follow, ranks=only, offsets=places.offsets(), tail_bytes=tail_bytes)
            return self.jobs.Follow(request)

        async with aclosing(self._resumed(open_)) as pieces:
            async for piece in pieces:
                new = places.new_of(piece)
                if new is not None:
                    yield new

    async def _resumed(
        self, open_: Callable[[], grpc.aio.UnaryStreamCall[Q, A]], over: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[A]:
        """As Client's."""
        retry = Retry(self._patience_s)
        while True:
            answers = open_()
            try:
                async for answer in answers:
                    retry.heard()
                    yield answer
                if over():
                    return
                error = stopped()
            except grpc.aio.AioRpcError as broken:
                error = broken
            finally:
                # Ends the call at the server when its answers are wanted no more.
                answers.cancel()
            if not self._closed:
                await asyncio.sleep(retry.wait_s(error))
            if self._closed:
                raise error


def _on_each_call(options: Options) -> list[grpc.aio.ClientInterceptor]:
    """Token and time-out. grpc.aio takes an interceptor for one shape of calls only, the first that it finds in the class."""
    token = options.get("token", "")
    added = (("authorization", f"Bearer {token}"),) if token else ()
    add = _Added(added, options.get("call_timeout_s", 30.0))
    return [_UnaryUnary(add), _UnaryStream(add), _StreamUnary(add), _StreamStream(add)]


class _Added:
    def __init__(self, metadata: tuple[tuple[str, str], ...], timeout_s: float) -> None:
        self._metadata = metadata
        self._timeout_s = timeout_s

    def to(self, details: grpc.aio.ClientCallDetails, *, timeout: bool = False) -> grpc.aio.ClientCallDetails:
        return grpc.aio.ClientCallDetails(
            details.method,
            self._timeout_s if timeout and details.timeout is None else details.timeout,
            grpc.aio.Metadata(*(details.metadata or ()), *self._metadata),
            details.credentials,
            details.wait_for_ready,
        )


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, added: _Added) -> None:
        self._added = added

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Q], Awaitable[grpc.aio.UnaryUnaryCall[Q, A]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Q,
    ) -> grpc.aio.UnaryUnaryCall[Q, A]:
        return await continuation(self._added.to(client_call_details, timeout=True), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, added: _Added) -> None:
        self._added = added

    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Q], Awaitable[grpc.aio.UnaryStreamCall[Q, A]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Q,
    ) -> grpc.aio.UnaryStreamCall[Q, A]:
        return await continuation(self._added.to(client_call_details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, added: _Added) -> None:
        self._added = added

    async def intercept_stream_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, AsyncIterable[Q] | Iterable[Q]], Awaitable[grpc.aio.StreamUnaryCall[Q, A]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[Q] | Iterable[Q],
    ) -> grpc.aio.StreamUnaryCall[Q, A]:
        return await continuation(self._added.to(client_call_details), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, added: _Added) -> None:
        self._added = added

    async def intercept_stream_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, AsyncIterable[Q] | Iterable[Q]], Awaitable[grpc.aio.StreamStreamCall[Q, A]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[Q] | Iterable[Q],
    ) -> grpc.aio.StreamStreamCall[Q, A]:
        return await continuation(self._added.to(client_call_details), request_iterator)
