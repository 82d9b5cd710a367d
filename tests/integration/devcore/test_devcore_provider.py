"""The stand-in as Core towards a provider: headers, storing before calling, forgetting after failure, repeating."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import cast

import jwt
import pytest
from fakes.devcore_provider import both, lowered
from fakes.devcore_time import StillClock
from serai_devcore import CoreError, Generation, acme_request, shell_request
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, as_object, dig, parse, read_items

G2021, G2026 = Generation.G2021, Generation.G2026
BATCH = Path(__file__).parents[3] / "examples" / "requests" / "batch.json"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


async def test_a_create_of_2021_has_exactly_these_headers(key: PrivateKey) -> None:
    """2021 §6.5: the username raw, Content-Type with charset; the job under the provider's path, in items."""
    async with both(key) as (core, provider):
        provider.answers = [(200, b'{"responses":[null]}')]
        submission = await core.submit(acme_request())
        assert submission.accepted
        heard = provider.heard[0]
        assert (heard.method, heard.path) == ("POST", "/ucloud/example/jobs")
        headers = lowered(heard)
        assert headers.keys() == {"host", "authorization", "content-type", "ucloud-username", "accept-encoding", "content-length"}
        assert headers["content-type"] == "application/json; charset=UTF-8"
        assert headers["ucloud-username"] == "user"
        assert heard.items[0]["id"] == submission.job_id
        issuer = core.providers["example"].issuer
        claims = jwt.decode(headers["authorization"].removeprefix("Bearer "), issuer.public_key_pem, ["RS256"], audience="all:write")
        assert claims["sub"] == "_UCloud"


async def test_a_create_of_today_has_exactly_these_headers(key: PrivateKey) -> None:
    """today §3: no Content-Type, no Accept, the username in base64, Go's user agent."""
    async with both(key, G2026) as (core, provider):
        provider.answers = [(200, b"{}")]
        assert (await core.submit(acme_request())).accepted
        assert provider.heard[0].headers.keys() == {
            "Host",
            "User-Agent",
            "Authorization",
            "Ucloud-Username",
            "Accept-Encoding",
            "Content-Length",
        }
        assert base64.b64decode(provider.heard[0].headers["Ucloud-Username"]) == b"user"
        assert provider.heard[0].headers["User-Agent"] == "Go-http-client/1.1"


async def test_the_job_is_stored_before_the_provider_is_called(key: PrivateKey) -> None:
    """2021 §1.1 step 2: an update may come while the create is open; browse does not see the job before it is confirmed."""
    async with both(key) as (core, provider):
        seen: list[tuple[int, bool]] = []

        def look() -> None:
            job = next(iter(core.jobs))
            core.jobs.update("example", [{"id": job.id, "update": {"state": "RUNNING"}}])
            seen.append((len(core.jobs), job.confirmed))

        provider.on_call = look
        job_id = (await core.submit(acme_request())).job_id
        assert seen == [(1, False)]
        assert (core.jobs[job_id].state, core.jobs[job_id].confirmed) == ("RUNNING", True)


@pytest.mark.parametrize(
    ("status", "body", "kept", "own_id"),
    [
        (200, b'{"responses":[null]}', True, None),
        (200, b'{"responses":[{"id":"mine"}]}', True, "mine"),
        (200, b'{"responses":[]}', True, None),
        (200, b"", False, None),
        (200, b"not json", False, None),
        (400, b'{"why":"no","errorCode":null}', False, None),
        (500, b"", False, None),
        (302, b"{}", False, None),
    ],
)
async def test_any_failure_makes_core_forget(key: PrivateKey, status: int, body: bytes, kept: bool, own_id: str | None) -> None:
    """2021 §1.1 steps 3 and 5; today §6.1."""
    async with both(key) as (core, provider):
        provider.answers = [(status, body)]
        submission = await core.submit(acme_request())
        assert submission.accepted is kept
        job = core.jobs.get(submission.job_id)
        assert (job is not None) is kept
        assert (job.provider_generated_id if job else None) == own_id
        assert submission.answer.why == ("no" if status == 400 else "")


async def test_a_provider_that_is_too_slow_or_gone_has_refused(key: PrivateKey) -> None:
    """today §6.1: nothing for 5 s (here less), or a refused connection."""
    async with both(key, timeout_s=0.05) as (core, provider):
        provider.never = asyncio.Event()
        late = await core.submit(acme_request())
        assert not late.accepted
        assert "no answer within" in late.answer.why
        core.providers["example"].url = "http://127.0.0.1:1"
        assert "cannot be reached" in (await core.submit(acme_request())).answer.why
        core.providers["example"].url = ""
        assert "not known" in (await core.submit(acme_request())).answer.why
        assert len(core.jobs) == 0


async def test_a_cancelled_submission_leaves_no_job(key: PrivateKey) -> None:
    async with both(key) as (core, provider):
        provider.never = asyncio.Event()
        called = asyncio.Event()
        provider.on_call = called.set
        task = asyncio.create_task(core.submit(acme_request()))
        await called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(core.jobs) == 0


