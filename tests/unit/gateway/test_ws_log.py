"""A job's output for those who watch it: every byte once, whatever breaks in between, until the job is really over."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager

from fakes.clock import FakeClock
from fakes.gateway_logs import ERR, IN_QUEUE, OUT, RUNNING, SUCCESS, FakeJob, FakeLogs
from google.rpc import code_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from serai_gateway.upstream import UpstreamError
from serai_gateway.ws.log import PATIENCE_MS, Log

Read = dict[tuple[int, bool], str]


class Reader:
    """Reads a log in the background, while a test moves the clock."""

    def __init__(self, server: FakeLogs, clock: FakeClock) -> None:
        self.texts: Read = defaultdict(str)
        self.pieces: list[str] = []
        self.ended = False
        self.error: UpstreamError | None = None
        self._clock = clock
        self._log = Log(server, clock, lambda: 0.5, "1", {"serai-caller": "core"})

    async def run(self) -> None:
        try:
            async with aclosing(self._log.pieces()) as pieces:
                async for piece in pieces:
                    self.texts[piece.rank, piece.stderr] += piece.text
                    self.pieces.append(piece.text)
        except UpstreamError as error:
            self.error = error
        self.ended = True

    async def settle(self, *, ms: int = 0) -> None:
        """Lets everything happen that can happen, with the clock moved by `ms` in steps."""
        for _ in range(50):
            await asyncio.sleep(0)
            self._clock.move(ms // 50)

    async def until_ended(self) -> None:
        async with asyncio.timeout(20):
            while not self.ended:
                await self.settle(ms=5_000)


@asynccontextmanager
async def reading(server: FakeLogs) -> AsyncGenerator[Reader]:
    clock = FakeClock()
    reader = Reader(server, clock)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert server.open_follows == 0  # nothing is left open at the server


def job(**kwargs: object) -> FakeJob:
    made = FakeJob(replicas=3)
    for rank in range(3):
        made.write(f"ø{rank}€ out\n".encode() * 50, rank, OUT)
        made.write(f"err {rank}\n".encode() * 30, rank, ERR)
    return made


def expected(made: FakeJob) -> Read:
    return {(rank, stream == ERR): bytes(data).decode("utf-8", "ignore") for (rank, stream), data in made.written.items()}


async def test_a_finished_job_is_read_whole() -> None:
    """Every rank, both streams, from the first byte, and then the end."""
    made = job()
    made.become(SUCCESS)
    async with reading(FakeLogs(jobs={"1": made})) as reader:
        await reader.until_ended()
    assert reader.texts == expected(made)
    assert reader.error is None


async def test_a_running_job_is_read_as_it_writes() -> None:
    """Pieces come at once; it ends when the job does, with what was written last."""
    made = FakeJob()
    async with reading(FakeLogs(jobs={"1": made})) as reader:
        made.write("€".encode()[:1])
        await reader.settle()
        assert reader.pieces == []
        made.write("€".encode()[1:])
        await reader.settle()
        assert reader.pieces == ["€"]
        made.write(b"last")
        made.become(SUCCESS)
        await reader.until_ended()
    assert reader.pieces == ["€", "last"]


async def test_output_that_ends_before_the_job_is_not_the_end() -> None:
    """A paused job, or one whose ranks are placed again: when the job changes its output is looked at again, and what is new is told."""
    made = FakeJob(over=True)
    made.write(b"one ")
    async with reading(FakeLogs(jobs={"1": made})) as reader:
        await reader.settle()
        made.write(b"two ")
        made.become(RUNNING)
        await reader.settle()
        assert (reader.pieces, reader.ended) == (["one ", "two "], False)
        made.write(b"three")
        made.become(SUCCESS)
        await reader.until_ended()
    assert reader.pieces == ["one ", "two ", "three"]


async def test_a_reading_that_ends_without_an_error_is_taken_up_again() -> None:
    """As a server may end it that is being stopped: the job writes on and nothing of it changes."""
    made = FakeJob(over=True)
    made.write(b"one ")
    async with reading(FakeLogs(jobs={"1": made})) as reader:
        await reader.settle()
        made.over = False
        made.written[0, OUT] += b"two"
        await reader.settle()
        assert reader.pieces == ["one "]
        await reader.settle(ms=6_000)
        assert reader.pieces == ["one ", "two"]


async def test_what_comes_between_the_end_of_reading_and_the_jobs_is_not_lost() -> None:
    """Once the job is final its output is read to the end once more."""
    made = FakeJob(over=True)
    made.write(b"one")
    server = FakeLogs(jobs={"1": made})
    async with reading(server) as reader:
        await reader.settle()
        made.write(b" two")
        made.state = SUCCESS
        made.tell()
        await reader.until_ended()
    assert "".join(reader.pieces) == "one two"
    assert not server.asked[-1].follow


async def test_a_job_in_the_queue_is_waited_for() -> None:
    """Nothing, and no end."""
    made = FakeJob(state=IN_QUEUE)
    async with reading(FakeLogs(jobs={"1": made})) as reader:
        await reader.settle(ms=1_000_000)
        assert not reader.ended
        made.become(RUNNING)
        made.write(b"x")
        await reader.settle()
        assert reader.pieces == ["x"]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 90),
    st.dictionaries(
        st.tuples(st.integers(0, 2), st.sampled_from([OUT, ERR])), st.binary(max_size=300) | st.text(max_size=150).map(str.encode)
    ),
)
def test_breaks_lose_and_repeat_nothing(cut_after: int, chunk_bytes: int, written: dict[tuple[int, int], bytes]) -> None:
    """The connection breaks after every few chunks, chunks end inside characters: each stream's text is that of its bytes."""

    async def run() -> None:
        made = FakeJob(replicas=3, state=SUCCESS, over=True)
        for (rank, stream), data in written.items():
            made.written[rank, OUT if stream == OUT else ERR] = bytearray(data)
        server = FakeLogs(jobs={"1": made}, cut_after=cut_after, chunk_bytes=chunk_bytes)
        async with reading(server) as reader:
            await reader.until_ended()
        assert reader.error is None
        assert reader.texts == {place: text for place, text in expected(made).items() if text}

    asyncio.run(run())


