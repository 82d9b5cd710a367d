"""What Core asks its providers by itself, for as long as it runs.

2026 (today §4): manifest, then what each type of resource supports, one after the other, every 10 s; branding in a loop of its own.
2021 (facts 2021 §1.5): `verify` for active jobs that were not looked at for a while, every 30 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from serai_devcore.calls import VERIFY_AT_MOST, Calls
from serai_devcore.provider import Provider
from serai_devcore.wire import Generation

NAMESPACES = ("files/collections", "jobs", "ingresses", "networkips", "licenses", "private-networks")
"""Of products, in the order in which Core asks."""
TOKENLESS_MS = 200
"""For so long after its start Core cannot get a token from itself (today §3)."""
BACK_OFF_S = (0.05, 1.6, 20.0)
"""First pause, factor, longest pause."""
RESCAN_ROUNDS = 10
"""2021: a job is verified again after so many rounds: 5 min for 30 s."""


class Poller:
    """Loops for each provider, from `start` to `stop`. `round` and `branding` are one step of each, also for tests."""

    def __init__(self, core: Calls) -> None:
        self._core = core
        self._started_at_ms: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._verified_at_ms: dict[str, int] = {}

    def start(self) -> None:
        self._started_at_ms = self._core.clock.now_ms()
        for provider in self._core.providers.values():
            self.add(provider)

    def add(self, provider: Provider) -> None:
        """Begin to ask this one, if asking is on."""
        if self._started_at_ms is None or not self._core.settings.poll_every_ms:
            return
        if self._core.generation is Generation.G2021:
            self._spawn(self._verify_loop(provider), provider)
        else:
            self._spawn(self._loop(provider, self.round), provider)
            self._spawn(self._loop(provider, self.branding), provider)

    async def stop(self) -> None:
        self._started_at_ms = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def round(self, provider: Provider) -> bool:
        """The manifest and every type once. True = at least one type was answered well."""
        await self._ask(provider, "/integration/retrieveManifest", "")
        good = [await self._ask(provider, f"/{namespace}/retrieveProducts", namespace) for namespace in NAMESPACES]
        self._core.changed()
        return any(good)

    async def branding(self, provider: Provider) -> bool:
        return await self._ask(provider, "/provider/branding/retrieveInfo", "")

    async def verify(self, provider: Provider) -> None:
        """2021: one bulk of at most 100 active jobs that were not verified of late; nothing is sent when there is none."""
        now_ms = self._core.clock.now_ms()
        old_ms = now_ms - RESCAN_ROUNDS * self._core.settings.poll_every_ms
        due = [
            job.id
            for job in self._core.jobs
            if job.provider == provider.id and not job.final and self._verified_at_ms.get(job.id, old_ms) <= old_ms
        ][:VERIFY_AT_MOST]
        if due:
            self._verified_at_ms |= dict.fromkeys(due, now_ms)
            await self._core.verify(*due)

    async def _ask(self, provider: Provider, path: str, namespace: str) -> bool:
        started_at_ms = self._started_at_ms
        anonymous = started_at_ms is not None and self._core.clock.now_ms() - started_at_ms < TOKENLESS_MS
        answer = await self._core.client.call_once(provider, "GET", path, anonymous=anonymous)
        return self._core.support.note(provider.id, namespace, answer) if namespace else answer.accepted

    async def _loop(self, provider: Provider, step: Callable[[Provider], Awaitable[bool]]) -> None:
        failures = 0
        while self._core.providers.get(provider.id) is provider:
            failures = 0 if await step(provider) else failures + 1
            await self._core.clock.sleep(pause_s(failures, self._core.settings.poll_every_ms))

    async def _verify_loop(self, provider: Provider) -> None:
        while self._core.providers.get(provider.id) is provider:
            await self.verify(provider)
            await self._core.clock.sleep(self._core.settings.poll_every_ms / 1000)

    def _spawn(self, loop: Coroutine[None, None, None], provider: Provider) -> None:
        task = asyncio.create_task(loop, name=f"devcore-poll-{provider.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def pause_s(failures: int, poll_every_ms: int) -> float:
    """Until the next question, after so many bad rounds in a row (today §4)."""
    first, factor, longest = BACK_OFF_S
    return poll_every_ms / 1000 if failures == 0 else min(longest, first * factor ** min(failures - 1, 50))
