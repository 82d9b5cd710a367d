"""The client for plain code, without asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Self, TypeVar, Unpack

import grpc

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

A = TypeVar("A")
Q = TypeVar("Q")
R = TypeVar("R")


class Client:
    """One connection to Serai with all its services. May be used by many threads.

    Each call carries the token, and a time-out when it has none of its own. Leaving the `with` block ends the connection and every call in
    flight.
    """

    def __init__(self, address: str, **options: Unpack[Options]) -> None:
        """For an `address`: https://host[:port], http://host[:port] without TLS, or unix:/path/of/socket.

        Nothing is sent before the first call. A token is refused on an http:// address of another machine, where anybody on the way could
        read it. Raises ValueError, and OSError for a file that cannot be read.
        """
        place = place_of(address, options)
        plain = (
            grpc.insecure_channel(place.target, CHANNEL)
            if place.credentials is None
            else grpc.secure_channel(place.target, place.credentials, CHANNEL)
        )
        self._own = plain
        self._closed = False
        self._patience_s = options.get("patience_s", 60.0)
        self.channel = grpc.intercept_channel(plain, _OnEachCall(options))
        """What the stubs use: for services that have no attribute here, such as health and reflection."""
        self.jobs = JobsServiceStub(self.channel)
        self.events = EventsServiceStub(self.channel)
        self.sessions = SessionsServiceStub(self.channel)
        self.licenses = LicensesServiceStub(self.channel)
        self.license_servers = LicenseServersServiceStub(self.channel)
        self.tokens = TokensServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        self._own.close()

    def watch(self, job_id: str) -> Generator[pb.JobReport]:
        """The job's report now and after each change, up to the one that is final. After a break the present report comes once more."""
        last = pb.JobReport()

        def open_() -> Iterator[pb.WatchResponse]:
            return self.jobs.Watch(pb.WatchRequest(job_id=job_id))

        with closing(self._resumed(open_, lambda: is_final(last.state))) as answers:
            for answer in answers:
                last = answer.job
                yield last

    def until_final(self, job_id: str) -> pb.JobReport:
        """Wait until the job is over; its last report."""
        last = pb.JobReport()
        for report in self.watch(job_id):
            last = report
        return last

    def follow(
        self, job_id: str, *, follow: bool = True, ranks: Iterable[int] = (), offsets: Iterable[pb.FollowOffset] = (), tail_bytes: int = 0
    ) -> Generator[pb.FollowResponse]:
        """What the job writes, byte for byte, from its beginning or the given offsets: with `follow` to the end of the output, over broken
        connections and restarts of the server. No byte is lost and none comes twice; DATA_LOSS is raised if the server leaves some out.

        To go on in another process, keep `offset + len(data)` of the last piece of each rank and stream, and give them as `offsets`.
        """
        places, only = Places(offsets, tail=tail_bytes > 0), list(ranks)

        def open_() -> Iterator[pb.FollowResponse]:
            request = pb.FollowRequest(job_id=job_id, follow=follow, ranks=only, offsets=places.offsets(), tail_bytes=tail_bytes)
            return self.jobs.Follow(request)

        with closing(self._resumed(open_)) as pieces:
            for piece in pieces:
                new = places.new_of(piece)
                if new is not None:
                    yield new

    def _resumed(self, open_: Callable[[], Iterator[A]], over: Callable[[], bool] = lambda: True) -> Generator[A]:
        """`over`: whether a stream that ended well told everything."""
        retry = Retry(self._patience_s)
        while True:
            answers = open_()
            try:
                for answer in answers:
                    retry.heard()
                    yield answer
                if over():
                    return
                error = stopped()
            except grpc.RpcError as broken:
                error = broken
            finally:
                # Ends the call at the server when its answers are wanted no more.
                if isinstance(answers, grpc.Call):
                    answers.cancel()
            if not self._closed:
                time.sleep(retry.wait_s(error))
            if self._closed:
                raise error


@dataclass(frozen=True, slots=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _OnEachCall(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Token and time-out."""

    def __init__(self, options: Options) -> None:
        token = options.get("token", "")
        self._added = (("authorization", f"Bearer {token}"),) if token else ()
        self._timeout_s = options.get("call_timeout_s", 30.0)

    def intercept_unary_unary(
        self, continuation: Callable[[grpc.ClientCallDetails, Q], R], client_call_details: grpc.ClientCallDetails, request: Q
    ) -> R:
        return continuation(self._with(client_call_details, self._timeout_s), request)

    def intercept_unary_stream(
        self, continuation: Callable[[grpc.ClientCallDetails, Q], R], client_call_details: grpc.ClientCallDetails, request: Q
    ) -> R:
        return continuation(self._with(client_call_details), request)

    def intercept_stream_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Iterator[Q]], R],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Q],
    ) -> R:
        return continuation(self._with(client_call_details), request_iterator)

    def intercept_stream_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Iterator[Q]], R],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Q],
    ) -> R:
        return continuation(self._with(client_call_details), request_iterator)

    def _with(self, details: grpc.ClientCallDetails, timeout_s: float | None = None) -> _Details:
        given = details.timeout
        return _Details(
            details.method,
            timeout_s if given is None else given,
            (*(details.metadata or ()), *self._added),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
