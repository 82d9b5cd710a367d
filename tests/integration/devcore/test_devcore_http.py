"""The stand-in over HTTP, as a provider meets it: tokens, control calls, misbehaviour, and the interface that steers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from serai_devcore import Away, DevCore, Direction, Effect, Fault, Generation, Settings, acme_request
from serai_devcore.admin import HELP
from serai_devcore.documents import job_document
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, dig

G2021, G2026 = Generation.G2021, Generation.G2026
UPDATE = "/api/jobs/control/update"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


class Caller:
    """A provider's side of the wire, by hand."""

    def __init__(self, core: DevCore, session: aiohttp.ClientSession) -> None:
        self.core = core
        self.session = session
        self.token = ""

    async def refresh(self) -> str:
        token = self.core.providers["example"].issuer.refresh_token
        status, body = await self.call("POST", "/auth/providers/refresh", {"items": [{"refreshToken": token}]})
        assert status == 200
        first = cast("list[JsonObject]", body["responses"])[0]
        self.token = cast("str", first["accessToken"])
        return self.token

    async def call(
        self, method: str, path: str, body: Json = None, *, raw: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, JsonObject]:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = {"data": raw} if raw is not None else {"json": body} if body is not None else {}
        async with self.session.request(method, self.core.url + path, headers=bearer | (headers or {}), **data) as answer:  # pyright: ignore[reportArgumentType] - one of two known keywords
            return answer.status, cast("JsonObject", await answer.json())

    async def update(self, job_id: str = "1", **update: Json) -> tuple[int, JsonObject]:
        return await self.call("POST", UPDATE, {"items": [{"id": job_id, "update": update}]})


@asynccontextmanager
async def talking(key: PrivateKey, generation: Generation = G2021) -> AsyncGenerator[Caller]:
    """A stand-in with provider `example` and job 1, and a caller that has a token."""
    async with DevCore(Settings(generation=generation)) as core, aiohttp.ClientSession() as session:
        core.add_provider("example", key=key)
        core.expect([job_document(acme_request(), "1", 0, generation)])
        caller = Caller(core, session)
        await caller.refresh()
        yield caller


async def test_a_refresh_token_becomes_an_access_token(key: PrivateKey) -> None:
    """2021 §6.2: token in the body, no Authorization; the access token opens the control calls."""
    async with talking(key) as caller:
        assert await caller.update(state="RUNNING") == (200, {})
        assert caller.core.jobs["1"].state == "RUNNING"
        assert caller.core.providers["example"].issuer.accepts(caller.token)


@pytest.mark.parametrize(("generation", "status"), [(G2021, 403), (G2026, 401)])
async def test_an_unknown_refresh_token_is_refused(key: PrivateKey, generation: Generation, status: int) -> None:
    """2021 §6.2: 403; today: 401."""
    async with talking(key, generation) as caller:
        got, _ = await caller.call("POST", "/auth/providers/refresh", {"items": [{"refreshToken": "guess"}]})
        assert got == status


@pytest.mark.parametrize(
    ("generation", "status", "body"),
    [
        (G2021, 401, {"why": "Unauthorized", "errorCode": None}),
        (G2026, 403, {"statusCode": 403, "why": "Forbidden", "errorCode": "", "detailedCode": 0}),
    ],
)
async def test_a_bad_token_is_refused_in_the_generations_own_way(
    key: PrivateKey, generation: Generation, status: int, body: JsonObject
) -> None:
    """2021 §2.5: 401; today §3: 403; missing, rubbish, Core's own, expired."""
    async with talking(key, generation) as caller:
        good = caller.token
        for token in ("", "rubbish", caller.core.providers["example"].issuer.core_token()):
            caller.token = token
            assert await caller.update(state="RUNNING") == (status, body)
        caller.token = good
        caller.core.expire_tokens()
        assert await caller.update(state="RUNNING") == (status, body)
        await caller.refresh()
        assert (await caller.update(state="RUNNING"))[0] == 200


@pytest.mark.parametrize(
    ("count", "generation", "status"), [(0, G2021, 400), (0, G2026, 200), (1, G2021, 200), (1000, G2021, 200), (1001, G2021, 400)]
)
async def test_a_bulk_has_one_to_a_thousand_items(key: PrivateKey, count: int, generation: Generation, status: int) -> None:
    """2021 §7 BulkRequest; today §9 "empty items -> 200"."""
    async with talking(key, generation) as caller:
        items: list[Json] = [{"id": "1", "update": {"status": "words"}} for _ in range(count)]
        assert (await caller.call("POST", UPDATE, {"items": items}))[0] == status


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b'{"items":{}}', b"[" * 100_000])
async def test_a_body_that_is_no_bulk_is_a_400_with_words(key: PrivateKey, raw: bytes) -> None:
    """2021 §7.3: bad JSON."""
    async with talking(key) as caller:
        status, body = await caller.call("POST", UPDATE, raw=raw)
        assert status == 400
        assert body["why"]


