"""What Core asks by itself: order, headers, back-off, and what it believes afterwards."""

from __future__ import annotations

import asyncio

import pytest
from fakes.devcore_provider import PlainProvider, both, lowered
from fakes.devcore_time import StillClock
from serai_devcore import Generation, acme_request
from serai_devcore.documents import job_document
from serai_devcore.polls import pause_s
from serai_devcore.tokens import PrivateKey, generate_key

G2021, G2026 = Generation.G2021, Generation.G2026
ORDER = [
    "/ucloud/example/integration/retrieveManifest",
    "/ucloud/example/files/collections/retrieveProducts",
    "/ucloud/example/jobs/retrieveProducts",
    "/ucloud/example/ingresses/retrieveProducts",
    "/ucloud/example/networkips/retrieveProducts",
    "/ucloud/example/licenses/retrieveProducts",
    "/ucloud/example/private-networks/retrieveProducts",
]
BRANDING = "/ucloud/example/provider/branding/retrieveInfo"
DECLARES = b"""{"responses":[{"product":{"id":"example-compute-1","category":"example-compute","provider":"example"},
"docker":{"enabled":true}}]}"""


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


def paths(provider: PlainProvider) -> list[str]:
    return [heard.path for heard in provider.heard]


async def test_a_round_asks_everything_in_order_without_body_and_user(key: PrivateKey) -> None:
    """today §4: manifest, then six types; GET, no query, no body, no Ucloud-Username; core-wire/GET_*.json."""
    clock = StillClock()
    async with both(key, G2026, clock=clock) as (core, provider):
        clock.now += 1000
        assert await core.polls.round(core.providers["example"])
        assert await core.polls.branding(core.providers["example"])
        assert paths(provider) == [*ORDER, BRANDING]
        for heard in provider.heard:
            assert (heard.method, heard.body) == ("GET", b"")
            assert lowered(heard).keys() == {"host", "user-agent", "authorization", "accept-encoding"}


async def test_the_first_polls_have_no_token(key: PrivateKey) -> None:
    """today §3: for about 0.2 s after its start Core cannot get a token from itself; core-wire/GET_provider_branding_retrieveInfo.json."""
    clock = StillClock()
    async with both(key, G2026, clock=clock) as (core, provider):
        await core.polls.branding(core.providers["example"])
        clock.now += 200
        await core.polls.branding(core.providers["example"])
        assert ["authorization" in lowered(heard) for heard in provider.heard] == [False, True]


async def test_the_last_good_answer_of_a_type_is_kept(key: PrivateKey) -> None:
    """today §4: an error and an unreadable answer keep it; one good type makes the round good; when all fail the round is bad."""
    async with both(key, G2026, clock=StillClock(), check_support=True) as (core, provider):
        example = core.providers["example"]
        bad, fine = (500, b""), (200, b"{}")
        provider.answers = [bad, bad, (200, DECLARES), bad, bad, bad, bad]
        assert await core.polls.round(example)
        assert (await core.submit(acme_request())).accepted
        for unusable in (bad, (200, b"no json"), (200, b'{"responses":7}')):
            provider.answers = [fine, unusable, unusable, unusable, unusable, unusable, unusable]
            assert not await core.polls.round(example)
            assert (await core.submit(acme_request())).accepted
        provider.answers = [fine, bad, (200, b'{"responses":[]}'), bad, bad, bad, bad]
        assert await core.polls.round(example)
        assert (await core.submit(acme_request())).outcome.status == 400


def test_the_back_off_grows_to_twenty_seconds() -> None:
    """today §4: 50 ms, times 1.6 each, at most 20 s, for ever; ten seconds after a good round."""
    assert [round(pause_s(failures, 10_000), 4) for failures in range(5)] == [10.0, 0.05, 0.08, 0.128, 0.2048]
    assert pause_s(1000, 10_000) == 20.0


async def test_polling_runs_by_itself_for_providers_of_any_time(key: PrivateKey) -> None:
    """today §4: one loop for each provider and one for its branding; a provider that is added later is asked too; off by default."""
    async with both(key, G2026, poll_every_ms=1) as (core, provider):
        seen = asyncio.Event()

        def look() -> None:
            if paths(provider).count(BRANDING) > 1 and paths(provider).count(ORDER[-1]) > 1:
                seen.set()

        provider.on_call = look
        async with asyncio.timeout(30):
            await seen.wait()
        asked = [path for path in paths(provider) if path != BRANDING]
        assert asked[: len(ORDER)] == ORDER
    async with both(key, G2026, clock=StillClock()) as (core, provider):
        await core.submit(acme_request())
        assert paths(provider) == ["/ucloud/example/jobs"]


async def test_2021_verifies_what_it_has_not_looked_at_for_a_while(key: PrivateKey) -> None:
    """2021 §1.5: every 30 s, jobs that are not final and whose last scan is more than 5 min old; nothing is sent when there is none."""
    clock = StillClock()
    async with both(key, G2021, clock=clock) as (core, provider):
        example = core.providers["example"]
        await core.polls.verify(example)
        assert provider.heard == []
        core.expect([job_document(acme_request(), job_id, 0, G2021) for job_id in ("1", "2")])
    async with both(key, G2021, poll_every_ms=30_000) as (core, provider):
        core.expect([job_document(acme_request(), job_id, 0, G2021) for job_id in ("1", "2")])
        example = core.providers["example"]
        core.polls._verified_at_ms["2"] = core.clock.now_ms()
        await core.polls.verify(example)
        await core.polls.verify(example)
        assert [[item["id"] for item in heard.items] for heard in provider.heard if heard.items] == [["1"]]
