"""The stand-in itself: Core's state, its HTTP side, and what Core does towards a provider, in one object.

async with DevCore(Settings()) as core:
    core.add_provider("example", url=provider_url)
    job_id = (await core.submit(acme_request())).job_id
    await core.until(lambda: core.jobs[job_id].final)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

import aiohttp

from serai_devcore.accounts import Accounts, WalletKey, payer
from serai_devcore.applications import EXAMPLE_PRODUCT, JobRequest
from serai_devcore.clock import Clock, SystemClock
from serai_devcore.documents import job_document, product_document
from serai_devcore.faults import Away, Faults
from serai_devcore.jobs import Job, JobBook
from serai_devcore.provider import Answer, Provider, ProviderClient, items_body
from serai_devcore.records import Recorder
from serai_devcore.resources import ResourceBook
from serai_devcore.server import HttpSide
from serai_devcore.tokens import PrivateKey, TokenIssuer
from serai_devcore.wire import CoreError, Generation, Json, JsonObject, as_object, dig, dig_text, parse, read_items


@dataclass(frozen=True, slots=True)
class Settings:
    generation: Generation = Generation.G2021
    host: str = "127.0.0.1"
    port: int = 0
    """0 = any free one; `DevCore.url` tells it."""
    token_lifetime_s: int | None = None
    """None = the generation's own: 15 or 10 minutes."""
    initial_credits: int | None = 1_000_000_000
    """What each wallet holds at first; None = only wallets that were set exist."""
    provider_timeout_s: float = 5.0
    """How long Core waits for a provider's answer (facts 2021 §1 "today", today §6.1)."""
    first_job_id: int = 1000
    seed: int = 0
    """Of the chance with which faults strike."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a user's wish to start a job."""

    job_id: str
    answer: Answer

    @property
    def accepted(self) -> bool:
        return self.answer.accepted


