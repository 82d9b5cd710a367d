"""How watching and following go on after a break: where they were, and when to try. No input or output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import grpc

from serai_client.api.jobs.v1.jobs_service_pb2 import FollowOffset, FollowResponse, OutputStream
from serai_client.errors import is_interruption

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0


class Retry:
    """When a stream that broke is opened again."""

    def __init__(self, patience_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._monotonic = monotonic
        self.heard()

    def heard(self) -> None:
        """The server answered: patience begins anew."""
        self._wait_s = _FIRST_WAIT_S
        self._heard_at = self._monotonic()

    def wait_s(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next try. Raises the error when there is none."""
        if not is_interruption(error) or self._monotonic() - self._heard_at > self._patience_s:
            raise error
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, _LONGEST_WAIT_S)
        return wait_s


class Places:
    """How far each stream of each rank was read."""

    def __init__(self, offsets: Iterable[FollowOffset] = ()) -> None:
        self._places: dict[tuple[int, OutputStream.ValueType], int] = {(o.rank, o.stream): o.offset for o in offsets}

    def new_of(self, piece: FollowResponse) -> FollowResponse | None:
        """What of it was not there before; None = nothing."""
        key = (piece.rank, piece.stream)
        known = max(self._places.get(key, 0) - piece.offset, 0)
        if known >= len(piece.data):
            return None
        self._places[key] = piece.offset + len(piece.data)
        if not known:
            return piece
        return FollowResponse(rank=piece.rank, stream=piece.stream, offset=piece.offset + known, data=piece.data[known:])

    def offsets(self) -> list[FollowOffset]:
        """Where to go on."""
        return [FollowOffset(rank=rank, stream=stream, offset=place) for (rank, stream), place in self._places.items()]
