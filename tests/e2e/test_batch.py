"""The main job, whole: Core's request over HTTP, real processes in sandboxes, Core told of every step, the bill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.stack import ROOT, UNIT_PRODUCT, Stack, stack
from serai_devcore.applications import EXAMPLE_PRODUCT, UCLOUD_ETC, Application, JobRequest, shell_request, word
from serai_devcore.faults import Away, Effect, Fault

SEED = ROOT / "examples" / "requests" / "batch.json"
SEED_CONTENT_TYPE = {"Content-Type": "content-type: application/json; charset=utf-8"}
"""As the seed's curl sends it: the header's name stands in its value too."""


@pytest.fixture
async def serai(tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path) as running:
        yield running


def states(running: Stack, job_id: str) -> list[str]:
    """The states that Core was told, in order, without status-only updates."""
    return [a.state for a in running.core.jobs[job_id].arrivals if a.state]


async def test_the_seeds_request_is_answered_and_runs(serai: Stack) -> None:
    """The seed's create, byte for byte and with its odd Content-Type, under the name `ucloud`, gives exactly {"responses":[null]}; then
    Core sees RUNNING, then SUCCESS with the seed's words, the output folder, and one charge of one minute."""
    serai.core.providers["example"].path_name = "ucloud"
    (sent,) = await serai.core.submit_raw(SEED.read_bytes(), SEED_CONTENT_TYPE)
    assert (sent.answer.status, sent.answer.raw) == (200, b'{"responses":[null]}')
    await serai.until_final(sent.job_id)
    job = serai.core.jobs[sent.job_id]
    assert states(serai, job.id) == ["RUNNING", "SUCCESS"]
    assert job.arrivals[-1].status == "The job has finished processing!"
    assert job.output_folder == "/user/Jobs/Acme batch/54112"
    out = serai.work(job.id, "Acme batch")
    assert "Hello, World!" in (out / "stdout.txt").read_text()
    await serai.core.until(lambda: bool(serai.core.accounts.charges))
    (charge,) = serai.core.accounts.charges
    assert (charge.job_id, charge.periods, charge.number_of_products) == (job.id, 1, 1)


async def test_three_replicas_know_each_other(serai: Stack) -> None:
    """Each of 3 replicas finds its rank, the number of nodes, the job's id, its cores and an address for every node in /etc/ucloud,
    one line each; each rank's output is a file of its own."""
    sent = await serai.core.submit(JobRequest(UCLOUD_ETC, EXAMPLE_PRODUCT, replicas=3))
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]
    for rank in range(3):
        name = "stdout.txt" if rank == 0 else f"stdout-{rank}.txt"
        text = (serai.work(sent.job_id, "Show etc") / name).read_text()
        for file in ("rank.txt", "number_of_nodes.txt", "job_id.txt", "cores.txt", "node-0.txt", "node-1.txt", "node-2.txt"):
            assert file in text
        assert sent.job_id in text


async def test_terminate_ends_a_running_job(serai: Stack) -> None:
    """A user's cancel ends every replica and Core is told SUCCESS; a second cancel of the finished job is success too."""
    sent = await serai.core.submit(shell_request("echo started; sleep 600", replicas=2))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    answer = await serai.core.terminate(sent.job_id)
    assert (answer.status, answer.body) == (200, {"responses": [{}]})
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]
    assert serai.core.jobs[sent.job_id].arrivals[-1].status == "The job was stopped."
    again = await serai.core.terminate(sent.job_id)
    assert again.status == 200


async def test_exit_codes_are_told_in_words(serai: Stack) -> None:
    """In generation 2021 a program that exits with 3 is SUCCESS, and the words say so; a missing program is FAILURE."""
    bad, none = await asyncio.gather(
        serai.core.submit(shell_request("exit 3")),
        serai.core.submit(JobRequest(_missing_program(), EXAMPLE_PRODUCT)),
    )
    await serai.until_final(bad.job_id, none.job_id)
    assert states(serai, bad.job_id)[-1] == "SUCCESS"
    assert serai.core.jobs[bad.job_id].arrivals[-1].status == "The program ended with exit code 3."
    assert states(serai, none.job_id)[-1] == "FAILURE"
    assert "no-such-program" in serai.core.jobs[none.job_id].arrivals[-1].status


def _missing_program() -> Application:
    return replace(UCLOUD_ETC, invocation=(word("no-such-program"),))


