"""Core's calls to a provider for jobs and resources that exist: their bodies, and what a user sees of each answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias, cast

import pytest
from fakes.devcore_provider import PlainProvider, both, lowered
from fakes.devcore_time import StillClock
from serai_devcore import EXAMPLE_PRODUCT, CoreError, DevCore, Generation, Outcome, ResourceRequest, acme_request
from serai_devcore.documents import job_document
from serai_devcore.tokens import PrivateKey, generate_key
from serai_devcore.wire import Json, JsonObject, as_object, dig, parse

G2021, G2026 = Generation.G2021, Generation.G2026
CAPTURED = Path(__file__).parents[2] / "golden" / "ucloud-2026"
GOLDEN = Path(__file__).parents[2] / "golden" / "ucloud-2021"
Do: TypeAlias = "Callable[[DevCore], Awaitable[Outcome]]"
FULL = b"""{"responses":[{"product":{"id":"example-compute-1","category":"example-compute","provider":"example"},
"docker":{"enabled":true,"timeExtension":null,"terminal":true},"virtualMachine":{"enabled":true}}]}"""
PEER: JsonObject = {"type": "peer", "hostname": "abc", "jobId": "2"}


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return generate_key()


def has_job(core: DevCore, *job_ids: str) -> None:
    """Core knows these, running; the provider has heard nothing of it."""
    core.expect([job_document(acme_request(), job_id, 0, core.generation) for job_id in job_ids or ("1",)])
    items: list[JsonObject] = [{"id": job_id, "update": {"state": "RUNNING"}} for job_id in job_ids or ("1",)]
    core.jobs.update("example", items)


def last_body(provider: PlainProvider) -> JsonObject:
    return parse(provider.heard[-1].body)


CALLS: dict[str, Do] = {
    "terminate": lambda core: core.terminate("1"),
    "extend": lambda core: core.extend("1", hours=1, minutes=30),
    "suspend": lambda core: core.suspend("1"),
    "unsuspend": lambda core: core.unsuspend("1"),
    "interactiveSession": lambda core: core.open_session("1"),
    "onUpdatedLabels": lambda core: core.update_labels("1", {"a": "b"}),
    "attachResource": lambda core: core.attach_resource("1", PEER),
    "detachResource": lambda core: core.detach_resource("1", PEER),
    "openTerminalInFolder": lambda core: core.open_terminal_in_folder("/15/in"),
    "requestDynamicParameters": lambda core: core.request_dynamic_parameters("1"),
    "unlinked": lambda core: core.unlink_user(),
    "keyUploaded": lambda core: core.upload_ssh_key("k", "ssh-ed25519 A"),
    "updateAcl": lambda core: core.update_acl("1", []),
    "utilization": lambda core: core.retrieve_utilization("1"),
}


def shape(value: Json, depth: int) -> Json:
    """Keys only, so deep: to compare with a captured message."""
    if isinstance(value, dict):
        return {name: shape(inner, depth - 1) for name, inner in sorted(value.items())} if depth else {}
    return [shape(inner, depth) for inner in value[:1]] if isinstance(value, list) else None


@pytest.mark.parametrize("call", ["extend", "suspend", "unsuspend", "interactiveSession", "terminate"])
async def test_a_call_of_today_has_the_captured_shape(key: PrivateKey, call: str) -> None:
    """core-wire/POST_jobs_*.json: the same keys in the item, in the job and in its status, and the user's name in base64."""
    captured = parse((CAPTURED / f"POST_jobs_{call}.json").read_bytes())
    async with both(key, G2026) as (core, provider):
        has_job(core)
        provider.answers = [(200, FULL)]
        await core.retrieve_products("example")
        await CALLS[call](core)
        heard = provider.heard[-1]
        assert heard.path == f"/ucloud/example/jobs/{call}"
        assert base64.b64decode(heard.headers["Ucloud-Username"]) == b"user"
        theirs, ours = (cast("list[JsonObject]", body["items"])[0] for body in (as_object(captured["request"], ""), last_body(provider)))
        assert shape(ours, 1) == shape(theirs, 1)
        job, their_job = (as_object(item.get("job", item), "") for item in (ours, theirs))
        assert shape(job, 1) == shape(their_job, 1)
        assert shape(job["status"], 1) == shape(their_job["status"], 1)
        assert shape(job["updates"], 1) == shape(their_job["updates"], 1)
        assert dig(job, "status", "state") == "RUNNING"


