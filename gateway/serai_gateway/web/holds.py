"""Sessions that are in use: one Hold for all that a browser has open by the same session, so that all of it ends with the session.

A page makes many small requests, so a hold stays for some seconds after the last of them. A server that is away for a moment (a restart,
when the gateway runs alone) ends nothing: the hold is tried again for a while, and only its refusal, or a longer silence, ends what is
open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import structlog
from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2

from serai_gateway.clock import Clock
from serai_gateway.errors import GatewayError
from serai_gateway.web.sessions import ServerAway, Sessions

LINGER_S = 5.0
FRESH_S = 1.0
"""For how long an answer is good for further requests: a job that was paused has its ports elsewhere when it goes on."""
AWAY_S = 60.0
"""For how long what is open outlives the server's silence."""
MOST_USES = 256
"""Requests, WebSockets and desktops of one session at a time: each keeps descriptors, and pages that never end must not take them all."""
_RETRY_S = 1.0

_log = structlog.stdlib.get_logger("serai_gateway.web")
_Key = tuple[str, int, str, int]


@dataclass(frozen=True, slots=True)
class Hold:
    """A session that may be used until it is over."""

    authorized: pb2.AuthorizeResponse
    _shared: _Shared = field(repr=False)

    def when_over(self, cut: Callable[[], None]) -> Callable[[], None]:
        """Has `cut` called when the session is over, at once if it is by now; what is returned takes that back."""
        key, cuts = object(), self._shared.cuts
        if self._shared.over:
            cut()
        else:
            cuts[key] = cut

        def take_back() -> None:
            cuts.pop(key, None)

        return take_back


@dataclass(slots=True)
class _Shared:
    first: asyncio.Future[pb2.AuthorizeResponse]
    fresh_until_s: float = 0.0
    """In the loop's time."""
    cuts: dict[object, Callable[[], None]] = field(default_factory=dict[object, Callable[[], None]])
    task: asyncio.Task[None] | None = None
    users: int = 0
    linger: asyncio.TimerHandle | None = None
    over: bool = False
    """What was to be cut is cut."""


class Holds:
    """Whoever makes it closes it at the end."""

    def __init__(self, sessions: Sessions, clock: Clock, *, linger_s: float = LINGER_S) -> None:
        self._sessions = sessions
        self._clock = clock
        self._linger_s = linger_s
        self._shared: dict[_Key, _Shared] = {}
        self._ending: set[asyncio.Task[None]] = set()
        """Of holds that nobody has any more."""

    @asynccontextmanager
    async def take(self, secret: str, kind: pb2.SessionKind.ValueType, job_id: str, rank: int) -> AsyncGenerator[Hold]:
        """GatewayError when the session opens nothing, or too much at a time. What is done by it is cut when it is over (`when_over`)."""
        key = (secret, int(kind), job_id, rank)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(asyncio.get_running_loop().create_future())
            shared.task = asyncio.create_task(self._run(key, shared, kind))
        if shared.linger is not None:
            shared.linger.cancel()
            shared.linger = None
        if shared.users >= MOST_USES:
            raise GatewayError(errors_pb2.ERROR_REASON_RATE_LIMITED, "Too much is open here by this session right now, try again later")
        shared.users += 1
        try:
            yield Hold(await self._answer(shared, key, kind), shared)
        finally:
            shared.users -= 1
            if shared.users == 0 and shared.task is not None and not shared.task.done():
                shared.linger = asyncio.get_running_loop().call_later(self._linger_s, self._leave, key, shared, shared.task)

    def _leave(self, key: _Key, shared: _Shared, task: asyncio.Task[None]) -> None:
        """Who comes from now on has a hold of their own: this one's end takes some turns of the loop, and would cut them."""
        if self._shared.get(key) is shared:
            del self._shared[key]
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _answer(self, shared: _Shared, key: _Key, kind: pb2.SessionKind.ValueType) -> pb2.AuthorizeResponse:
        loop = asyncio.get_running_loop()
        known = shared.first.done()
        # Shielded: who leaves takes nothing from the others that wait for the same answer.
        answer = await asyncio.shield(shared.first)
        if not known:
            shared.fresh_until_s = loop.time() + FRESH_S
        elif loop.time() > shared.fresh_until_s:
            answer.CopyFrom(await self._sessions.authorize(key[0], kind, key[2], key[3]))
            shared.fresh_until_s = loop.time() + FRESH_S
        return answer

    async def close(self) -> None:
        """Ends all of them, and with them what is open."""
        tasks = [*self._ending, *(shared.task for shared in self._shared.values() if shared.task is not None)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, key: _Key, shared: _Shared, kind: pb2.SessionKind.ValueType) -> None:
        try:
            await self._follow(key, shared, kind)
            _log.info("session.left", job=key[2], rank=key[3])
        except GatewayError as error:
            if not shared.first.done():
                shared.first.set_exception(error)
        finally:
            if self._shared.get(key) is shared:
                del self._shared[key]
            if shared.linger is not None:
                shared.linger.cancel()
            if not shared.first.cancel() and not shared.first.cancelled():
                shared.first.exception()  # looked at, also when everybody who waited has left
            shared.over = True
            for cut in [*shared.cuts.values()]:
                cut()

    async def _follow(self, key: _Key, shared: _Shared, kind: pb2.SessionKind.ValueType) -> None:
        """Until the session may no longer be used. GatewayError when the server says so, or is away at the very first."""
        secret, _, job_id, rank = key
        silent_since_ms: int | None = None
        while True:
            try:
                async with aclosing(self._sessions.hold(secret, kind, job_id, rank)) as answers:
                    async for answer in answers:
                        silent_since_ms = None
                        if not shared.first.done():
                            shared.first.set_result(answer)
            except ServerAway:
                now_ms = self._clock.now_ms()
                silent_since_ms = silent_since_ms or now_ms
                if not shared.first.done() or now_ms - silent_since_ms > AWAY_S * 1_000:
                    raise
            else:
                return
            await self._clock.sleep(_RETRY_S)