async def test_a_stop_of_the_server_does_not_stop_jobs(serai: Stack) -> None:
    """After SIGTERM and a new start the same job goes on, and its end is told; the stop itself ends with exit code 0."""
    sent = await serai.core.submit(shell_request("echo one; while [ ! -e go ]; do sleep 0.05; done; echo two"))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    assert await serai.stop() == 0
    (serai.work(sent.job_id) / "go").touch()
    await serai.start()
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]
    assert (serai.work(sent.job_id) / "stdout.txt").read_text() == "one\ntwo\n"


async def test_what_happens_while_core_is_away_is_told_when_it_is_back(serai: Stack) -> None:
    """Core refuses connections while a job runs and ends; afterwards it has every state in order."""
    sent = await serai.core.submit(shell_request("while [ ! -e go ]; do sleep 0.05; done"))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    await serai.core.go_away(Away.REFUSE)
    (serai.work(sent.job_id) / "go").touch()
    await _eventually(lambda: not list((serai.folder / "state").glob(f"**/jobs/{sent.job_id}/begun")))
    await serai.core.come_back()
    await serai.until_final(sent.job_id)
    assert states(serai, sent.job_id) == ["RUNNING", "SUCCESS"]


async def test_a_job_that_core_forgot_is_stopped(serai: Stack) -> None:
    """Core answers that it does not know a job when it is told of it: the replicas are ended and Serai records the job as disowned; other
    jobs in the same batches are told as usual."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    serai.core.forget(sent.job_id)
    other = await serai.core.submit(shell_request("exit 0"))
    await serai.until_final(other.job_id)
    report = await serai.until_state(sent.job_id, "FAILURE")
    assert report["status"] == "UCloud does not know this job; it was stopped."


async def test_no_credits_left_stops_the_job(serai: Stack) -> None:
    """When Core says that the owner's funds are insufficient, the job is stopped with the seed's words (accounting example)."""
    first = await serai.core.submit(shell_request("exit 0", product=UNIT_PRODUCT))
    await serai.until_final(first.job_id)
    await serai.core.until(lambda: bool(serai.core.accounts.charges))
    serai.core.set_credits(first.job_id, 0)
    sent = await serai.core.submit(shell_request("sleep 600", product=UNIT_PRODUCT))
    await serai.until_final(sent.job_id)
    job = serai.core.jobs[sent.job_id]
    assert (job.state, job.arrivals[-1].status) == ("SUCCESS", "The job was terminated (No credits)")


async def test_a_charge_whose_answer_was_lost_stops_no_job(serai: Stack) -> None:
    """Core has the charge and its answer is lost: the repeat comes back as unpaid (facts 2021 §0.2 #7); the job goes on, billed once."""
    serai.core.faults.add(Fault(Effect.LOSE_ANSWER, path="/api/jobs/control/chargeCredits", times=1))
    sent = await serai.core.submit(shell_request("while [ ! -e go ]; do sleep 0.05; done", product=UNIT_PRODUCT))
    await serai.core.until(lambda: len(serai.core.accounts.charges) == 2)
    assert [c.duplicate for c in serai.core.accounts.charges] == [False, True]
    await _eventually(lambda: (serai.work(sent.job_id)).exists())
    (serai.work(sent.job_id) / "go").touch()
    await serai.until_final(sent.job_id)
    assert serai.core.jobs[sent.job_id].arrivals[-1].status == "The job has finished processing!"


async def test_operators_see_and_stop_jobs_from_the_command_line(serai: Stack) -> None:
    """`serai jobs list|show|logs|stop` speak to the live server; --json is one document; logs are byte-exact."""
    sent = await serai.core.submit(shell_request("printf 'a\\000b'; echo err >&2; sleep 600"))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    code, listed, _ = await serai.cli("jobs", "list", "--json")
    assert code == 0
    assert [j["id"] for j in json.loads(listed)["jobs"]] == [sent.job_id]
    code, shown, _ = await serai.cli("jobs", "show", sent.job_id)
    assert code == 0
    assert b"RUNNING" in shown
    code, logs, _ = await serai.cli("jobs", "logs", sent.job_id, "--stream", "stdout")
    assert (code, logs) == (0, b"a\0b")
    code, _, _ = await serai.cli("jobs", "stop", sent.job_id, "--wait")
    assert code == 0
    await serai.until_final(sent.job_id)
    code, logs, _ = await serai.cli("jobs", "logs", sent.job_id, "--stream", "stderr")
    assert (code, logs) == (0, b"err\n")
    code, _, _ = await serai.cli("jobs", "show", "999")
    assert code == 3


async def _eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
