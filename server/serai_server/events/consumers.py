"""Which consumers there are, and whose they are. Subscribing makes one, and nothing else; each keeps what it has not settled from being
dropped, so there are not any number of them, and an administrator may drop one, or give it to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from serai_server.errors import ConsumerUnknown, Forbidden, InvalidRequest, TooManyConsumers
from serai_server.store.api import Store
from serai_server.store.model import CORE, Backlog, EventSettlement

MOST = 100
"""Consumers besides Core's."""
MOST_OF_ONE = 10
"""Of one identity that may not all; so a few of them do not take the place of everybody."""
KEPT = 10
"""Of MOST, for administrators and the operator."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants something of a consumer."""

    who: str = ""
    """Holder.who; empty = somebody at the server's own socket."""
    may_all: bool = True
    """Whether other identities' consumers are theirs too."""


OPERATOR = Asker()


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    backlog: Backlog
    subscriptions: int
    """Open ones."""


@dataclass(slots=True, eq=False)
class Known:
    """A consumer, as long as it is not dropped."""

    owner: str
    subscriptions: int = 0
    settling: int = 0
    """Calls under way."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Told when there is none any more."""


class Consumers:
    def __init__(self, store: Store, most: int = MOST) -> None:
        self._store = store
        self._most = most
        self._known: dict[str, Known] = {}
        """As far as they were asked for; this process alone makes and drops them."""
        self._one_by_one = asyncio.Lock()

    async def register(self, consumer: str, asker: Asker, now_ms: int, *, from_now: bool) -> Known:
        """Make it known, as the asker's; see Store.register_consumer. Raises Forbidden, TooManyConsumers and StoreUnavailable."""
        async with self._one_by_one:
            known = await self._find(consumer)
            if known is None and consumer != CORE:
                self._check_room(asker)
            if known is not None:
                _check_owner(consumer, known, asker)
            owner = asker.who if known is None else known.owner
            await self._store.register_consumer(consumer, from_now=from_now, owner=owner, now_ms=now_ms)
            return self._known.setdefault(consumer, Known(owner))

    def _check_room(self, asker: Asker) -> None:
        """For one more, when all are known. Raises TooManyConsumers."""
        there = len(self._known.keys() - {CORE})
        if there >= (self._most if asker.may_all else self._most - KEPT):
            text = f"there are {there} consumers of events, and more there may not be: use one of yours, or have an administrator drop some"
            raise TooManyConsumers(text, field="consumer")
        if not asker.may_all and sum(known.owner == asker.who for known in self._known.values()) >= MOST_OF_ONE:
            text = f"{MOST_OF_ONE} consumers of events are yours, and more there may not be: use one of those, or have one dropped"
            raise TooManyConsumers(text, field="consumer")

    def check_there(self, consumer: str, known: Known) -> None:
        """Raises ConsumerUnknown when it was dropped or given away since it was registered."""
        if self._known.get(consumer) is not known:
            raise ConsumerUnknown(f"the consumer {consumer!r} was dropped, or given to somebody; Subscribe again", field="consumer")

    @contextmanager
    def subscribed(self, known: Known) -> Generator[None]:
        """For the list."""
        known.subscriptions += 1
        try:
            yield
        finally:
            known.subscriptions -= 1

    @asynccontextmanager
    async def settling(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker) -> AsyncGenerator[None]:
        """Until the end of the block it is not dropped. Raises ConsumerUnknown for one that never subscribed; InvalidRequest for what is no
        event yet; Forbidden for another's; and StoreUnavailable."""
        last = await self._store.last_event()
        if consumer not in self._known:
            async with self._one_by_one:
                await self._find(consumer)
        known = self._known.get(consumer)
        if known is None:
            raise ConsumerUnknown(f"no consumer {consumer!r} is known here; Subscribe makes it", field="consumer")
        _check_owner(consumer, known, asker)
        for index, settlement in enumerate(settlements):
            if not 1 <= settlement.sequence <= last:
                text = f"no event {settlement.sequence} has happened; expected the sequence of one that was received"
                raise InvalidRequest(text, field=f"settlements[{index}].sequence")
        known.settling += 1
        try:
            yield
        finally:
            known.settling -= 1
            if not known.settling:
                known.settled.set()

    async def drop(self, consumer: str) -> None:
        """It keeps nothing any more, and its name is free. Raises ConsumerUnknown; InvalidRequest for Core's; StoreUnavailable."""
        async with self._put_out(consumer):
            await self._store.drop_consumer(consumer)

    async def give(self, consumer: str, owner: str) -> None:
        """It is `owner`'s (Backlog.owner) and goes on where it was. Raises ConsumerUnknown; InvalidRequest for Core's, and for an owner
        that is nobody; StoreUnavailable."""
        await self._check_somebody(owner)
        async with self._put_out(consumer):
            await self._store.give_consumer(consumer, owner)

    @asynccontextmanager
    async def _put_out(self, consumer: str) -> AsyncGenerator[None]:
        """Whoever reads by its name is put out, and nobody settles or comes in until the end of the block: then the store is asked anew."""
        if consumer == CORE:
            raise InvalidRequest(f"the consumer {CORE!r} is UCloud/Core itself, which must be told what happens", field="consumer")
        async with self._one_by_one:
            known = await self._find(consumer)
            if known is None:
                raise ConsumerUnknown(f"no consumer {consumer!r} is known here", field="consumer")
            del self._known[consumer]
            while known.settling:
                known.settled.clear()
                await known.settled.wait()
            yield

    async def _check_somebody(self, owner: str) -> None:
        """A certificate's name is not looked for: the settings may be about to name it."""
        if not owner or owner.startswith("certificate "):
            return
        if not any(token.id == owner and not token.revoked_at_ms for token in await self._store.tokens.all()):
            text = "expected the id of a token that is not revoked (`serai tokens list`), or certificate NAME"
            raise InvalidRequest(text, field="owner")

    async def list(self) -> list[ConsumerReport]:
        """All, Core's too, by name. Raises StoreUnavailable."""
        backlogs = await self._store.backlogs()
        nobody = Known("")
        return [ConsumerReport(backlog, self._known.get(backlog.consumer, nobody).subscriptions) for backlog in backlogs]

    async def _find(self, consumer: str) -> Known | None:
        """Of the store too. One at a time: what was read before a drop must not come after it."""
        if consumer not in self._known:
            for name, owner in (await self._store.consumers()).items():
                self._known.setdefault(name, Known(owner))
        return self._known.get(consumer)


def _check_owner(consumer: str, known: Known, asker: Asker) -> None:
    if not asker.may_all and asker.who != known.owner:
        raise Forbidden(f"the consumer {consumer!r} is another identity's; choose a name of your own", field="consumer")
