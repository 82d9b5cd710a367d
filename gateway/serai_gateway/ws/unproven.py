"""Sockets whose client has shown nothing yet: neither Core's token nor a session. They have little time, and there are few of them.

In UCloud's protocol of 2021 the token comes in a frame, and a shell's secret always does, so anybody may open such sockets. When there are
too many the oldest makes room: a client of UCloud shows what it has at once, so who is pushed out has been idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from serai_telemetry.quiet import Quiet

from serai_gateway.ws.socket import POLICY, Socket

MOST = 256
WITHIN_S = 30.0
"""As today's reference gives to a shell's socket (facts today §8)."""
MOST_IN_VAIN = 50
"""Messages that show nothing, which a socket may send before the first one that does."""
WORDS = "nothing came in time that shows who calls"

_log = structlog.stdlib.get_logger("serai_gateway.ws")


class Proof:
    """Of one socket: `given` once its client has shown something."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self.given = False
        self.in_vain = 0
        """Messages that have shown nothing."""

    def accept(self) -> None:
        """The socket may stay."""
        self.given = True
        if not self._limit.expired():
            self._limit.reschedule(None)

    def demand(self) -> None:
        """Its time is over. It may be by itself, with its work still about to end."""
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())


class Unproven:
    """Those of one gateway."""

    def __init__(self, *, most: int = MOST, within_s: float = WITHIN_S) -> None:
        self._most = most
        self._within_s = within_s
        self._strangers = Quiet()
        self._proofs: dict[Proof, None] = {}
        """In the order in which they came."""

    @asynccontextmanager
    async def admit(self) -> AsyncGenerator[Proof]:
        """Around the work for one socket, which is broken off with TimeoutError when its client shows nothing in time."""
        limit = asyncio.timeout(self._within_s)
        try:
            async with limit:
                proof = Proof(limit)
                self._proofs[proof] = None
                self._make_room()
                try:
                    yield proof
                finally:
                    self._proofs.pop(proof, None)
        except TimeoutError:
            if limit.expired() and (left_out := self._strangers.line()) is not None:
                more = {"left_out": left_out} if left_out else {}
                _log.info("a socket ends that showed nothing", waiting=len(self._proofs), **more)
            raise

    async def serve(self, socket: Socket, take: Callable[[str | bytes, Proof], Awaitable[None]]) -> None:
        """Hands on each message until either side closes; ours does when nothing shows who calls, in time or in many of them."""
        try:
            async with self.admit() as proof:
                while (message := await socket.receive()) is not None:
                    await take(message, proof)
                    if proof.in_vain > MOST_IN_VAIN and not proof.given:
                        proof.demand()
        except TimeoutError:
            await socket.close(POLICY, WORDS)

    def prove(self, proof: Proof) -> None:
        proof.accept()
        self._proofs.pop(proof, None)

    def _make_room(self) -> None:
        if len(self._proofs) > self._most:
            oldest = next(iter(self._proofs))
            del self._proofs[oldest]
            oldest.demand()