async def test_extend_asks_for_more_and_changes_nothing(key: PrivateKey) -> None:
    """2021 §1.7: `requestedTime` is a duration to add; today §6.3: nothing changes until the provider reports newTimeAllocation."""
    async with both(key, G2026) as (core, provider):
        has_job(core)
        before = core.jobs["1"].expires_at_ms
        assert (await core.extend("1", hours=1, minutes=30)).accepted
        (item,) = provider.heard[-1].items
        assert item["requestedTime"] == {"hours": 1, "minutes": 30, "seconds": 0}
        assert core.jobs["1"].expires_at_ms == before
        core.jobs.update("example", [{"id": "1", "update": {"newTimeAllocation": 9_000_000}}])
        await core.extend("1", seconds=5)
        (item,) = provider.heard[-1].items
        assert dig(item, "job", "specification", "timeAllocation") == {"hours": 2, "minutes": 30, "seconds": 0}


async def test_calls_of_2021_send_the_job_without_product_and_history(key: PrivateKey) -> None:
    """2021 §0.2 #1, §8.1: resolvedProduct and resolvedSupport null, updates empty; the derived golden messages' keys; suspend has bare
    jobs and its answer's body is not read."""
    async with both(key) as (core, provider):
        has_job(core)
        provider.answers = [(200, b'{"responses":[{}]}'), (200, b"")]
        assert (await core.extend("1", hours=1)).accepted
        golden = parse((GOLDEN / "derived-jobs-provider-extend.request.json").read_bytes())
        assert shape(last_body(provider), 2) == shape(golden, 2)
        (item,) = provider.heard[-1].items
        assert (dig(item, "job", "status", "resolvedProduct"), dig(item, "job", "updates")) == (None, [])
        assert (await core.suspend("1")).accepted
        assert provider.heard[-1].items[0]["id"] == "1"


@pytest.mark.parametrize(
    ("given", "seen", "why"),
    [
        ((200, b"{}"), 200, ""),
        ((200, b'{"responses":[]}'), 200, ""),
        ((200, b'{"responses":[null]}'), 200, ""),
        ((204, b""), 502, ""),
        ((200, b""), 502, ""),
        ((200, b"no json"), 502, ""),
        ((400, b'{"why":"Not now","errorCode":"X"}'), 400, "Not now"),
        ((500, b"oh"), 500, ""),
        ((401, b""), 401, ""),
        ((302, b"{}"), 302, ""),
    ],
)
@pytest.mark.parametrize("call", ["terminate", "extend", "suspend", "attachResource"])
async def test_what_a_user_of_today_sees(key: PrivateKey, call: str, given: tuple[int, bytes], seen: int, why: str) -> None:
    """today §6.1, §6.3: any JSON object is fine, an empty body is 502, errors come through with their words."""
    async with both(key, G2026) as (core, provider):
        has_job(core)
        provider.answers = [given]
        ended = await CALLS[call](core)
        assert (ended.status, ended.why, ended.accepted) == (seen, why, seen == 200)
        assert ended.error_code == ("X" if why else "")
        assert ended.answer is not None
        assert ended.answer.status == given[0]


@pytest.mark.parametrize(
    ("status", "body", "seen", "why"),
    [
        (200, b"{}", 502, ""),
        (200, b'{"responses":[{}]}', 200, ""),
        (200, b'{"responses":[null]}', 200, ""),
        (404, b"", 404, "Not Found"),
        (400, b'{"why":"No","errorCode":"FEATURE_NOT_SUPPORTED_BY_PROVIDER"}', 400, "No"),
    ],
)
async def test_what_a_user_of_2021_sees(key: PrivateKey, status: int, body: bytes, seen: int, why: str) -> None:
    """2021 §1.1 step 3 and §1.8: `responses` must be there; an error without words shows the status' own."""
    async with both(key) as (core, provider):
        has_job(core)
        provider.answers = [(status, body)]
        ended = await core.extend("1", hours=1)
        assert (ended.status, ended.why) == (seen, why)


async def test_a_provider_that_stays_busy_or_silent(key: PrivateKey) -> None:
    """2021 §1.3: after 5 attempts a bulk call is a 500; today §6.2: the last error; §6.1: nothing within the time is a 502."""
    for generation, seen in ((G2021, 500), (G2026, 503)):
        async with both(key, generation, clock=StillClock()) as (core, provider):
            has_job(core)
            provider.answers = [(503, b'{"why":"Busy"}')] * 9
            assert (await core.terminate("1")).status == seen
    async with both(key, G2026, timeout_s=0.05) as (core, provider):
        has_job(core)
        provider.never = asyncio.Event()
        ended = await core.suspend("1")
        assert (ended.status, ended.why) == (502, "")
        assert ended.answer is not None
        assert "no answer within" in ended.answer.problem