async def test_an_unknown_route_is_404_and_today_has_one_more(key: PrivateKey) -> None:
    """2021 §7.3; today §9: reportUsage exists only there."""
    usage: Json = {
        "items": [
            {
                "isDeltaCharge": False,
                "owner": {"type": "user", "username": "user"},
                "categoryIdV2": {"name": "example-compute", "provider": "example"},
                "usage": 5,
                "description": {"scope": "1", "description": ""},
            }
        ]
    }
    async with talking(key, G2021) as old, talking(key, G2026) as new:
        assert (await old.call("POST", "/api/accounting/v2/reportUsage", usage))[0] == 404
        assert await new.call("POST", "/api/accounting/v2/reportUsage", usage) == (200, {"responses": [True]})


async def test_charges_and_queries_go_over_the_wire(key: PrivateKey) -> None:
    """2021 §2: the answers' bodies."""
    async with talking(key) as caller:
        charge: Json = {
            "items": [{"id": "1", "chargeId": "1-0", "units": 2, "numberOfProducts": 1, "performedBy": None, "description": None}]
        }
        assert await caller.call("POST", "/api/jobs/control/chargeCredits", charge) == (
            200,
            {"insufficientFunds": [], "duplicateCharges": []},
        )
        status, again = await caller.call("POST", "/api/jobs/control/chargeCredits", charge)
        assert (status, again["insufficientFunds"]) == (200, [{"id": "1"}])
        status, job = await caller.call("GET", "/api/jobs/control/retrieve?id=1&includeProduct=true")
        assert (status, job["id"], dig(job, "status", "resolvedProduct", "name")) == (200, "1", "example-compute-1")
        status, page = await caller.call("GET", "/api/jobs/control/browse?itemsPerPage=10")
        assert (status, page["next"], len(cast("list[Json]", page["items"]))) == (200, None, 1)


async def test_it_fails_as_often_as_told_and_then_behaves(key: PrivateKey) -> None:
    """A fault with a status does not do the call."""
    async with talking(key) as caller:
        caller.core.faults.fail_next(2, 503, "/api/")
        got = [(await caller.update(state="RUNNING"))[0] for _ in range(3)]
        assert got == [503, 503, 200]
        assert len(caller.core.jobs["1"].arrivals) == 1


async def test_an_answer_can_get_lost_after_the_call_was_done(key: PrivateKey) -> None:
    """The caller sees a cut connection; Core has the update."""
    async with talking(key) as caller:
        caller.core.faults.add(Fault(Effect.LOSE_ANSWER, times=1, path="/api/"))
        with pytest.raises(aiohttp.ClientError):
            await caller.update(state="RUNNING")
        assert caller.core.jobs["1"].state == "RUNNING"
        assert caller.core.requests.find(path=UPDATE)[-1].note == "fault: lose_answer"


async def test_garbage_drops_and_delays(key: PrivateKey) -> None:
    """Garbage is a 200 that is no JSON; a drop does not do the call; slow does it later."""
    async with talking(key) as caller:
        caller.core.faults.add(Fault(Effect.GARBAGE, times=1, path="/api/"))
        async with caller.session.post(caller.core.url + UPDATE, data=b"{}") as answer:
            assert (answer.status, (await answer.text())[:6]) == (200, "<html>")
        caller.core.faults.add(Fault(Effect.DROP, times=1, path="/api/"))
        with pytest.raises(aiohttp.ClientError):
            await caller.update(state="RUNNING")
        assert caller.core.jobs["1"].state == "IN_QUEUE"
        caller.core.faults.add(Fault(Effect.SLOW, times=1, path="/api/", delay_ms=20))
        assert (await caller.update(state="RUNNING"))[0] == 200


async def test_a_call_that_hangs_goes_on_when_the_fault_is_cleared(key: PrivateKey) -> None:
    """And other calls are answered meanwhile."""
    async with talking(key) as caller:
        caller.core.faults.add(Fault(Effect.HANG, times=1, path=UPDATE))
        hanging = asyncio.create_task(caller.update(state="RUNNING"))
        await caller.core.until(lambda: caller.core.faults.injected == 1)
        assert (await caller.call("GET", "/devcore/jobs"))[0] == 200
        assert not hanging.done()
        caller.core.clear_faults()
        assert await hanging == (200, {})


