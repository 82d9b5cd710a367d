"""What follows of both generations have in common: for whom a log is read, when it may end, and what keeps a silent socket alive."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from serai.core.v1 import errors_pb2
from serai_telemetry.quiet import Quiet

from serai_gateway.auth import Check
from serai_gateway.clock import Clock
from serai_gateway.control.backoff import Backoff
from serai_gateway.errors import GatewayError
from serai_gateway.upstream import CALLER, USER, Upstream, UpstreamError
from serai_gateway.ws.frames import PING, Frame
from serai_gateway.ws.log import Log
from serai_gateway.ws.socket import Socket
from serai_gateway.ws.unproven import Unproven

KEEP_ALIVE_S = 60.0
"""Silence after which something is said. Core of 2026 notices only by sends that fail that its user has left, and shows each as an empty
piece of log (facts today §8), so this is no more often than that of 2021 (facts 2021 §3.2)."""
HOLD_S = 2.0
"""Between Core's word that it knows the end of a job and the end of the follow: Core looks at its own jobs each half second (2026) or each
second (2021) only (facts today §8, facts 2021 §3.4)."""
MOST_FOLLOWS = 2_000
"""Follows at a time of one gateway, as many as sockets: what the server has read ahead for slow readers is in memory for each."""
TELL_WITHIN_MS = 30_000
"""ms after which a follow ends though Core was not told: a Core that cannot be told does not wait for the end of a follow either."""
_LOOK_BASE_MS = 200
_LOOK_CAP_MS = 4_000
"""Between looks at whether Core was told, which no watch tells; the jobs of a Core that is away may end by hundreds."""


class Places:
    """Bounds the follows of one gateway."""

    def __init__(self, most: int = MOST_FOLLOWS) -> None:
        self._most = most
        self._taken = 0

    @contextmanager
    def one(self) -> Generator[None]:
        """Around a follow. GatewayError when there is no place for it."""
        if self._taken >= self._most:
            why = "Too many jobs are followed here right now, try again later"
            raise GatewayError(errors_pb2.ERROR_REASON_RATE_LIMITED, why)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


@dataclass(frozen=True, slots=True)
class Following:
    """All that a follow needs."""

    upstream: Upstream
    token_check: Check
    clock: Clock
    random: Callable[[], float]
    """Gives [0, 1)."""
    providers: frozenset[str]
    unproven: Unproven
    places: Places = field(default_factory=Places)
    strangers: Quiet = field(default_factory=Quiet)
    """How many refusals of tokens are logged."""

    def is_follow(self, frame: Frame) -> bool:
        head, _, tail = frame.call.removesuffix(".follow").partition("jobs.provider.")
        return frame.call.endswith(".follow") and not head and tail in self.providers

    def log(self, job_id: str, user: str | None) -> Log:
        return Log(self.upstream, self.clock, self.random, job_id, metadata_of(user))

    async def core_knows(self, log: Log) -> None:
        """Returns when Core has been told the end of the job and has had time to look at it; or cannot be told."""
        pauses = Backoff(base_ms=_LOOK_BASE_MS, cap_ms=_LOOK_CAP_MS, random=self.random)
        until_ms = self.clock.now_ms() + TELL_WITHIN_MS
        try:
            while (await log.report()).undelivered_events and self.clock.now_ms() < until_ms:
                await self.clock.sleep(pauses.failed() / 1_000)
        except UpstreamError:
            return  # the log was read to its end; whatever is wrong now is not this follow's matter
        await self.clock.sleep(HOLD_S)

    async def keep_alive(self, socket: Socket) -> None:
        """Says something after each silence; ends with the socket. ClientGone."""
        while True:
            before = socket.sent_bytes
            await self.clock.sleep(KEEP_ALIVE_S)
            if socket.sent_bytes == before:
                await socket.send(PING)


def metadata_of(user: str | None) -> Mapping[str, str]:
    """For the server: Core calls, for this user; None = nobody was named."""
    return {CALLER: "core"} if user is None else {CALLER: "core", USER: quote(user, safe="")}