@pytest.mark.parametrize(("body", "seen"), [(b'{"responses":[]}', 502), (b"{}", 502), (b'{"responses":[null]}', 200)])
async def test_sessions_of_today_need_as_many_responses_as_items(key: PrivateKey, body: bytes, seen: int) -> None:
    """today §5: else 502 "Bad response from provider"; the same for openTerminalInFolder."""
    async with both(key, G2026) as (core, provider):
        has_job(core)
        provider.answers = [(200, body)] * 2
        for ended in (await core.open_session("1", "WEB", rank=2, target="x"), await core.open_terminal_in_folder("/15/in")):
            assert (ended.status, ended.why) == (seen, "" if seen == 200 else "Bad response from provider")
        (item,) = provider.heard[0].items
        assert (item["rank"], item["sessionType"], item["target"]) == (2, "WEB", "x")
        assert last_body(provider) == {"items": [{"folder": "/15/in"}]}


async def test_labels_are_told_and_404_means_not_interested(key: PrivateKey) -> None:
    """today §5 onUpdatedLabels: bare jobs with the new labels."""
    async with both(key, G2026) as (core, provider):
        has_job(core)
        provider.answers = [(404, b"{}"), (500, b'{"why":"Broken"}')]
        assert (await core.update_labels("1", {"a": "b"})).accepted
        assert dig(provider.heard[0].items[0], "specification", "labels") == {"a": "b"}
        assert (await core.update_labels("1", {})).status == 500


async def test_resources_are_attached_without_items(key: PrivateKey) -> None:
    """today §5: `{job, resource}`; an error goes to the user."""
    async with both(key, G2026) as (core, provider):
        has_job(core)
        provider.answers = [(200, b"{}"), (400, b'{"why":"Not while it runs"}')]
        assert (await core.attach_resource("1", PEER)).accepted
        assert last_body(provider).keys() == {"job", "resource"}
        assert last_body(provider)["resource"] == PEER
        assert (await core.detach_resource("1", PEER)).why == "Not while it runs"


async def test_an_acl_is_changed_when_the_provider_agrees(key: PrivateKey) -> None:
    """2021 §1.6: the raw lists go out with the job as it was before; only READ and EDIT are stored; an error rolls all back."""
    user: JsonObject = {"type": "user", "username": "u"}
    entry: JsonObject = {"entity": user, "permissions": ["READ", "ADMIN"]}
    async with both(key) as (core, provider):
        has_job(core)
        provider.answers = [(404, b""), (200, b'{"responses":[{}]}'), (200, b'{"responses":[{}]}')]
        assert (await core.update_acl("1", [entry])).status == 404
        assert core.jobs["1"].others == []
        assert (await core.update_acl("1", [entry])).accepted
        (item,) = provider.heard[-1].items
        assert (item["added"], item["deleted"], dig(item, "resource", "id")) == ([entry], [], "1")
        assert core.jobs["1"].others == [{"entity": user, "permissions": ["READ"]}]
        assert (await core.update_acl("1", [], [user])).accepted
        assert core.jobs["1"].others == []


async def test_verify_sends_active_jobs_and_no_user(key: PrivateKey) -> None:
    """2021 §1.5: Core's own call, only jobs that are not final, at most 100, the answer's body is not read."""
    async with both(key) as (core, provider):
        has_job(core, *[str(number) for number in range(1, 104)])
        core.jobs.update("example", [{"id": "1", "update": {"state": "SUCCESS"}}])
        assert (await core.verify()).status == 200
        heard = provider.heard[-1]
        assert (heard.path, len(heard.items), heard.items[0]["id"]) == ("/ucloud/example/jobs/verify", 100, "2")
        assert dig(heard.items[0], "status", "state") == "RUNNING"
        assert "ucloud-username" not in lowered(heard)
        await core.verify("1", "5")
        assert [item["id"] for item in provider.heard[-1].items] == ["1", "5"]


