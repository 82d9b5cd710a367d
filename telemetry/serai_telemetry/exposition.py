"""What a scrape gets: the metrics of all parts of a process, read in one moment on the loop and put into text on a thread.

Parts are read in two steps: what has to be awaited (a question to the store) is fetched first, each for itself and within a limit, so that
a store that is down costs its own metrics and no others; then everything is collected without a wait in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

FETCH_S = 2.0
"""For what has to be awaited at a scrape; Prometheus itself gives up after 10 s unless told otherwise."""

_log = structlog.get_logger("serai.metrics")


class Source(Protocol):
    """A part whose metrics are shown."""

    async def fetch(self) -> None:
        """Read what has to be awaited. What it raises is logged, and then `collect` leaves out what was not read."""
        ...

    def collect(self) -> Iterable[Family]: ...


class Exposition:
    def __init__(self, registry: CollectorRegistry, sources: Sequence[Source], *, fetch_s: float = FETCH_S) -> None:
        self._registry = registry
        self._sources = sources
        self._fetch_s = fetch_s
        self._one = asyncio.Lock()
        for source in sources:
            registry.register(_Collector(source))

    async def text(self) -> bytes:
        """The text form of all metrics. One at a time: scrapes that come together wait for each other."""
        async with self._one:
            await asyncio.gather(*(self._fetch(source) for source in self._sources))
            families = list(self._registry.collect())
            return await asyncio.to_thread(generate_latest, _Collected(families))

    async def _fetch(self, source: Source) -> None:
        try:
            async with asyncio.timeout(self._fetch_s):
                await source.fetch()
        except Exception as error:
            # Its words may quote a statement of the database.
            _log.warning("metrics.not_read", part=type(source).__name__, why=type(error).__name__)


class _Collector(Collector):
    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterable[Family]:
        return self._source.collect()


class _Collected(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families
