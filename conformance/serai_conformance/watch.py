"""What the kit's Core has seen, to be waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serai_conformance.wire import Json, JsonObject, text_at

FINAL = frozenset({"SUCCESS", "FAILURE", "EXPIRED"})


@dataclass(frozen=True, slots=True)
class Told:
    """One update of one job or license, as it came."""

    id: str
    update: JsonObject
    at_s: float
    """Monotonic."""
    taken: bool
    """false: Core refused the request it came in."""
    kind: str = "job"
    """Or `license`: whose call it was."""

    @property
    def state(self) -> str:
        return text_at(self.update, "state")

    @property
    def status(self) -> str:
        return text_at(self.update, "status")


@dataclass(frozen=True, slots=True)
class Charge:
    """One item of `chargeCredits` or `reportUsage`, as it came."""

    item: JsonObject
    call: str
    """The last part of the path."""
    at_s: float
    taken: bool

    @property
    def of(self) -> str:
        """Core's id, or who pays."""
        return text_at(self.item, "id") or text_at(self.item, "owner", "username")

    @property
    def scope(self) -> str:
        """What makes it the same one when it comes again."""
        return text_at(self.item, "chargeId") or text_at(self.item, "description", "scope")


@dataclass(frozen=True, slots=True)
class Asked:
    """A control call."""

    path: str
    status: int
    body: Json


@dataclass(slots=True)
class Known:
    """A job or license that Core has."""

    id: str
    kind: str
    """`job` or `license`."""
    document: JsonObject
    owner: str
    state: str
    taken: bool = False
    """The provider took it."""
    output_folder: str = ""

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(slots=True)
class Records:
    """Everything, in the order in which it came."""

    told: list[Told] = field(default_factory=list[Told])
    charges: list[Charge] = field(default_factory=list[Charge])
    asked: list[Asked] = field(default_factory=list[Asked])
    known: dict[str, Known] = field(default_factory=dict[str, Known])
    _waiting: set[asyncio.Event] = field(default_factory=set[asyncio.Event])

    def changed(self) -> None:
        for event in self._waiting:
            event.set()

    async def until(self, found: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came to that in time."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while not found():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(event)
        return True

    def of(self, resource_id: str) -> list[Told]:
        """What Core took of one job or license."""
        return [told for told in self.told if told.id == resource_id and told.taken]

    def states(self, resource_id: str) -> list[str]:
        """As they came, without repetitions in a row."""
        found = [told.state for told in self.of(resource_id) if told.state]
        return [state for at, state in enumerate(found) if at == 0 or found[at - 1] != state]

    def paid(self, job_id: str, owner: str) -> list[Charge]:
        """Charges of a job: by its id, or by who pays (reportUsage names no job)."""
        return [charge for charge in self.charges if charge.taken and charge.of in {job_id, owner}]


def now_s() -> float:
    return time.monotonic()