async def test_utilization_is_one_object(key: PrivateKey) -> None:
    """2021 §1, §8.2: not bulk, no user's name; anything else than the numbers is a 502."""
    good = (GOLDEN / "derived-jobs-provider-retrieveUtilization.response.json").read_bytes()
    async with both(key) as (core, provider):
        has_job(core)
        provider.answers = [(200, good), (200, b'{"responses":[]}'), (200, good.replace(b"12", b'"12"'))]
        ended = await core.retrieve_utilization("1")
        assert (ended.status, ended.body) == (200, json.loads(good))
        assert (provider.heard[-1].method, provider.heard[-1].path) == ("GET", "/ucloud/example/jobs/retrieveUtilization")
        assert "ucloud-username" not in lowered(provider.heard[-1])
        assert [(await core.retrieve_utilization("1")).status for _ in range(2)] == [502, 502]


@pytest.mark.parametrize(
    ("generation", "call"),
    [
        *[(G2021, call) for call in ("unsuspend", "onUpdatedLabels", "attachResource", "openTerminalInFolder", "requestDynamicParameters")],
        *[(G2021, call) for call in ("unlinked", "keyUploaded")],
        *[(G2026, call) for call in ("updateAcl", "utilization")],
    ],
)
async def test_a_call_of_the_other_generation_is_not_there(key: PrivateKey, generation: Generation, call: str) -> None:
    """2021 §1 "today"; today §4, §10: each generation has calls of its own."""
    async with both(key, generation) as (core, provider):
        has_job(core)
        with pytest.raises(CoreError) as caught:
            await CALLS[call](core)
        assert caught.value.status == 404
        assert provider.heard == []
    async with both(key, G2026) as (core, _):
        with pytest.raises(CoreError):
            await core.verify()


async def test_an_undeclared_parameter_asks_the_provider_first(key: PrivateKey) -> None:
    """today §5: inside of a submission any failure is a 502 and no job; a name that is not added either is a 400 (§7); `ucMetricSampleRate`
    is Core's own and asks nobody."""
    request = acme_request()
    request.parameters["extra"] = {"type": "text", "value": "x"}
    async with both(key, G2026) as (core, provider):
        provider.answers = [(404, b""), (200, b'{"parameters":[]}'), (200, b'{"parameters":[{"type":"text","name":"extra"}]}')]
        assert [(await core.submit(request)).outcome.status for _ in range(3)] == [502, 400, 200]
        assert [heard.path.rpartition("/")[2] for heard in provider.heard] == ["requestDynamicParameters"] * 3 + ["jobs"]
        assert parse(provider.heard[0].body).keys() == {"owner", "application"}
        assert len(core.jobs) == 1
        assert (await core.submit(acme_request())).accepted
        assert provider.heard[-1].path == "/ucloud/example/jobs"


async def test_users_are_connected_and_their_keys_told(key: PrivateKey) -> None:
    """2021 §6.4; today §3, §5: init's answer is ignored, connect needs redirectTo and names nobody in its headers, a key is the user's
    whatever the provider says. core-wire/POST_integration_*.json, POST_ssh_keyUploaded.json."""
    async with both(key, G2026) as (core, provider):
        provider.answers = [(200, b'{"redirectTo":"/x"}'), (200, b"{}"), (200, b"{}"), (404, b"")]
        assert (await core.init_user("u")).accepted
        assert lowered(provider.heard[-1])["ucloud-username"] == base64.b64encode(b"u").decode()
        assert (await core.connect_user("u")).body == {"redirectTo": "/x"}
        assert (last_body(provider), "ucloud-username" in lowered(provider.heard[-1])) == ({"username": "u"}, False)
        assert (await core.connect_user("u")).status == 502
        assert (await core.unlink_user("u")).accepted
        assert (await core.upload_ssh_key("k", "ssh-ed25519 AAAA", username="u")).accepted
        assert provider.heard[-1].path == "/ucloud/example/ssh/keyUploaded"
        assert dig(cast("list[Json]", last_body(provider)["allKeys"])[0], "specification", "key") == "ssh-ed25519 AAAA"