async def test_core_can_be_away_and_comes_back_at_the_same_address(key: PrivateKey) -> None:
    """Refused connections, also for a caller with a connection that was open; then all as before."""
    async with talking(key) as caller:
        url = caller.core.url
        await caller.core.go_away(Away.REFUSE)
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await caller.update(state="RUNNING")
        await caller.core.come_back()
        assert caller.core.url == url
        assert (await caller.update(state="RUNNING"))[0] == 200


async def test_core_can_take_connections_and_never_answer(key: PrivateKey) -> None:
    async with talking(key) as caller:
        await caller.core.go_away(Away.HANG)
        hanging = asyncio.create_task(caller.update(state="RUNNING"))
        assert (await caller.call("GET", "/devcore/jobs"))[0] == 200
        assert not hanging.done()
        await caller.core.come_back()
        assert await hanging == (200, {})


async def test_a_forgotten_job_is_unknown(key: PrivateKey) -> None:
    """2021 §1.1 step 5."""
    async with talking(key) as caller:
        assert caller.core.forget("1")
        assert (await caller.update(state="RUNNING"))[0] == 400


async def test_every_call_is_recorded_without_secrets(key: PrivateKey) -> None:
    async with talking(key) as caller:
        await caller.update(state="RUNNING")
        refresh, update = caller.core.requests.find(direction=Direction.TO_CORE)
        assert (refresh.path, update.path, update.status, update.answer) == ("/auth/providers/refresh", UPDATE, 200, {})
        assert update.headers["Authorization"] == "Bearer (hidden)"
        status, listed = await caller.call("GET", f"/devcore/requests?after={refresh.number}&path=/api")
        assert status == 200
        assert [dig(e, "number") for e in cast("list[Json]", listed["items"])] == [update.number]
        secrets = (caller.token, caller.core.providers["example"].issuer.refresh_token)
        assert not any(secret in str(listed) + str(refresh) for secret in secrets)


async def test_it_is_steered_over_http(key: PrivateKey) -> None:
    """Everything that Python can ask for, curl can too."""
    async with talking(key) as caller:
        assert (await caller.call("POST", "/devcore/faults", {"effect": "status", "status": 418, "path": "/api/"}))[0] == 200
        assert (await caller.update())[0] == 418
        assert (await caller.call("DELETE", "/devcore/faults"))[0] == 200
        assert (await caller.update(state="RUNNING"))[0] == 200
        assert (await caller.call("POST", "/devcore/tokens/expire"))[0] == 200
        assert (await caller.update())[0] == 401
        wallet: Json = {"owner": "user:user", "category": "example-compute", "credits": 7}
        assert (await caller.call("POST", "/devcore/wallets", wallet))[0] == 200
        _, wallets = await caller.call("GET", "/devcore/wallets")
        assert wallets["wallets"] == [{"owner": "user:user", "category": "example-compute", "credits": 7, "used": 0}]
        _, job = await caller.call("GET", "/devcore/jobs/1")
        assert (job["state"], dig(job, "job", "status", "state")) == ("RUNNING", "RUNNING")
        assert (await caller.call("POST", "/devcore/jobs/1/forget"))[0] == 200
        assert (await caller.call("GET", "/devcore/jobs/1"))[0] == 404
        async with caller.session.get(caller.core.url + "/devcore/token") as answer:
            assert (await answer.text()).strip() == caller.core.providers["example"].issuer.core_token()
        assert "GET /devcore/jobs" in (await caller.call("GET", "/devcore/"))[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/devcore/faults", {"effect": "explode"}),
        ("/devcore/faults", {"probability": 2}),
        ("/devcore/faults", {"status": 99}),
        ("/devcore/away", {"how": "sideways", "ms": 1}),
        ("/devcore/away", {"how": "refuse"}),
        ("/devcore/wallets", {"owner": "user:x"}),
        ("/devcore/expect", {"items": []}),
    ],
)
async def test_a_wrong_wish_is_a_400(key: PrivateKey, path: str, body: Json) -> None:
    async with talking(key) as caller:
        assert (await caller.call("POST", path, body))[0] == 400


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/devcore/faults", {"efect": "drop"}, "efect: there is no such key; this call takes effect, status, why, path, times, "),
        ("/devcore/faults", {"delay_ms": 5}, "delay_ms: there is no such key"),
        ("/devcore/jobs", {"valeu": "x"}, "valeu: there is no such key; this call takes value, shell, replicas, job"),
        ("/devcore/jobs", {"value": "x", "replicas": 3}, "replicas: there is no such key; this call takes value"),
        ("/devcore/jobs", {"shell": "id", "value": "x"}, "value: there is no such key; this call takes shell, replicas"),
        ("/devcore/jobs", {"job": {}, "shell": "id"}, "shell: there is no such key; this call takes job"),
        ("/devcore/jobs", {"value": "x", "web": 80}, "web: there is no such key; this call takes value"),
        ("/devcore/jobs", {"shell": "id", "web": 80, "vnc": 5900}, "vnc: an application has a page or a desktop, not both"),
        ("/devcore/jobs", {"shell": "id", "password": "x"}, "password: is that of a desktop"),
        ("/devcore/jobs", {"shell": "id", "web": 0}, "web: a TCP port, 1 to 65535"),
        ("/devcore/jobs", {"shell": "id", "vnc": "5900"}, "vnc: an integer was expected"),
        ("/devcore/wallets", {"owner": "user:x", "category": "c", "credit": 1}, "credit: there is no such key"),
        ("/devcore/expect", {"item": []}, "item: there is no such key; this call takes type, items"),
        ("/devcore/away", {"how": "hang", "ms": 1, "for": 1}, "for: there is no such key; this call takes how, ms"),
        ("/devcore/tokens/expire", {"provider": "x"}, "provider: there is no such key; this call takes no body"),
    ],
)
async def test_a_key_without_effect_is_refused(key: PrivateKey, path: str, body: Json, words: str) -> None:
    """A mistyped wish is not half granted: nothing is done, and the words name what the call takes."""
    async with talking(key) as caller:
        status, answer = await caller.call("POST", path, body)
        assert status == 400
        assert str(answer["why"]).startswith(words)
        assert (len(caller.core.faults), len(list(caller.core.jobs))) == (0, 1)


