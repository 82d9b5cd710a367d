"""Watches one license server: looks whether it answers, and asks what seats are in use, each on a timer of its own.

The two do not wait for each other: lmutil can take half a minute, and a server that has gone away must be noticed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from serai.licenses.v1.license_servers_service_pb2 import LicenseServer
from serai_backends.common.time import sleep_or

from serai_server.clock import Clock
from serai_server.licenses.ports import Standing, Status
from serai_server.licenses.products import key_of
from serai_server.licenses.servers import standing
from serai_server.licenses.servers.lmutil import Lmutil, NotTold
from serai_server.licenses.servers.observation import KEEP_MS, Observation, capacity_of, decoded, encoded, limit_of
from serai_server.licenses.servers.probe import Probe
from serai_server.licenses.servers.standing import Stand
from serai_server.store.api import StoreError
from serai_server.store.license_api import LicenseStore
from serai_server.store.license_model import StoredServer

log = structlog.get_logger("serai.licenses")

DEFAULT_PORT = 27000
_GAP_MS = 1_000
"""Between two looks, however many ask for one."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often servers are looked at and asked."""

    probe_every_ms: int = 30_000
    probes_to_fail: int = 3
    observe_every_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Tools:
    """What every watcher works with."""

    store: LicenseStore
    clock: Clock
    pacing: Pacing
    probe: Probe
    lmutil: Lmutil | None
    jitter: Callable[[], float]
    """Numbers of [0, 1)."""


