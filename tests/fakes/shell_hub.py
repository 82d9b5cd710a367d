"""A hub of shells with running replicas that the test plays, and short words for what its tests do all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serai_server.jobs.registry import Registry
from serai_server.sessions.shells import ShellHub
from serai_server.store.model import Committed, JobRecord, State

from fakes.clock import FakeClock
from fakes.shells import MemorySessions, MemoryShell, MemoryShells, Talk

MINUTE_MS = 60_000


class Site:
    """A hub with two running replicas of job 1 and one of job 2."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.backend = MemoryShells(("1", 0), ("1", 1), ("2", 0))
        self.sessions = MemorySessions(self.backend)
        self.jobs = Registry()
        self.hub = ShellHub(backend=self.backend, sessions=self.sessions, jobs=self.jobs, clock=self.clock, detached_ms=MINUTE_MS)
        self.talks: list[Talk] = []

    def talk(self, *, holder: bool = False) -> Talk:
        self.talks.append(Talk(lambda requests: self.hub.shell(requests, holder=holder)))
        return self.talks[-1]

    def job_is(self, state: State) -> None:
        """Job 1, as the store has it now."""
        record = JobRecord(id="1", state=state, target=0, version=1, replicas=2, created_at_ms=1, started_at_ms=1, wake_at_ms=0)
        self.jobs.committed([Committed(records=(record,))])

    async def all_leave(self) -> None:
        """No connection is left to the garbage collector."""
        for talk in self.talks:
            await talk.leave()

    async def opened(self, secret: str = "a", job_id: str = "1", rank: int = 0) -> tuple[Talk, MemoryShell]:
        """A session with its shell, attached."""
        if secret not in self.sessions.by_secret:
            self.sessions.opened(secret, job_id, rank)
        talk = self.talk()
        talk.open(secret)
        await talk.opened()
        return talk, self.backend.opened[-1]

    async def program(self, *argv: str) -> tuple[Talk, MemoryShell]:
        talk = self.talk()
        talk.run(*argv)
        await talk.opened()
        return talk, self.backend.opened[-1]


async def until(condition: Callable[[], bool]) -> None:
    """Give way until it holds; the timeout of pytest ends what never does."""
    while not condition():
        await asyncio.sleep(0)


async def settled() -> None:
    """Whatever can go on without time passing has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)