async def test_a_fault_is_answered_with_what_is_in_force(key: PrivateKey) -> None:
    """Defaults filled in and counted down; the same as when asked."""
    async with talking(key) as caller:
        await caller.call("POST", "/devcore/faults", {"effect": "drop", "path": "/nowhere"})
        status, told = await caller.call("POST", "/devcore/faults", {"status": 503, "times": 2, "path": "/api/"})
        rest: JsonObject = {"why": "Internal Server Error", "probability": 1.0, "delayMs": 0}
        assert status == 200
        assert told == {
            "faults": [
                {"effect": "drop", "status": 500, "path": "/nowhere", "times": None} | rest,
                {"effect": "status", "status": 503, "path": "/api/", "times": 2} | rest,
            ]
        }
        assert (await caller.update())[0] == 503
        _, later = await caller.call("GET", "/devcore/faults")
        assert [dig(fault, "times") for fault in cast("list[Json]", later["faults"])] == [None, 1]
        await caller.call("DELETE", "/devcore/faults")
        assert await caller.call("GET", "/devcore/faults") == (200, {"faults": []})


async def test_away_over_http_ends_by_itself(key: PrivateKey) -> None:
    """It answers first; after its time Core is back on the same port."""
    async with talking(key) as caller:
        assert (await caller.call("POST", "/devcore/away", {"how": "refuse", "ms": 50}))[0] == 200
        async with asyncio.timeout(10):
            while True:
                try:
                    status, _ = await caller.update(state="RUNNING")
                except aiohttp.ClientError:
                    continue
                assert status == 200
                break


@pytest.mark.parametrize("path", ["/devcore/token", "/devcore/jobs", "/devcore/requests"])
async def test_a_web_page_may_not_steer(key: PrivateKey, path: str) -> None:
    """A browser sends an Origin; such a request gets no token and no list."""
    async with talking(key) as caller:
        status, _ = await caller.call("GET", path, headers={"Origin": "http://evil.example"})
        assert status == 403


async def test_waiting_ends_with_the_change_or_with_the_time(key: PrivateKey) -> None:
    """`until` wakes on what happens here."""
    async with talking(key) as caller:
        waiting = asyncio.create_task(caller.core.until(lambda: caller.core.jobs["1"].state == "RUNNING"))
        await caller.update(state="RUNNING")
        await waiting
        with pytest.raises(TimeoutError):
            await caller.core.until(lambda: False, timeout_s=0.01)


def test_each_call_that_steers_is_in_the_docs() -> None:
    """docs/devcore.md names every line of `GET /devcore/`, and every effect of a fault."""
    page = (Path(__file__).parents[3] / "docs" / "devcore.md").read_text(encoding="utf-8")
    for call in HELP:
        assert call.partition("?")[0].rpartition(" ")[2] in page, call
    for effect in Effect:
        assert f"`{effect.value}`" in page
