"""Seats, as the reconciler of jobs takes them and gives them back.

A job takes all of its seats with the very transaction that decides to hand it to the backend, strictly in the order of arrival, and they
come back with the transaction that makes it final, however it ended. So a seat is held exactly as long as its job may be alive, and kill -9
at any place leaks none. Nothing here is kept in memory but what may be missed: who is first in line is read from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog
from serai.licenses.v1.license_pb2 import JOB_BIND_KIND_BIND, JOB_BIND_KIND_UNBIND, JobBindKind
from serai_backends.common.time import sleep_or

from serai_server.clock import Clock
from serai_server.licenses.bodies import binding_note
from serai_server.licenses.ports import LicenseServers
from serai_server.licenses.products import LicenseCatalog
from serai_server.store.api import Store, StoreError
from serai_server.store.license_model import Claim, LicenseNote, LicenseNotSold, SeatsAnswer
from serai_server.store.model import JobChange, StoredJob

log = structlog.get_logger("serai.licenses")

SWEEP_MS = 15_000
"""Longest time for which a job that could have its seats waits for them: whatever news was missed is made up for."""
_WOKEN = 4
"""Jobs of one line that are told to try: whoever gets its seats has the next ones told."""
_ENDED = 100
"""Jobs whose license is gone that come before all other work at one time."""
_TOLD = 1_000
"""Jobs of one line that say anew for what they wait when it is another thing."""


class Seats:
    def __init__(
        self,
        *,
        store: Store,
        catalog: LicenseCatalog,
        servers: LicenseServers,
        clock: Clock,
        wall: Callable[[], int],
        wake: Callable[[str], None],
        look: Callable[[str], None],
    ) -> None:
        """`wake` has a job looked at as soon as may be, for it may start or end; `look` when nothing else is to do, to say anew for what it
        waits. `wall` is the time of day in ms."""
        self._catalog = catalog
        self._look = look
        self._jobs = store
        self._store = store.licenses
        self._servers = servers
        self._clock = clock
        self._wall = wall
        self._wake = wake
        self._news = asyncio.Event()
        self._products: set[str] = set()
        self._away: set[str] = set()
        self._gone: set[str] = set()
        self._capacities = servers.capacities()
        servers.on_change(self._changed)

    def _changed(self, product: str) -> None:
        capacities = self._servers.capacities()
        if capacities.get(product) != self._capacities.get(product):
            # Some may now wait for more than there is, or no longer.
            self.tell(product)
        self._capacities = capacities
        self.look([product])

    async def take(self, job: StoredJob, change: JobChange) -> tuple[StoredJob | None, SeatsAnswer | LicenseNotSold]:
        """The job's row after `change`, with all its seats; or None, and why it must wait or never runs. Raises VersionConflict."""
        claims = await self._store.claims(job.id)
        for claim in claims:
            # Whoever holds its seats goes on, as with a license that was deleted.
            if not claim.held_at_ms and self._catalog.by_key(claim.product) is None:
                return None, LicenseNotSold(claim.product)
        notes = await self._binding(job.id, claims, JOB_BIND_KIND_BIND)
        taken, answer = await self._store.take_seats(
            replace(change, license_notes=notes), self._servers.limits(), self._servers.capacities()
        )
        if taken is not None:
            self.look({claim.product for claim in claims})
        return taken, answer

    async def give_back(self, job: StoredJob, change: JobChange) -> StoredJob:
        """The job's row after `change`, which makes it final: what it held is free. Raises VersionConflict."""
        claims = await self._store.claims(job.id)
        held = [claim for claim in claims if claim.held_at_ms]
        after = await self._jobs.change_job(replace(change, license_notes=await self._binding(job.id, held, JOB_BIND_KIND_UNBIND)))
        self.look({claim.product for claim in claims})
        return after

    def look(self, products: Iterable[str]) -> None:
        """Seats of these products came back, or there are more of them: those that wait may try."""
        self._products.update(products)
        self._news.set()

    def tell(self, product: str) -> None:
        """Licenses of this product cannot be used now: those that wait shall say so."""
        self._away.add(product)
        self._news.set()

    def deleted(self, product: str) -> None:
        """A license of this product may be gone: those that wait for it never run, and shall say so."""
        self._gone.add(product)
        self.look([product])

    async def run(self) -> None:
        """Until cancelled."""
        sweep_at_ms = 0
        while True:
            await sleep_or(self._clock, max(sweep_at_ms - self._clock.now_ms(), 0) / 1_000, self._news)
            self._news.clear()
            products, self._products = self._products, set()
            away, self._away = self._away, set()
            gone, self._gone = self._gone, set()
            try:
                if sweep_at_ms <= self._clock.now_ms():
                    sweep_at_ms = self._clock.now_ms() + SWEEP_MS
                    products = gone = set(await self._store.lines())
                await self._end(gone)
                await self.wake(products)
                for product in away:
                    for job_id in await self._store.waiting(product, _TOLD):
                        self._look(job_id)
            except StoreError as error:
                log.warning("seats.later", why=str(error))

    async def wake(self, products: Iterable[str]) -> None:
        """Have those who are first in the lines try."""
        for product in products:
            for job_id in await self._store.first_in_line(product, _WOKEN, self._servers.capacities()):
                self._wake(job_id)

    async def _end(self, products: Iterable[str]) -> None:
        """Have all who wait for a license that is gone looked at: wherever they stand in a line, nothing else would."""
        for product in products:
            jobs = await self._store.without_license(product)
            for job_id in jobs[:_ENDED]:
                self._wake(job_id)
            for job_id in jobs[_ENDED:]:
                self._look(job_id)

    async def _binding(self, job_id: str, claims: Iterable[Claim], kind: JobBindKind.ValueType) -> tuple[LicenseNote, ...]:
        found = await self._store.find([claim.license_id for claim in claims])
        now_ms = self._wall()
        rows = [row for claim in claims if (row := found.get(claim.license_id)) is not None and not row.deleted_at_ms]
        return tuple(binding_note(row, now_ms, kind, job_id) for row in rows)
