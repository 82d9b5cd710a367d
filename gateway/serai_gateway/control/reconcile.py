"""Compares Core's jobs and licenses with ours, at start and every so often: what is compared says `Comparison`, when is said here.

Deliveries go on beside it and are not touched. Everything that a comparison does may be done twice, so a kill at any place costs a
repetition.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from typing import Protocol

import structlog

from serai_gateway.clock import Clock
from serai_gateway.control.backoff import Backoff
from serai_gateway.control.questions import NoAnswer
from serai_gateway.settings import CoreSettings
from serai_gateway.upstream import CALLER, Upstream, UpstreamError

YOUNG_MS = 2 * 60 * 1_000
"""Core has a job or license before it tells us of it, and we have one before Core has our answer: younger ones are left alone, both ways,
and so are those of which Core does not say how old they are."""
_METADATA = {CALLER: "core"}
_TIMEOUT_S = 60.0
_LEAST_PAUSE_MS = 1_000

_log = structlog.stdlib.get_logger("serai_gateway.reconcile")


class Comparison(Protocol):
    @property
    def of(self) -> str:
        """What is compared: "jobs" or "licenses"."""
        ...

    async def compare(self) -> None:
        """Once. Raises NoAnswer and UpstreamError, to be tried again."""
        ...


async def asked_of_server(upstream: Upstream, method: str, request: bytes) -> bytes:
    """The server's answer to a call in Core's name. UpstreamError."""
    return await upstream.unary(method, request, _METADATA, _TIMEOUT_S)


class Reconciliation:
    """Compares at start and then again and again, until it is cancelled."""

    def __init__(
        self,
        comparison: Comparison,
        settings: CoreSettings,
        clock: Clock,
        *,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._comparison = comparison
        self._clock = clock
        self._random = random
        self._every_ms = settings.reconcile_every_ms
        self._backoff = Backoff(
            base_ms=max(settings.retry_base_ms, _LEAST_PAUSE_MS), cap_ms=max(settings.retry_cap_ms, _LEAST_PAUSE_MS), random=random
        )

    async def run(self) -> None:
        while True:
            await self._clock.sleep(await self.attempt() / 1_000)

    async def attempt(self) -> int:
        """Compares once. How long to wait for the next time, ms."""
        # A tenth to both sides: providers that were started together do not ask together for ever.
        pause_ms = int(self._every_ms * (0.9 + 0.2 * self._random()))
        of = self._comparison.of
        try:
            await self._comparison.compare()
        except (NoAnswer, UpstreamError) as error:
            pause_ms = min(pause_ms, self._backoff.failed())
            _log.warning(f"our {of} could not be compared with Core's, it is tried again", why=str(error), pause_ms=pause_ms)
        except Exception:
            pause_ms = min(pause_ms, self._backoff.failed())
            _log.exception(f"comparing our {of} with Core's failed, it is tried again", pause_ms=pause_ms)
        else:
            self._backoff.succeeded()
        return pause_ms
