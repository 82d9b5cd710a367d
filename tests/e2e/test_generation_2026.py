"""The life of a job under today's Core, its rules taken from the stand-in, each of which has a test of its own with its source."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from fakes.stack import Stack, stack
from serai_devcore.applications import acme_request, shell_request
from serai_devcore.faults import Away
from serai_devcore.records import Direction
from serai_devcore.wire import JsonObject, as_object, dig, read_items

UPDATE = "/api/jobs/control/update"
WAIT_FOR_GO = "while [ ! -e go ]; do sleep 0.02; done"


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path, generation="2026") as running:
        yield running


def states(running: Stack, job_id: str) -> list[str]:
    """The states that Core was told, each change once."""
    told = [a.state for a in running.core.jobs[job_id].arrivals if a.state]
    return [state for i, state in enumerate(told) if i == 0 or told[i - 1] != state]


def updates(running: Stack) -> list[JsonObject]:
    """Every `update` object that was sent, whatever the answer."""
    bodies = [as_object(exchange.body, "") for exchange in running.core.requests.find(path=UPDATE)]
    return [as_object(item["update"], "update") for body in bodies for item in read_items(body)]


def statuses(running: Stack, path: str) -> list[int]:
    return [exchange.status for exchange in running.core.requests.find(path=path, direction=Direction.TO_CORE)]


def go(running: Stack, job_id: str) -> None:
    (running.work(job_id) / "go").touch()


async def until_running(running: Stack, job_id: str) -> None:
    await running.core.until(lambda: running.core.jobs[job_id].state == "RUNNING")


async def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_job_waits_runs_and_succeeds(tmp_path: Path) -> None:
    """Submitted, waiting for the only core while another job has it, running, over; the output folder is told. No update has a null
    timestamp, which would be a 400 (today §9), and none is answered with anything but 200."""
    async with stack(tmp_path, generation="2026", cpu=1) as running:
        first = await running.core.submit(shell_request(WAIT_FOR_GO))
        await until_running(running, first.job_id)
        second = await running.core.submit(acme_request())
        assert second.accepted
        await running.until_state(second.job_id, "IN_QUEUE")
        assert running.core.jobs[second.job_id].state == "IN_QUEUE"
        go(running, first.job_id)
        await running.until_final(first.job_id, second.job_id)
        assert states(running, second.job_id)[-2:] == ["RUNNING", "SUCCESS"]
        assert running.core.jobs[second.job_id].output_folder == f"/user/Jobs/Acme batch/{second.job_id}"
        sent = updates(running)
        assert sent
        assert all(isinstance(update.get("timestamp", 0), int) for update in sent)
        assert set(statuses(running, UPDATE)) == {200}


async def test_a_cancelled_job_is_success_and_its_terminate_is_answered_as_json(serai: Stack) -> None:
    """today §6.3: an empty body would be a 502 for the user; §9: cancelled by the user is SUCCESS; also a second time."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    await until_running(serai, sent.job_id)
    assert (await serai.core.terminate(sent.job_id)).accepted
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]
    assert (await serai.core.terminate(sent.job_id)).accepted


async def test_an_expired_token_is_renewed_and_the_update_delivered(serai: Stack) -> None:
    """today §3: an expired token is a 403, not a 401; the provider gets itself a new one and loses nothing."""
    sent = await serai.core.submit(shell_request(WAIT_FOR_GO))
    await until_running(serai, sent.job_id)
    refreshed = len(statuses(serai, "/auth/providers/refresh"))
    serai.core.expire_tokens()
    go(serai, sent.job_id)
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]
    assert 403 in statuses(serai, UPDATE)
    assert len(statuses(serai, "/auth/providers/refresh")) > refreshed


async def test_one_forgotten_job_does_not_keep_the_others_from_being_told(serai: Stack) -> None:
    """today §9: an unknown id makes the whole batch a 404 and nothing of it is applied; the batch is taken apart, the others are told, and
    the forgotten job is stopped and recorded as disowned."""
    sent = [(await serai.core.submit(shell_request(WAIT_FOR_GO))).job_id for _ in range(4)]
    for job_id in sent:
        await until_running(serai, job_id)
    await serai.core.go_away(Away.REFUSE)
    for job_id in sent[1:]:
        go(serai, job_id)
    await eventually(lambda: not any(list((serai.folder / "state").glob(f"**/jobs/{job_id}/begun")) for job_id in sent[1:]))
    serai.core.forget(sent[0])
    serai.core.forget(sent[2])
    await serai.core.come_back()
    go(serai, sent[0])
    await serai.until_final(sent[1], sent[3])
    assert [states(serai, job_id) for job_id in (sent[1], sent[3])] == [["RUNNING", "SUCCESS"]] * 2
    await serai.until_none_active()
    assert 404 in statuses(serai, UPDATE)


async def test_a_job_that_core_gave_up_on_is_ended(serai: Stack) -> None:
    """today §6.1: nothing for 5 s is a 502 for the user, and Core forgets the job without a terminate. A provider that took it all the same
    hears 404 with its first update, stops the replicas and records the job as disowned."""
    assert serai.process is not None
    serai.process.send_signal(signal.SIGSTOP)
    try:
        sent = await serai.core.submit(shell_request("sleep 600"))
    finally:
        serai.process.send_signal(signal.SIGCONT)
    assert (sent.outcome.status, "no answer within 5 s" in sent.answer.problem) == (502, True)
    assert serai.core.jobs.get(sent.job_id) is None
    await serai.core.until(lambda: 404 in statuses(serai, UPDATE))
    report = await serai.until_state(sent.job_id, "FAILURE")
    assert report["status"] == "UCloud does not know this job; it was stopped."
    assert not list((serai.folder / "state").glob(f"**/jobs/{sent.job_id}/begun"))


async def test_what_a_job_is_called_with_later_is_taken_in_todays_form(serai: Stack) -> None:
    """A terminate carries history, product and the acting user's permissions (core-wire/POST_jobs_terminate.json): it is understood."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    await until_running(serai, sent.job_id)
    document = serai.core.document_of(serai.core.jobs[sent.job_id])
    assert dig(document, "permissions", "myself") == ["ADMIN", "READ", "EDIT"]
    assert document["updates"]
    answer = await serai.core.terminate(sent.job_id)
    assert answer.body == {"responses": [{}]}
    await serai.until_final(sent.job_id)