@pytest.mark.parametrize("status", [449, 503])
@pytest.mark.parametrize(("generation", "attempts", "pause_s"), [(G2021, 5, 0.2), (G2026, 6, 0.5)])
async def test_a_users_call_is_repeated_after_449_and_503(
    key: PrivateKey, status: int, generation: Generation, attempts: int, pause_s: float
) -> None:
    """2021 §1.3; today §6.2: with `integration/init` and a pause in between, and not for ever; captured of today: the init names the
    user in a header too."""
    clock = StillClock()
    async with both(key, generation, clock=clock) as (core, provider):
        provider.answers = [(status, b"{}")] * 100
        assert not (await core.submit(acme_request())).accepted
        paths = [heard.path.removeprefix("/ucloud/example") for heard in provider.heard]
        assert paths == ["/jobs", *["/integration/init", "/jobs"] * (attempts - 1)]
        assert clock.slept == [pause_s] * (attempts - 1)
        assert parse(provider.heard[1].body) == {"username": "user"}
        assert ("ucloud-username" in lowered(provider.heard[1])) is (generation is G2026)


async def test_cores_own_call_is_not_repeated_and_names_no_user(key: PrivateKey) -> None:
    """2021 §1.3, §1 table column U: retrieveProducts has no username and no body."""
    async with both(key) as (core, provider):
        provider.answers = [(503, b"{}")]
        assert (await core.retrieve_products("example")).status == 503
        heard = provider.heard[0]
        assert (heard.method, heard.path, heard.body) == ("GET", "/ucloud/example/jobs/retrieveProducts", b"")
        assert lowered(heard).keys() == {"host", "authorization", "accept-encoding"}


async def test_terminate_sends_the_job_as_it_is_and_changes_nothing(key: PrivateKey) -> None:
    """2021 §1 terminate: bare jobs; today §6.3: Core changes no state by itself."""
    async with both(key) as (core, provider):
        job_id = (await core.submit(acme_request())).job_id
        core.jobs.update("example", [{"id": job_id, "update": {"state": "RUNNING"}}])
        assert (await core.terminate(job_id)).accepted
        heard = provider.heard[-1]
        assert (heard.path, lowered(heard)["ucloud-username"]) == ("/ucloud/example/jobs/terminate", "user")
        assert dig(heard.items[0], "status", "state") == "RUNNING"
        assert core.jobs[job_id].state == "RUNNING"


async def test_the_seeds_request_goes_out_byte_for_byte(key: PrivateKey) -> None:
    """Seed: its path names `ucloud`, its product `example`, and its Content-Type holds a header's name."""
    async with both(key) as (core, provider):
        core.providers["example"].path_name = "ucloud"
        odd = "content-type: application/json; charset=utf-8"
        submissions = await core.submit_raw(BATCH.read_bytes(), {"Content-Type": odd})
        assert [s.job_id for s in submissions] == ["54112"]
        heard = provider.heard[0]
        assert (heard.path, heard.body, lowered(heard)["content-type"]) == ("/ucloud/ucloud/jobs", BATCH.read_bytes(), odd)
        assert core.jobs["54112"].provider == "example"
        with pytest.raises(CoreError):
            await core.submit_raw(BATCH.read_bytes())


async def test_a_job_of_an_unregistered_provider_is_refused(key: PrivateKey) -> None:
    async with both(key) as (core, _):
        core.providers.clear()
        with pytest.raises(CoreError) as caught:
            await core.submit(acme_request())
        assert caught.value.status == 502
        assert len(core.jobs) == 0


async def test_a_shell_job_has_its_script_as_a_parameter(key: PrivateKey) -> None:
    async with both(key) as (core, provider):
        await core.submit(shell_request("echo hi", replicas=3))
        document = provider.heard[0].items[0]
        assert dig(document, "specification", "parameters", "script", "value") == "echo hi"
        assert dig(document, "specification", "replicas") == 3


@pytest.mark.parametrize(
    ("keys", "kind", "page", "desktop"),
    [
        ({"web": 8000}, "WEB", {"port": 8000}, None),
        ({"vnc": 5901, "password": "x"}, "VNC", None, {"port": 5901, "password": "x"}),
    ],
)
async def test_a_shell_job_has_a_page_or_a_desktop(key: PrivateKey, keys: JsonObject, kind: str, page: Json, desktop: Json) -> None:
    async with both(key) as (core, provider):
        async with core.client._session.post(core.url + "/devcore/jobs", json={"shell": "true"} | keys) as answer:
            assert (await answer.json())["accepted"] is True
        invocation = as_object(dig(provider.heard[0].items[0], "status", "resolvedApplication", "invocation"), "")
        assert (invocation["applicationType"], invocation["web"], invocation["vnc"]) == (kind, page, desktop)


async def test_jobs_are_started_and_ended_over_http(key: PrivateKey) -> None:
    """/devcore/jobs and what is below it; /devcore/expect calls nobody."""
    async with both(key) as (core, provider):
        session = core.client._session  # the same client, to save a second one

        async def post(path: str, body: Json = None) -> tuple[int, JsonObject]:
            async with session.post(core.url + path, json=body if body is not None else {}) as answer:
                return answer.status, cast("JsonObject", await answer.json())

        assert (await post("/devcore/expect", parse(BATCH.read_bytes())))[1] == {"ids": ["54112"]}
        assert provider.heard == []
        for body in ({"value": "x"}, {"shell": "true"}, {"job": read_items(parse(BATCH.read_bytes()))[0] | {"id": "7"}}):
            status, answer = await post("/devcore/jobs", cast("Json", body))
            assert (status, answer["accepted"], answer["status"]) == (200, True, 200)
            job_id = cast("str", answer["id"])
            assert (await post(f"/devcore/jobs/{job_id}/terminate"))[1]["status"] == 200
        async with session.get(core.url + "/devcore/products") as answer:
            assert (await answer.json())["status"] == 200
        assert len(provider.heard) == 7
