"""The stand-in itself: Core's state, its HTTP side, and what Core does towards a provider, in one object.

async with DevCore(Settings()) as core:
    core.add_provider("example", url=provider_url)
    job_id = (await core.submit(acme_request())).job_id
    await core.until(lambda: core.jobs[job_id].final)
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp

from serai_devcore.accounts import WalletKey, payer
from serai_devcore.billing import Bill, bill
from serai_devcore.calls import Calls
from serai_devcore.clock import Clock
from serai_devcore.faults import Away
from serai_devcore.own_ids import Repeat
from serai_devcore.polls import Poller
from serai_devcore.provider import Provider, ProviderClient
from serai_devcore.registration import Registrations, registered_at
from serai_devcore.server import HttpSide
from serai_devcore.settings import Settings
from serai_devcore.submissions import Submission
from serai_devcore.tokens import PrivateKey, TokenIssuer

__all__ = ["DevCore", "Settings", "Submission"]


class DevCore(Calls):
    """A stand-in for UCloud/Core. An async context manager: it listens inside of it."""

    def __init__(self, settings: Settings | None = None, clock: Clock | None = None) -> None:
        super().__init__(settings, clock)
        self._absences: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self.registrations = Registrations(self)
        self.polls = Poller(self)
        self._http = HttpSide(self)

    @property
    def url(self) -> str:
        """Where it listens; known inside the context."""
        return self._http.url

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Cookies and proxies of the environment are none of Core's.
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False))
            self._client = ProviderClient(session, self.generation, self.requests, self.clock, self.settings.provider_timeout_s)
            stack.push_async_callback(self.follow_sockets.close)
            await stack.enter_async_context(self._http)
            self._stack = stack.pop_all()
        self.polls.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.polls.stop()
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
        provider = Provider(provider_id, issuer, url, path_name, self.jobs.new_id(), registered_at(provider_id, url))
        self.providers[provider_id] = provider
        self.polls.add(provider)
        return provider

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

    @property
    def repeats(self) -> list[Repeat]:
        """Ids of its own that a provider used twice (2026); after a `fatal` one today's Core would not live any more."""
        return self.jobs.own_ids.repeats

    def set_credits(self, job_id: str, credits_left: int) -> None:
        """Make the balance of the wallet that pays for this job."""
        self.accounts.set_credits(payer(self.jobs[job_id]), credits_left)

    def lose_unsaved_usage(self) -> None:
        """As if Core had crashed and come back: usage of the last half minute is gone (2026)."""
        self.accounts.lose_unsaved_usage()
        self.changed()

    def bill_of(self, job_id: str, scope: str | None = None) -> Bill:
        """What the job has cost in all."""
        return bill(self.accounts, self.known_job(job_id), scope)

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
