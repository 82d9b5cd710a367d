"""What a Core knows, and how to wait for it to change: the common ground of everything that it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from serai_devcore import queries
from serai_devcore.accounts import Accounts
from serai_devcore.applications import EXAMPLE_LICENSE, EXAMPLE_PRODUCT
from serai_devcore.clock import Clock, SystemClock
from serai_devcore.documents import product_document
from serai_devcore.faults import Faults
from serai_devcore.follow_sockets import FollowSockets
from serai_devcore.jobs import Job, JobBook
from serai_devcore.provider import Provider, ProviderClient
from serai_devcore.records import Recorder
from serai_devcore.resources import ResourceBook
from serai_devcore.settings import Settings
from serai_devcore.support import SupportBook
from serai_devcore.users import UserTokens
from serai_devcore.wire import CoreError, Generation, Json, JsonObject


class State:
    """Plain objects; whoever changes one says so with `changed`."""

    def __init__(self, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        generation = self.settings.generation
        self.jobs = JobBook(generation, self.clock, self.settings.first_job_id)
        self.accounts = Accounts(generation, self.clock, self.jobs, self.settings.initial_credits)
        self.accounts.add_product(EXAMPLE_PRODUCT)
        self.accounts.add_product(EXAMPLE_LICENSE)
        self.resources = ResourceBook(generation, self.jobs)
        self.jobs.on_end = self.resources.unbind
        self.users = UserTokens(generation, self.clock)
        self.support = SupportBook(generation, self.clock)
        self.faults = Faults(Random(self.settings.seed))
        self.requests = Recorder()
        self.follow_sockets = FollowSockets()
        self.providers: dict[str, Provider] = {}
        self._waiting: set[asyncio.Event] = set()
        self._client: ProviderClient | None = None

    @property
    def generation(self) -> Generation:
        return self.settings.generation

    @property
    def client(self) -> ProviderClient:
        """For any other call of Core."""
        if self._client is None:
            raise RuntimeError("DevCore is used outside of its context")
        return self._client

    def provider_named(self, provider_id: str) -> Provider:
        try:
            return self.providers[provider_id]
        except KeyError:
            raise CoreError(502, f"no provider {provider_id} is registered") from None

    def named_or_only(self, provider_id: str) -> Provider:
        """The provider of this name, or the first one that is known when no name is given."""
        name = provider_id or next(iter(self.providers), "")
        if name not in self.providers:
            raise CoreError(404, f"no provider {name} is registered" if name else "no provider is registered")
        return self.providers[name]

    def known_job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise CoreError(404, "Core knows no such job")
        return job

    def only(self, generation: Generation, what: str) -> None:
        """Raises CoreError 404 where the other generation has no such call."""
        if self.generation is not generation:
            raise CoreError(404, f"Core of {self.generation.value} has no {what}; that is {generation.value}")

    def product_of(self, job: Job) -> Json:
        product = self.accounts.products.get((job.provider, job.category, job.product))
        return None if product is None else product_document(product, self.generation)

    def document_of(self, job: Job) -> JsonObject:
        """The job as it is now, as Core sends it with every call after the create."""
        product = self.product_of(job)
        is_today = self.generation is Generation.G2026
        support = self.support.resolved(job.provider, job.category, job.product, product) if is_today else None
        return queries.for_provider(job, self.generation, product, support)

    # --- waiting ----------------------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something of Core's state is other than before: wakes `until`."""
        for event in self._waiting:
            event.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until the condition holds; it is looked at after each thing that happens here. Raises TimeoutError."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await event.wait()
                    event.clear()
        finally:
            self._waiting.discard(event)
