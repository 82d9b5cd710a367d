"""The ids that providers give to what they keep for Core: unique per provider, over jobs, licenses and all else.

No I/O. today §6.1: a value that comes again breaks a constraint of Core's database, which is tried for 20 s, and then Core exits. One that
was registered before is refused at once instead (core2/pkg/orchestrator/resources.go, ResourceCreateEx @63551f4ea7). The stand-in goes on
living and keeps a note of either, so that a test can say: it never happened. 2021 has no such rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from serai_devcore.clock import Clock
from serai_devcore.wire import CoreError, Generation, JsonObject


@dataclass(frozen=True, slots=True)
class Repeat:
    """A provider used an id of its own twice."""

    at_ms: int
    provider: str
    own_id: str
    fatal: bool
    """Today's Core would have exited 20 s later; False = it answered 409."""

    def to_json(self) -> JsonObject:
        return {"at": self.at_ms, "provider": self.provider, "providerGeneratedId": self.own_id, "fatal": self.fatal}


class OwnIds:
    """Whose id is whose."""

    def __init__(self, generation: Generation, clock: Clock) -> None:
        self._generation = generation
        self._clock = clock
        self._holders: dict[tuple[str, str], str] = {}
        self._registered: set[tuple[str, str]] = set()
        self.repeats: list[Repeat] = []
        """Of 2026; empty when the provider behaved."""

    @property
    def crashes(self) -> list[Repeat]:
        """Those that Core would not have survived."""
        return [repeat for repeat in self.repeats if repeat.fatal]

    def answered(self, provider: str, own_id: str, core_id: str) -> None:
        """A provider named its id in the answer to a create."""
        key = provider, own_id
        if self._holders.get(key, core_id) != core_id:
            self._repeated(key, fatal=True)
        self._holders[key] = core_id

    def register(self, provider: str, own_id: str, core_id: str) -> None:
        """A provider registers something under its id. Raises CoreError 409 in 2026 when it did so before."""
        key = provider, own_id
        if key in self._registered:
            self._repeated(key, fatal=False)
            if self._generation is Generation.G2026:
                raise CoreError(409, "Already exists")
        elif key in self._holders:
            self._repeated(key, fatal=True)
        self._registered.add(key)
        self._holders[key] = core_id

    def free(self, core_id: str) -> None:
        """Core has deleted what held the id."""
        for key in [key for key, holder in self._holders.items() if holder == core_id]:
            del self._holders[key]
            self._registered.discard(key)

    def _repeated(self, key: tuple[str, str], *, fatal: bool) -> None:
        if self._generation is Generation.G2026:
            self.repeats.append(Repeat(self._clock.now_ms(), *key, fatal))
