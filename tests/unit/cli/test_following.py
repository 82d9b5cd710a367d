"""Following a job's output over connections that break: every byte once, and in order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NoReturn

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai_server.cli.following import Places, followed

OUT, ERR = pb.OUTPUT_STREAM_STDOUT, pb.OUTPUT_STREAM_STDERR
STREAMS = [(rank, stream) for rank in range(2) for stream in (OUT, ERR)]


class Broken(grpc.RpcError, grpc.Call):  # pyright: ignore[reportIncompatibleMethodOverride]  # as grpc itself has it
    """What a call ends with."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "Socket closed"

    def initial_metadata(self) -> NoReturn:
        raise NotImplementedError

    trailing_metadata = is_active = time_remaining = cancel = add_callback = initial_metadata  # pyright: ignore[reportAssignmentType]  # nobody asks


class Server:
    """Answers Follow from offsets on, as the real one does, and breaks after so many pieces of each call; `early` = it gives some bytes
    again that were asked to be left out, as another version might."""

    def __init__(self, streams: dict[tuple[int, pb.OutputStream.ValueType], bytes], breaks: Sequence[int], piece: int, early: int) -> None:
        self.streams, self._breaks, self._piece, self._early = streams, list(breaks), piece, early
        self.asked: list[pb.FollowRequest] = []

    def follow(self, request: pb.FollowRequest) -> Iterator[pb.FollowResponse]:
        self.asked.append(request)
        left = self._breaks.pop(0) if self._breaks else None
        asked = {(o.rank, o.stream): max(o.offset - self._early, 0) for o in request.offsets}
        places = {key: asked.get(key, 0) for key in self.streams if not request.ranks or key[0] in request.ranks}
        while any(places[key] < len(self.streams[key]) for key in places):
            for (rank, stream), place in places.items():
                data = self.streams[rank, stream][place : place + self._piece]
                if left == 0:
                    raise Broken(grpc.StatusCode.UNAVAILABLE)
                left = None if left is None else left - 1
                if data:
                    yield pb.FollowResponse(rank=rank, stream=stream, offset=place, data=data)
                places[rank, stream] += len(data)
        if left is not None:
            raise Broken(grpc.StatusCode.UNAVAILABLE)


def nothing(_: object) -> None:
    """Who is told, or waits, and does not care."""


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=4, max_size=4), st.lists(st.integers(0, 30), max_size=8), st.integers(1, 70), st.integers(0, 40)
)
def test_each_stream_is_whole(lengths: list[int], breaks: list[int], piece: int, early: int) -> None:
    """However often and wherever it breaks, and whatever is given twice."""
    data = random.Random(1)
    streams = {key: data.randbytes(length) for key, length in zip(STREAMS, lengths, strict=True)}
    server = Server(streams, breaks, piece, early)
    seen = dict.fromkeys(STREAMS, b"")
    for got in followed(server.follow, pb.FollowRequest(job_id="1", follow=True), nothing, nothing):
        key = (got.rank, got.stream)
        assert got.offset == len(seen[key])
        seen[key] += got.data
    assert seen == streams
    assert len(server.asked) == len(breaks) + 1
    assert all(asked.job_id == "1" and asked.follow for asked in server.asked)


def test_it_waits_longer_and_longer_and_says_so_once() -> None:
    """Up to some seconds; output in between makes it begin anew."""
    server = Server({(0, OUT): b"abcd"}, [0] * 8 + [2] + [0] * 2, 1, 0)
    waits: list[float] = []
    told: list[grpc.Call] = []
    got = b"".join(p.data for p in followed(server.follow, pb.FollowRequest(job_id="1"), waits.append, told.append))
    assert got == b"abcd"
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 0.2, 0.4, 0.8]
    assert len(told) == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL])
def test_what_does_not_pass_by_itself_is_not_tried_again(code: grpc.StatusCode) -> None:
    """It is the command's error, after what had come."""

    def follow(request: pb.FollowRequest) -> Iterator[pb.FollowResponse]:
        yield pb.FollowResponse(rank=0, stream=OUT, data=b"x")
        raise Broken(code)

    got = followed(follow, pb.FollowRequest(job_id="1"), nothing, nothing)
    assert next(got).data == b"x"
    with pytest.raises(Broken):
        next(got)


def test_a_piece_that_is_new_in_part() -> None:
    """Its new bytes, with their own place; what is all known is nothing."""
    places = Places()
    assert places.new_of(pb.FollowResponse(rank=1, stream=ERR, offset=0, data=b"abc")) is not None
    assert places.new_of(pb.FollowResponse(rank=1, stream=ERR, offset=1, data=b"bc")) is None
    new = places.new_of(pb.FollowResponse(rank=1, stream=ERR, offset=2, data=b"cde"))
    assert new == pb.FollowResponse(rank=1, stream=ERR, offset=3, data=b"de")
    assert places.offsets() == [pb.FollowOffset(rank=1, stream=ERR, offset=5)]
