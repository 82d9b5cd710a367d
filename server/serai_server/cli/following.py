"""Follows the output of a job's replicas over cut connections and restarts of the server, without a byte lost or repeated.

Each piece of output says where in its stream it stands. So whoever notes how far it has come can ask for the rest, of any server that has
the same store; what comes twice is cut off, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
from serai.jobs.v1 import jobs_service_pb2 as pb

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_MOST_DOUBLED = 10

Call = Callable[[pb.FollowRequest], Iterator[pb.FollowResponse]]


class Places:
    """How far each stream of each rank was read."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, pb.OutputStream.ValueType], int] = {}

    def new_of(self, piece: pb.FollowResponse) -> pb.FollowResponse | None:
        """What of it was not there before, and that it is now; None = nothing."""
        key = (piece.rank, piece.stream)
        known = max(self._places.get(key, 0) - piece.offset, 0)
        if known >= len(piece.data):
            return None
        self._places[key] = piece.offset + len(piece.data)
        if not known:
            return piece
        return pb.FollowResponse(rank=piece.rank, stream=piece.stream, offset=piece.offset + known, data=piece.data[known:])

    def offsets(self) -> list[pb.FollowOffset]:
        """Where to go on."""
        return [pb.FollowOffset(rank=rank, stream=stream, offset=place) for (rank, stream), place in self._places.items()]


def followed(
    call: Call, request: pb.FollowRequest, wait: Callable[[float], None], away: Callable[[grpc.Call], None]
) -> Iterator[pb.FollowResponse]:
    """The output from its first byte to its end, however often `call` breaks.

    `away` is called with what is wrong, once until there is output again; `wait` is given seconds before each further try.
    Raises what `call` raises, but UNAVAILABLE, which is tried for ever.
    """
    places, failed = Places(), 0
    while True:
        again = pb.FollowRequest(job_id=request.job_id, ranks=request.ranks, offsets=places.offsets(), follow=request.follow)
        try:
            for piece in call(again):
                failed = 0
                new = places.new_of(piece)
                if new is not None:
                    yield new
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            if not failed:
                away(error)
        else:
            return
        wait(min(_FIRST_WAIT_S * 2**failed, _LONGEST_WAIT_S))
        failed = min(failed + 1, _MOST_DOUBLED)