class DevCore:
    """A stand-in for UCloud/Core. An async context manager: it listens inside of it."""

    def __init__(self, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or Settings()
        self.clock = clock or SystemClock()
        generation = self.settings.generation
        self.jobs = JobBook(generation, self.clock, self.settings.first_job_id)
        self.accounts = Accounts(generation, self.clock, self.jobs, self.settings.initial_credits)
        self.accounts.add_product(EXAMPLE_PRODUCT)
        self.resources = ResourceBook()
        self.faults = Faults(Random(self.settings.seed))
        self.requests = Recorder()
        self.providers: dict[str, Provider] = {}
        self._waiting: set[asyncio.Event] = set()
        self._absences: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._http = HttpSide(self)
        self._client: ProviderClient | None = None

    @property
    def generation(self) -> Generation:
        return self.settings.generation

    @property
    def url(self) -> str:
        """Where it listens; known inside the context."""
        return self._http.url

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Cookies and proxies of the environment are none of Core's.
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False))
            self._client = ProviderClient(session, self.generation, self.requests, self.clock, self.settings.provider_timeout_s)
            await stack.enter_async_context(self._http)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in list(self._absences):
            task.cancel()
        await asyncio.gather(*self._absences, return_exceptions=True)
        await self._stack.aclose()

    # --- what exists ------------------------------------------------------------------------------------------------------------------

    def add_provider(
        self, provider_id: str, *, url: str = "", path_name: str = "", key: PrivateKey | None = None, refresh_token: str | None = None
    ) -> Provider:
        """Register a provider; without a key it gets a new pair (about a tenth of a second)."""
        issuer = TokenIssuer(
            provider_id, self.generation, self.clock, key=key, refresh_token=refresh_token, lifetime_s=self.settings.token_lifetime_s
        )
        provider = Provider(provider_id, issuer, url, path_name)
        self.providers[provider_id] = provider
        return provider

    def product_of(self, job: Job) -> Json:
        product = self.accounts.products.get((job.provider, job.category, job.product))
        return None if product is None else product_document(product, self.generation)

    # --- what Core does towards a provider --------------------------------------------------------------------------------------------

    async def submit(self, request: JobRequest) -> Submission:
        """Start a job as a user does: Core stores it, calls the provider, and forgets it when that fails (facts 2021 §1.1)."""
        document = job_document(request, self.jobs.new_id(), self.clock.now_ms(), self.generation)
        return await self.submit_document(document)

    async def submit_document(self, document: JsonObject) -> Submission:
        """As `submit`, with the job's JSON given."""
        return (await self._create([document], None, None))[0]

    async def submit_raw(self, body: bytes, headers: dict[str, str] | None = None) -> list[Submission]:
        """As `submit`, with the whole request body given, byte for byte (the seed's curl), and headers that replace Core's."""
        return await self._create(read_items(parse(body)), body, headers)

    def expect(self, documents: list[JsonObject]) -> list[str]:
        """Core knows these jobs from now on, without having called the provider: for those who send the create by hand."""
        jobs = [self.jobs.insert(document) for document in documents]
        for job in jobs:
            self.jobs.confirm(job.id)
        self.changed()
        return [job.id for job in jobs]

    async def _create(self, documents: list[JsonObject], raw: bytes | None, headers: dict[str, str] | None) -> list[Submission]:
        provider = self._provider_named(dig_text(documents[0], "specification", "product", "provider"))
        jobs = [self.jobs.insert(document) for document in documents]
        self.changed()
        body: Json | bytes = raw if raw is not None else items_body(*documents)
        try:
            answer = await self.client.call(provider, "POST", "/jobs", body, username=jobs[0].username, headers=headers)
        except BaseException:
            # Also when this call is cancelled: a Core that does not know the answer does not know the job.
            self._conclude(jobs, None)
            raise
        self._conclude(jobs, answer)
        return [Submission(job.id, answer) for job in jobs]

    def _conclude(self, jobs: list[Job], answer: Answer | None) -> None:
        responses = dig(answer.body, "responses") if answer is not None and answer.accepted else None
        for index, job in enumerate(jobs):
            if answer is None or not answer.accepted:
                self.jobs.forget(job.id)
                continue
            own = responses[index] if isinstance(responses, list) and index < len(responses) else None
            own_id = dig(own, "id")
            self.jobs.confirm(job.id, own_id if isinstance(own_id, str) else None)
        self.changed()

    async def terminate(self, *job_ids: str, username: str | None = None) -> Answer:
        """Cancel as a user does. Core's own state stays until the provider reports another."""
        jobs = [self.jobs[job_id] for job_id in job_ids]
        items = [dict(job.document) for job in jobs]
        for item, job in zip(items, jobs, strict=True):
            item["status"] = as_object(item.get("status"), "status") | {"state": job.state, "startedAt": job.started_at_ms}
        return await self.client.call(
            self._provider_named(jobs[0].provider), "POST", "/jobs/terminate", items_body(*items), username=username or jobs[0].username
        )

    async def retrieve_products(self, provider_id: str) -> Answer:
        """Ask what the provider supports, as Core does by itself from time to time."""
        return await self.client.call(self.providers[provider_id], "GET", "/jobs/retrieveProducts")

    @property
    def client(self) -> ProviderClient:
        """For any other call of Core."""
        if self._client is None:
            raise RuntimeError("DevCore is used outside of its context")
        return self._client

    def _provider_named(self, provider_id: str) -> Provider:
        try:
            return self.providers[provider_id]
        except KeyError:
            raise CoreError(502, f"no provider {provider_id} is registered") from None

    # --- misbehaviour -----------------------------------------------------------------------------------------------------------------

    def forget(self, job_id: str) -> bool:
        """Core does not know this job any more."""
        found = self.jobs.forget(job_id)
        self.changed()
        return found

    def expire_tokens(self) -> None:
        """Every access token that a provider holds is expired from now on."""
        for provider in self.providers.values():
            provider.issuer.expire_all()

    def set_credits(self, job_id: str, credits_left: int) -> None:
        """Make the balance of the wallet that pays for this job."""
        self.accounts.set_credits(payer(self.jobs[job_id]), credits_left)

    def wallet_of(self, job_id: str) -> WalletKey:
        return payer(self.jobs[job_id])

    async def go_away(self, how: Away = Away.REFUSE) -> None:
        await self._http.go_away(how)

    async def come_back(self) -> None:
        """Listen again, on the same port."""
        await self._http.come_back()

    def be_away_for(self, how: Away, away_ms: int) -> None:
        """As `go_away`, and `come_back` by itself."""
        task = asyncio.create_task(self._absence(how, away_ms), name="devcore-absence")
        self._absences.add(task)
        task.add_done_callback(self._absences.discard)

    async def _absence(self, how: Away, away_ms: int) -> None:
        await self.go_away(how)
        await self.clock.sleep(away_ms / 1000)
        await self.come_back()

    def clear_faults(self) -> None:
        """Behave again; calls that hang go on."""
        self._http.clear_faults()

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