@pytest.mark.parametrize("generation", [G2021, G2026])
async def test_a_license_lives_as_long_as_the_provider_says(key: PrivateKey, generation: Generation) -> None:
    """today §5: created one by one; DELETE has a body; 404 and 5xx keep it alive. 2021 §5.1: rolled back likewise. An id of the provider
    comes back with later calls in 2026 only (2021 §0.2 #2)."""
    async with both(key, generation) as (core, provider):
        refusal = b'{"why":"No seats"}'
        provider.answers = [(402, refusal), (200, b'{"responses":[{"id":"lic-1"}]}'), (404, b""), (500, b""), (200, b'{"responses":[{}]}')]
        request = ResourceRequest("licenses", EXAMPLE_PRODUCT)
        gone, ended = await core.create_resource(request)
        assert (ended.status, ended.why, core.resources.get(gone.id)) == (402, "No seats", None)
        kept, ended = await core.create_resource(request)
        assert ended.accepted
        assert int(kept.id) == int(gone.id) + 1
        for alive in (True, True, False):
            await core.delete_resource(kept.id)
            assert (core.resources.get(kept.id) is not None) is alive
        heard = provider.heard[-1]
        assert (heard.method, heard.path) == ("DELETE", "/ucloud/example/licenses")
        assert heard.items[0]["id"] == kept.id
        assert ("providerGeneratedId" in heard.items[0]) is (generation is G2026)


async def test_an_answer_that_is_no_create_makes_core_forget(key: PrivateKey) -> None:
    """2021 §1.1 step 3: `responses` must exist, `{}` is no element, a comma is refused; today §6.1: only an id that is no text."""
    answers = [b"{}", b'{"responses":[{}]}', b'{"responses":[{"id":"a,b"}]}', b'{"responses":[{"id":7}]}']
    for generation, kept in ((G2021, [False] * 4), (G2026, [True, True, True, False])):
        async with both(key, generation) as (core, provider):
            provider.answers = [(200, body) for body in answers]
            sent = [await core.submit(acme_request()) for _ in answers]
            assert [submission.accepted for submission in sent] == kept
            assert [core.jobs.get(submission.job_id) is not None for submission in sent] == kept
            assert sent[-1].outcome.status == 502


async def test_today_core_refuses_what_is_not_declared(key: PrivateKey) -> None:
    """today §4: enabled gates submit, timeExtension extend, terminal shells; suspension gates nothing; the last good answer is believed for
    ever, and `{}` is a good one. Core's own words, without an errorCode (its reference: job.go)."""
    async with both(key, G2026, check_support=True, clock=StillClock()) as (core, provider):
        none = await core.submit(acme_request())
        assert (none.outcome.status, none.outcome.why) == (400, "the application is not supported on this machine type")
        assert (none.answer.status, len(core.jobs), provider.heard) == (0, 0, [])
        provider.answers = [(200, FULL), (500, b"")]
        await core.retrieve_products("example")
        await core.retrieve_products("example")
        sent = await core.submit(acme_request())
        assert sent.accepted
        assert dig(provider.heard[-1].items[0], "status", "resolvedSupport", "support", "docker", "terminal") is True
        ended = await core.extend(sent.job_id, hours=1)
        assert (ended.status, ended.why, ended.answer) == (400, "time extension is not supported by this provider", None)
        assert (await core.open_session(sent.job_id, "VNC")).status == 400
        assert (await core.open_session(sent.job_id, "SHELL")).accepted
        assert (await core.suspend(sent.job_id)).accepted
        features = dig(core.document_of(core.jobs[sent.job_id]), "status", "resolvedSupport", "features")
        assert features == ["jobs.docker.enabled", "jobs.docker.terminal", "jobs.vm.enabled"]
        provider.answers = [(200, b"{}")]
        await core.retrieve_products("example")
        assert not (await core.submit(acme_request())).accepted


async def test_2021_asks_and_believes_for_a_quarter_of_an_hour(key: PrivateKey) -> None:
    """2021 §1, §1.4: cached 15 min; only true counts; not declared is 400 with the errorCode; a failing provider and a product that it does
    not name are 502; a session is not checked."""
    clock = StillClock()
    async with both(key, check_support=True, clock=clock) as (core, provider):
        provider.answers = [(200, FULL)]
        sent = await core.submit(acme_request())
        assert sent.accepted
        ended = await core.extend(sent.job_id, hours=1)
        assert (ended.status, ended.error_code, ended.answer) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER", None)
        assert (await core.retrieve_utilization(sent.job_id)).error_code == "FEATURE_NOT_SUPPORTED_BY_PROVIDER"
        assert (await core.open_session(sent.job_id, "WEB")).accepted
        assert [heard.path.rpartition("/")[2] for heard in provider.heard] == ["retrieveProducts", "jobs", "interactiveSession"]
        clock.now += 15 * 60_000
        provider.answers = [(500, b""), (200, b'{"responses":[]}')]
        assert [(await core.extend(sent.job_id, hours=1)).status for _ in range(2)] == [502, 502]
