"""What follows of both generations have in common: for whom a log is read, when it may end, and what keeps a silent socket alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from serai_gateway.auth import Check
from serai_gateway.clock import Clock
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
_LOOK_EVERY_S = 0.2
_LOOKS = 150
"""Half a minute: a Core that cannot be told does not wait for the end of a follow either."""


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

    def is_follow(self, frame: Frame) -> bool:
        head, _, tail = frame.call.removesuffix(".follow").partition("jobs.provider.")
        return frame.call.endswith(".follow") and not head and tail in self.providers

    def log(self, job_id: str, user: str | None) -> Log:
        return Log(self.upstream, self.clock, self.random, job_id, metadata_of(user))

    async def core_knows(self, log: Log) -> None:
        """Returns when Core has been told the end of the job and has had time to look at it; or cannot be told."""
        try:
            for _ in range(_LOOKS):
                if not (await log.report()).undelivered_events:
                    break
                await self.clock.sleep(_LOOK_EVERY_S)
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