class Watcher:
    def __init__(self, stored: StoredServer, tools: Tools, changed: Callable[[str], None]) -> None:
        """`changed(product)` after each change of status or limit."""
        self.stand = Stand()
        # Without lmutil nobody would ever tell anything newer.
        self.seen = decoded(stored.observed, tools.clock.now_ms()) if tools.lmutil is not None else None
        self._tools = tools
        self._changed = changed
        self._looking, self._asking = asyncio.Lock(), asyncio.Lock()
        self._look_wanted, self._ask_wanted = asyncio.Event(), asyncio.Event()
        self._untold, self._untold_since_ms = "", 0
        """Why it did not tell its seats, since when; empty = it told them last."""
        self._told_trouble = ""
        # A time to come can only be a clock that was set back since: it must not keep us from asking for as long as that.
        self.observed_at_ms = min(stored.observed_at_ms, tools.clock.now_ms())
        self._take(stored)

    def _take(self, stored: StoredServer) -> None:
        self.stored = stored
        self.server = LicenseServer.FromString(stored.body)
        self.product = key_of(self.server.product)
        self.addresses = tuple((a.host, a.port or DEFAULT_PORT) for a in self.server.addresses)
        self._seats = tuple((feature.name, feature.seats) for feature in self.server.features)

    def update(self, stored: StoredServer) -> bool:
        """What the store has of it now; whether that is other than before. A key that was sealed anew is no change."""
        other = stored.body != self.stored.body or bool(stored.sealed) != bool(self.stored.sealed)
        self._take(stored)
        if other:
            self._ask_wanted.set()
        return other

    @property
    def status(self) -> Status:
        return self.stand.status

    @property
    def limit(self) -> int | None:
        return limit_of(self._seats, self.seen)

    @property
    def capacity(self) -> int | None:
        return capacity_of(self._seats, self.seen)

    @property
    def details(self) -> str:
        """All that there is to say to an operator; empty = nothing."""
        parts = [self.stand.details]
        if self._untold:
            meanwhile = "what it told last still counts" if self.seen is not None else "only seats of our own jobs are counted"
            parts.append(f"seats in use are not told: {self._untold}; {meanwhile}")
        elif self._told_trouble:
            parts.append(f"lmutil says: {self._told_trouble}")
        return "; ".join(part for part in parts if part)

    def look_soon(self) -> None:
        """No effect on one that is UP: users may ask for this as often as they like, and its failures must not come the faster for it."""
        if self.status.standing is not Standing.UP:
            self._look_wanted.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._look_if_not_just_now, self._next_look_ms, self._look_wanted))
            if self._tools.lmutil is not None:
                group.create_task(self._repeat(self.ask, self._next_question_ms, self._ask_wanted))

    async def _repeat(self, work: Callable[[], Awaitable[None]], pause_ms: Callable[[], int], wanted: asyncio.Event) -> None:
        while True:
            wanted.clear()
            pause = pause_ms
            try:
                await work()
            except StoreError as error:
                log.warning("license_server.not_asked", server=self.stored.name, why=str(error))
                pause = self._next_look_ms
            except Exception as error:
                # One server's trouble, whatever it is, ends neither its watch nor that of others.
                log.exception("license_server.not_watched", server=self.stored.name, exc_info=error)
                pause = self._next_look_ms
            await sleep_or(self._tools.clock, max(pause(), _GAP_MS) / 1000, wanted)

    async def _look_if_not_just_now(self) -> None:
        since_ms = self._tools.clock.now_ms() - self.stand.looked_at_ms
        if 0 <= since_ms < _GAP_MS:
            await self._tools.clock.sleep((_GAP_MS - since_ms) / 1000)
        await self.look()

    def _next_look_ms(self) -> int:
        return int(self._tools.pacing.probe_every_ms * (0.9 + 0.2 * self._tools.jitter()))

    async def look(self) -> None:
        """Look at it now."""
        async with self._looking:
            before = self._now
            seen = await self._tools.probe.look(self.addresses, self.server.vendor_port)
            self.stand = standing.after(self.stand, seen, self._tools.pacing.probes_to_fail, self._tools.clock.now_ms())
        if self.status.standing is not before[0].standing:
            log.info("license_server.stands", server=self.stored.name, product=self.product, standing=self.status.standing.value)
            self._ask_wanted.set()
        self._tell(before)

    def _next_question_ms(self) -> int:
        if self.status.standing is not Standing.UP:
            return self._tools.pacing.probe_every_ms
        return self.observed_at_ms + self._tools.pacing.observe_every_ms - self._tools.clock.now_ms()

    async def ask(self) -> None:
        """Ask it for the seats in use, unless it was asked just now, has no counted ones, or does not answer. Raises StoreError."""
        lmutil = self._tools.lmutil
        if lmutil is None or not self._seats:
            return
        async with self._asking:
            before = self._now
            if self.status.standing is Standing.DOWN:
                self._not_told("the server does not answer")
            elif self.status.standing is Standing.UP and self._next_question_ms() <= 0:
                await self._ask(lmutil)
        self._tell(before)

    async def _ask(self, lmutil: Lmutil) -> None:
        now_ms = self._tools.clock.now_ms()
        held = await self._held()
        # Stored before it is asked: a server that is started again and again does not ask more often.
        if not await self._tools.store.change_server(self.stored.name, observed_at_ms=now_ms):
            return
        self.observed_at_ms = now_ms
        try:
            answer = await lmutil.ask(self.addresses)
        except NotTold as error:
            log.info("license_server.seats_not_told", server=self.stored.name, why=str(error))
            self._not_told(str(error))
            return
        # Seats came or went while it was asked: the fewer are ours for certain.
        self.seen = Observation(now_ms, answer.features, min(held, await self._held()))
        self._untold, self._untold_since_ms, self._told_trouble = "", 0, answer.trouble
        await self._tools.store.change_server(self.stored.name, observed=encoded(self.seen))

    async def _held(self) -> int:
        line = (await self._tools.store.lines()).get(self.product)
        return line.held if line is not None else 0

    def _not_told(self, why: str) -> None:
        now_ms = self._tools.clock.now_ms()
        self._untold_since_ms = self._untold_since_ms or now_ms
        self._untold = why
        if now_ms - self._untold_since_ms >= KEEP_MS:
            self.seen = None

    @property
    def _now(self) -> tuple[Status, int | None, int | None]:
        """What others are told the changes of."""
        return self.status, self.limit, self.capacity

    def _tell(self, before: tuple[Status, int | None, int | None]) -> None:
        if self._now != before:
            self._changed(self.product)
