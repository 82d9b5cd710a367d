"""Wishes for output: what is wrong with one is said before anything is read, and where each stream begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from fakes.backends import InstantBackend
from fakes.jobs import stored_job
from serai.jobs.v1.jobs_service_pb2 import OUTPUT_STREAM_STDOUT, FollowRequest
from serai_backends.model import LogChunk, ReplicaSpec, Resources, Stream
from serai_server.errors import InvalidRequest
from serai_server.jobs.output import Output
from serai_server.jobs.registry import Registry


@pytest.mark.parametrize(
    ("replicas", "ranks", "words"),
    [
        (3, [7], "rank 7: this job has ranks 0 to 2"),
        (3, [0, 3], "rank 3: this job has ranks 0 to 2"),
        (3, [-1], "rank -1: this job has ranks 0 to 2"),
        (1, [1], "rank 1: this job has only rank 0"),
    ],
)
async def test_a_rank_that_the_job_lacks(replicas: int, ranks: list[int], words: str) -> None:
    """The rank that was asked for and those that there are."""
    output = Output(InstantBackend(), Registry())
    with pytest.raises(InvalidRequest) as caught:
        async for _ in output.read(stored_job(replicas=replicas), FollowRequest(job_id="54112", ranks=ranks)):
            pass
    assert (caught.value.text, caught.value.field) == (words, "ranks")


async def test_a_tail_below_nothing() -> None:
    """Is refused by its name."""
    output = Output(InstantBackend(), Registry())
    with pytest.raises(InvalidRequest) as caught:
        async for _ in output.read(stored_job(), FollowRequest(job_id="54112", tail_bytes=-1)):
            pass
    assert (caught.value.text, caught.value.field) == ("expected 0 or more bytes", "tail_bytes")


async def test_the_end_of_each_stream_but_of_those_with_an_offset() -> None:
    """A reader who comes back has offsets of some streams; the others begin near their end. Offsets are places in the whole stream."""
    backend, job = InstantBackend(), stored_job(replicas=2)
    await backend.submit(
        ReplicaSpec(
            job_id=job.id,
            replicas=2,
            argv=("print", "0123456789", "exit", "0"),
            environment=(),
            resources=Resources(cpu=1, memory_bytes=1),
            output_folder="drive/job",
        )
    )
    request = FollowRequest(job_id=job.id, tail_bytes=3)
    request.offsets.add(rank=1, stream=OUTPUT_STREAM_STDOUT, offset=2)
    found = [(piece.rank, piece.offset, piece.data) async for piece in Output(backend, Registry()).read(job, request)]
    assert sorted(found) == [(0, 7, b"789"), (1, 2, b"23456789")]


async def test_a_reader_who_takes_one_piece_and_leaves() -> None:
    """Little is read ahead, and every source is closed when the reader is gone, not some time later."""

    class Endless(InstantBackend):
        given_bytes = 0
        sources = 0

        async def logs(
            self,
            job_id: str,
            rank: int,
            stream: Stream,
            offset: int = 0,
            *,
            tail: int | None = None,
            follow: bool = False,
            output_folder: str = "",
        ) -> AsyncGenerator[LogChunk]:
            self.sources += 1
            try:
                while True:
                    self.given_bytes += 65_536
                    yield LogChunk(offset, b"x" * 65_536)
                    offset += 65_536
            finally:
                self.sources -= 1

    backend = Endless()
    async with aclosing(Output(backend, Registry()).read(stored_job(), FollowRequest(job_id="54112"))) as pieces:
        await anext(pieces)
        for _ in range(100):
            await asyncio.sleep(0)
        assert backend.sources == 2
        # One piece was taken, four wait, and each of the two streams has one in its hand.
        assert backend.given_bytes <= 7 * 65_536
    assert backend.sources == 0
