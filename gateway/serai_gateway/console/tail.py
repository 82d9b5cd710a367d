"""The end of a job's output, and from where it goes on: people look at the last lines, and a log may be longer than a browser can hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from serai.jobs.v1 import jobs_service_pb2 as pb2

MOST_BYTES = 4 * 1024 * 1024
"""Kept in all, whatever was asked for."""

Key = tuple[int, "pb2.OutputStream.ValueType"]


class Tail:
    """Takes pieces as they come, keeps the last `each` bytes of each rank's stream."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._kept: dict[Key, deque[pb2.FollowResponse]] = {}
        self._sizes: dict[Key, int] = {}
        self._ends: dict[Key, int] = {}
        self._all = 0

    def add(self, piece: pb2.FollowResponse) -> None:
        key = piece.rank, piece.stream
        self._kept.setdefault(key, deque()).append(piece)
        self._ends[key] = piece.offset + len(piece.data)
        self._grow(key, len(piece.data))
        while self._sizes[key] - len(self._kept[key][0].data) >= self._each:
            self._drop(key)
        while self._all > MOST_BYTES:
            self._drop(max(self._sizes, key=self._sizes.__getitem__))

    def pieces(self) -> Iterator[pb2.FollowResponse]:
        """What is kept, each stream's in order, its first one cut to what was asked for."""
        for key, kept in self._kept.items():
            cut = max(0, self._sizes[key] - self._each)
            for piece in kept:
                if cut < len(piece.data):
                    yield pb2.FollowResponse(rank=piece.rank, stream=piece.stream, offset=piece.offset + cut, data=piece.data[cut:])
                cut = max(0, cut - len(piece.data))

    def offsets(self) -> list[pb2.FollowOffset]:
        """Where each stream goes on after what has come."""
        return [pb2.FollowOffset(rank=rank, stream=stream, offset=end) for (rank, stream), end in self._ends.items()]

    def _drop(self, key: Key) -> None:
        self._grow(key, -len(self._kept[key].popleft().data))

    def _grow(self, key: Key, by: int) -> None:
        self._sizes[key] = self._sizes.get(key, 0) + by
        self._all += by
