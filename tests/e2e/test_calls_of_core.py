"""Every other call of Core against the whole: more time, pauses, looking again, money, what is declared, and what is not there in words."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fakes.stack import UNIT_PRODUCT, Stack, stack
from serai_devcore import EXAMPLE_PRODUCT, Outcome
from serai_devcore.applications import shell_request
from serai_devcore.documents import job_document
from serai_devcore.resources import ResourceRequest
from serai_devcore.wire import JsonObject, dig, dig_text

USAGE = "/api/accounting/v2/reportUsage"
WAIT_FOR_GO = "while [ ! -e go ]; do sleep 0.02; done"
HOUR_MS = 3_600_000


@pytest.fixture
async def today(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path, generation="2026") as running:
        yield running


@pytest.fixture
async def old(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path) as running:
        yield running


async def running_job(serai: Stack, script: str = WAIT_FOR_GO) -> str:
    sent = await serai.core.submit(shell_request(script))
    assert sent.accepted, sent.outcome
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    return sent.job_id


async def end(serai: Stack, job_id: str) -> None:
    (serai.work(job_id) / "go").touch()
    await serai.until_final(job_id)


# --- more time ------------------------------------------------------------------------------------------------------------------------


async def test_today_core_is_told_the_new_total(today: Stack) -> None:
    """today §9: newTimeAllocation is the new total; Core's own end of the job moves with it."""
    job_id = await running_job(today)
    job = today.core.jobs[job_id]
    assert job.time_allocation_ms == HOUR_MS
    assert (await today.core.extend(job_id, hours=1, minutes=30)).accepted
    await today.core.until(lambda: job.time_allocation_ms == 2 * HOUR_MS + HOUR_MS // 2)
    assert job.started_at_ms is not None
    assert job.expires_at_ms == job.started_at_ms + 2 * HOUR_MS + HOUR_MS // 2
    await end(today, job_id)


async def test_core_of_2021_is_told_in_words_only(old: Stack) -> None:
    """2021 §1.7: there is no field for it; the answer has one element for the item."""
    job_id = await running_job(old)
    ended = await old.core.extend(job_id, hours=1)
    assert ended.accepted, ended
    assert ended.body == {"responses": [{}]}
    await end(old, job_id)
    assert all("newTimeAllocation" not in arrival.update for arrival in old.core.jobs[job_id].arrivals)


# --- pauses ---------------------------------------------------------------------------------------------------------------------------


async def test_a_job_is_paused_and_goes_on_under_today(today: Stack) -> None:
    """today §9: SUSPENDED = resumable; the whole job stands still until unsuspend, and then ends as it would have."""
    job_id = await running_job(today, "i=0; while [ ! -e go ]; do i=$((i+1)); echo $i > count; sleep 0.02; done")
    ended = await today.core.suspend(job_id)
    assert ended.accepted, ended
    await today.core.until(lambda: today.core.jobs[job_id].state == "SUSPENDED")
    assert (await today.core.unsuspend(job_id)).accepted
    # On a busy machine a program that may end at once ends before anybody saw it RUNNING again.
    await today.core.until(lambda: today.core.jobs[job_id].state == "RUNNING")
    (today.work(job_id) / "go").touch()
    await today.until_final(job_id)
    states = [a.state for a in today.core.jobs[job_id].arrivals if a.state]
    assert [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s] == ["RUNNING", "SUSPENDED", "RUNNING", "SUCCESS"]


async def test_suspend_of_2021_takes_bare_jobs(old: Stack) -> None:
    """2021 §1 suspend: bare jobs. Core of that time has no word for it, and none that it does not know comes."""
    job_id = await running_job(old)
    ended = await old.core.suspend(job_id)
    assert ended.accepted, ended
    assert (await old.core.terminate(job_id)).accepted
    await old.until_final(job_id)
    assert "SUSPENDED" not in [a.state for a in old.core.jobs[job_id].arrivals]


# --- looking again --------------------------------------------------------------------------------------------------------------------


async def test_terminate_of_a_job_that_is_not_known_is_success_and_told(today: Stack) -> None:
    """today §11 step 6: a JSON body for any job, known or not, and then a final state."""
    job_id = await running_job(today)
    lost = today.core.known_job(job_id)
    today.core.expect([dict(lost.document) | {"id": "777"}])
    assert (await today.core.terminate("777")).accepted
    await today.until_final("777")
    assert (await today.core.terminate(job_id)).accepted
    await today.until_final(job_id)


async def test_access_changes_are_always_taken(old: Stack) -> None:
    """2021 §1.6: any error would roll the change back for the user; one element for each item."""
    job_id = await running_job(old)
    entry: JsonObject = {"entity": {"type": "user", "username": "u"}, "permissions": ["READ"]}
    ended = await old.core.update_acl(job_id, [entry])
    assert (ended.status, ended.body) == (200, {"responses": [{}]})
    await end(old, job_id)


async def test_utilization_is_numbers_where_it_is_declared(old: Stack) -> None:
    """2021 §8.2; when it is not declared it is refused in words."""
    job_id = await running_job(old)
    await old.core.retrieve_products("example")
    declared = dig(old.core.support.of("example", "example-compute", "example-compute-1"), "docker", "utilization")
    ended = await old.core.retrieve_utilization(job_id)
    assert ended.accepted is (declared is True), ended
    assert ended.accepted or (ended.status, ended.error_code) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
    await end(old, job_id)


async def test_today_a_job_that_was_lost_here_is_found_by_asking(tmp_path: Path) -> None:
    """today §4, §9: nobody asks the provider, so it asks at its start: a job that Core believes to be active and that is not known here
    gets its final state; one that runs goes on."""
    async with stack(tmp_path, generation="2026") as serai:
        kept = await running_job(serai)
        await serai.stop()
        hour_ago_ms = serai.core.clock.now_ms() - HOUR_MS
        serai.core.expect([job_document(shell_request("true"), "777", hour_ago_ms, serai.core.generation)])
        await serai.start()
        await serai.until_final("777")
        job = serai.core.jobs["777"]
        assert (job.state, job.arrivals[-1].status) == ("FAILURE", "Your job is no longer available")
        await end(serai, kept)
        assert serai.core.jobs[kept].state == "SUCCESS"


# --- money ----------------------------------------------------------------------------------------------------------------------------


async def test_today_a_job_is_billed_by_absolute_usage(today: Stack) -> None:
    """today §9: one scope for each job, so that a repetition and a crash of Core change nothing."""
    sent = await today.core.submit(shell_request("exit 0", replicas=2, product=UNIT_PRODUCT))
    await today.until_final(sent.job_id)
    await today.core.until(lambda: today.core.bill_of(sent.job_id).credits > 0)
    bill = today.core.bill_of(sent.job_id)
    assert (bill.periods, bill.odd) == (1, 0)
    items = [dig(exchange.body, "items") for exchange in today.core.requests.find(path=USAGE)]
    flat = [item for page in items if isinstance(page, list) for item in page]
    assert flat
    assert all(dig(item, "isDeltaCharge") is False for item in flat)
    assert len({dig_text(item, "description", "scope") for item in flat}) == 1
    assert not today.core.requests.find(path="/api/jobs/control/chargeCredits")


async def test_today_a_locked_wallet_ends_the_job(today: Stack) -> None:
    """today §9: false = the wallet is locked; Core cancels nothing for the provider."""
    first = await today.core.submit(shell_request("exit 0", product=UNIT_PRODUCT))
    await today.until_final(first.job_id)
    await today.core.until(lambda: today.core.bill_of(first.job_id).credits > 0)
    today.core.set_credits(first.job_id, 0)
    sent = await today.core.submit(shell_request("sleep 600", product=UNIT_PRODUCT))
    await today.until_final(sent.job_id)
    job = today.core.jobs[sent.job_id]
    assert (job.state, job.arrivals[-1].status) == ("SUCCESS", "The job was terminated (No credits)")


# --- what is declared, and what is not there ------------------------------------------------------------------------------------------


async def test_a_round_of_todays_polls_is_answered(today: Stack) -> None:
    """today §4: manifest, six types, branding: all 200 JSON, so that nothing backs off; what is declared is what Core then lets through."""
    provider = today.core.providers["example"]
    assert await today.core.polls.round(provider)
    assert await today.core.polls.branding(provider)
    asked = [e for e in today.core.requests.find(path="/ucloud/example/") if e.method == "GET"]
    assert {e.path: e.status for e in asked if e.status != 200} == {}
    entry = today.core.support.of("example", "example-compute", "example-compute-1")
    assert dig(entry, "docker", "enabled") is True
    job_id = await running_job(today)
    for flag, ended in (
        ("timeExtension", await today.core.extend(job_id, hours=1)),
        ("terminal", await today.core.open_session(job_id, "SHELL")),
        ("web", await today.core.open_session(job_id, "WEB")),
    ):
        assert ended.accepted is (dig(entry, "docker", flag) is True), (flag, ended)
    await end(today, job_id)


async def test_what_is_not_there_says_so_in_words(today: Stack) -> None:
    """Each unsupported call is an error of the client's kind with words for its user, never a 404 without text or a 5xx."""
    job_id = await running_job(today)
    core = today.core
    ended: dict[str, Outcome] = {
        "session": await core.open_session(job_id, "VNC"),
        "terminal": await core.open_terminal_in_folder("/1/in"),
        "attach": await core.attach_resource(job_id, {"type": "ingress", "id": "1"}),
        "detach": await core.detach_resource(job_id, {"type": "ingress", "id": "1"}),
        "license": (await core.create_resource(ResourceRequest("licenses", EXAMPLE_PRODUCT)))[1],
        "link": (await core.create_resource(ResourceRequest("ingresses", EXAMPLE_PRODUCT)))[1],
    }
    for name, outcome in ended.items():
        assert 400 <= outcome.status < 500, (name, outcome)
        assert len(outcome.why.split()) > 3, (name, outcome)
    await end(today, job_id)


async def test_users_labels_and_parameters_are_taken(today: Stack) -> None:
    """today §5: nothing of these may stand in a user's way: init, connect, labels, keys, and an application's own parameters."""
    job_id = await running_job(today)
    core = today.core
    assert (await core.init_user("u")).accepted
    assert (await core.update_labels(job_id, {"a": "b"})).accepted
    ended = await core.request_dynamic_parameters(job_id)
    assert (ended.status, ended.body) == (200, {"parameters": []})
    assert (await core.upload_ssh_key("k", "ssh-ed25519 AAAA", username="u")).accepted
    await end(today, job_id)
