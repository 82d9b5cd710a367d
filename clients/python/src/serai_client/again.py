"""How watching and following go on after a break: where they were, and when to try. No input or output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import grpc
import grpc.aio

from serai_client.api.jobs.v1.jobs_service_pb2 import FollowOffset, FollowResponse, OutputStream
from serai_client.errors import is_interruption, made

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0


class Retry:
    """When a stream that broke is opened again."""

    def __init__(self, patience_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._monotonic = monotonic
        self.heard()

    def heard(self) -> None:
        """The server is there: patience begins at the next break, however long it is until then."""
        self._wait_s = _FIRST_WAIT_S
        self._away_since: float | None = None

    def wait_s(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try. Raises the error when there is none."""
        if not is_interruption(error):
            raise error
        if isinstance(error, grpc.Call | grpc.aio.AioRpcError) and error.initial_metadata():
            # The stream was open and had nothing to tell.
            self.heard()
        now = self._monotonic()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > self._patience_s:
            raise error
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, _LONGEST_WAIT_S)
        return wait_s


class Places:
    """How far each stream of each rank was read."""

    def __init__(self, offsets: Iterable[FollowOffset] = (), *, tail: bool = False) -> None:
        """`tail`: a stream without an offset may begin anywhere."""
        self._tail = tail
        self._places: dict[tuple[int, OutputStream.ValueType], int] = {(o.rank, o.stream): o.offset for o in offsets}

    def new_of(self, piece: FollowResponse) -> FollowResponse | None:
        """What of it was not there before; None = nothing. Raises RpcError with DATA_LOSS when something is missing before it."""
        key = (piece.rank, piece.stream)
        place = self._places.get(key, piece.offset if self._tail else 0)
        if piece.offset > place:
            words = f"bytes {place} to {piece.offset} of the output of rank {piece.rank} did not come"
            raise made(grpc.StatusCode.DATA_LOSS, words)
        known = place - piece.offset
        if known >= len(piece.data):
            return None
        self._places[key] = piece.offset + len(piece.data)
        if not known:
            return piece
        return FollowResponse(rank=piece.rank, stream=piece.stream, offset=piece.offset + known, data=piece.data[known:])

    def offsets(self) -> list[FollowOffset]:
        """Where to go on."""
        return [FollowOffset(rank=rank, stream=stream, offset=place) for (rank, stream), place in self._places.items()]
