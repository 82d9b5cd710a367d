"""The last of a job's output, whatever its pieces are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from serai.jobs.v1 import jobs_service_pb2 as pb2
from serai_gateway.console.tail import MOST_BYTES, Tail

STREAMS = (pb2.OUTPUT_STREAM_STDOUT, pb2.OUTPUT_STREAM_STDERR)


def fed(pieces: list[tuple[int, int, bytes]], each: int) -> tuple[Tail, dict[tuple[int, int], bytes]]:
    """A tail that took the pieces (rank, stream, data), and all of each stream."""
    tail, whole = Tail(each), dict[tuple[int, int], bytes]()
    for rank, stream, data in pieces:
        before = whole.get((rank, stream), b"")
        tail.add(pb2.FollowResponse(rank=rank, stream=STREAMS[stream], offset=len(before), data=data))
        whole[rank, stream] = before + data
    return tail, whole


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.binary(max_size=40))), st.integers(1, 60))
def test_the_last_bytes_of_each_stream_are_kept(pieces: list[tuple[int, int, bytes]], each: int) -> None:
    """Exactly so many, at the offsets that they have in the whole; and it goes on where each stream ended."""
    tail, whole = fed(pieces, each)
    kept: dict[tuple[int, int], bytes] = {}
    for piece in tail.pieces():
        key = piece.rank, STREAMS.index(piece.stream)
        assert piece.offset == len(whole[key]) - len(whole[key][-each:]) + len(kept.get(key, b""))
        kept[key] = kept.get(key, b"") + piece.data
    assert kept == {key: data[-each:] for key, data in whole.items() if data}
    assert {(o.rank, STREAMS.index(o.stream)): o.offset for o in tail.offsets()} == {key: len(data) for key, data in whole.items()}


def test_what_is_kept_in_all_is_bounded() -> None:
    """However many ranks there are; the longest give way first, and the offsets stay right."""
    piece = b"x" * 65_536
    tail, whole = fed([(rank, 0, piece) for _ in range(20) for rank in range(10)], 1 << 30)
    assert sum(len(one.data) for one in tail.pieces()) <= MOST_BYTES
    assert all(offset.offset == len(whole[offset.rank, 0]) for offset in tail.offsets())