async def test_a_server_that_is_away_for_minutes_is_waited_for() -> None:
    """An upgrade in the middle: the user sees a pause."""
    made = FakeJob()
    made.write(b"before ")
    server = FakeLogs(jobs={"1": made})
    async with reading(server) as reader:
        await reader.settle()
        server.down = True
        made.tell()
        await reader.settle(ms=PATIENCE_MS - 20_000)
        assert not reader.ended
        server.down = False
        made.write(b"after")
        made.become(SUCCESS)
        await reader.until_ended()
    assert "".join(reader.pieces) == "before after"


async def test_a_server_that_stays_away_ends_it() -> None:
    """With its last error."""
    server = FakeLogs(jobs={"1": FakeJob()}, down=True)
    async with reading(server) as reader:
        await reader.settle(ms=PATIENCE_MS // 2)
        assert not reader.ended
        await reader.until_ended()
    assert reader.error is not None
    assert reader.error.status.code == code_pb2.UNAVAILABLE


async def test_an_unknown_job_ends_it_at_once() -> None:
    """The server's own words; nothing is tried again."""
    server = FakeLogs()
    async with reading(server) as reader:
        await reader.settle()
        assert reader.ended
    assert reader.error is not None
    assert "no job '1' is known here" in reader.error.status.message
    assert len(server.asked) == 1


async def test_an_error_inside_the_server_is_tried_a_few_times() -> None:
    """It may have been the connection's end; it is not hammered."""

    class Broken(FakeLogs):
        async def stream(self, method: str, request: bytes, metadata: Mapping[str, str]) -> AsyncGenerator[bytes]:
            self.chunks += 1
            raise UpstreamError(status_pb2.Status(code=code_pb2.INTERNAL, message="internal"))
            yield b""

    server = Broken(jobs={"1": FakeJob()})
    async with reading(server) as reader:
        await reader.until_ended()
    assert reader.error is not None
    assert server.chunks == 4


async def test_a_reader_that_does_not_read_is_not_read_for() -> None:
    """The source waits: nothing is taken from it that nobody has asked for."""
    made = FakeJob()
    made.write(b"x" * 50_000_000)
    server = FakeLogs(jobs={"1": made})
    log = Log(server, FakeClock(), lambda: 0.5, "1", {})
    async with aclosing(log.pieces()) as pieces:
        for _ in range(3):
            await anext(pieces)
        for _ in range(100):
            await asyncio.sleep(0)
    assert server.chunks == 2
