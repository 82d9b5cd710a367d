"""Ways to fail or to wait with real programs in real sandboxes, each told to Core in words of its own. The whole table of causes, with a
backend that is moved by hand: tests/integration/jobs/test_causes.py."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.stack import TINY_PRODUCT, UNIT_PRODUCT, Stack, stack
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, shell_request, word
from serai_devcore.wire import JsonObject

PROGRAM = Application("program", "1", "Shell", "Runs one program", "debian:stable-slim", (word("true"),), allow_multi_node=True)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="hard memory limits need root")


@pytest.fixture(params=["2021", "2026"])
async def serai(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path, generation=str(request.param), cpu=3) as running:
        yield running


def program(*words: str) -> JobRequest:
    return JobRequest(replace(PROGRAM, invocation=tuple(word(w) for w in words)), EXAMPLE_PRODUCT)


def with_input(path: str) -> JobRequest:
    value: JsonObject = {"type": "file", "path": path, "readOnly": True}
    return replace(shell_request("true"), resources=(value,))


async def told(running: Stack, request: JobRequest) -> tuple[str, str]:
    """State and words of the end, as Core has them."""
    sent = await running.core.submit(request)
    assert sent.accepted, sent.answer
    await running.until_final(sent.job_id)
    job = running.core.jobs[sent.job_id]
    return job.state, job.arrivals[-1].status


async def test_programs_that_end_by_themselves(serai: Stack) -> None:
    """A program's own end is SUCCESS in 2021 and FAILURE in 2026 unless it exits with 0; the words are the same."""
    own = "SUCCESS" if serai.core.generation.value == "2021" else "FAILURE"
    assert await told(serai, shell_request("exit 0")) == ("SUCCESS", "The job has finished processing!")
    assert await told(serai, shell_request("exit 3")) == (own, "The program ended with exit code 3.")
    assert await told(serai, shell_request("kill -9 $$")) == (own, "The program was ended by signal 9 (SIGKILL).")
    second = shell_request('[ "$(cat /etc/ucloud/rank.txt)" = 0 ] || exit 4', replicas=2)
    assert await told(serai, second) == (own, "Rank 1 ended with exit code 4.")


@AS_ROOT
async def test_memory_that_is_not_there(serai: Stack) -> None:
    """The program that takes more than its machine type has is ended; one whose child did so says it."""
    own = "SUCCESS" if serai.core.generation.value == "2021" else "FAILURE"
    eat = "python3 -c 'x = bytearray(300 << 20)'"
    state, words = await told(serai, replace(shell_request(f"exec {eat}"), product=TINY_PRODUCT))
    assert (state, words) == (own, "The program used more memory than its machine type has and was ended.")
    state, words = await told(serai, replace(shell_request(f"{eat}; exit 5"), product=TINY_PRODUCT))
    assert words == "The program ended with exit code 5; one of its processes had been ended by its memory limit."


async def test_what_cannot_be_started(serai: Stack) -> None:
    """Programs and inputs that are not there or may not be used, and jobs that are too large: FAILURE in both generations."""
    drive = serai.folder / "drives" / "user"
    assert await told(serai, program("no-such-program")) == (
        "FAILURE",
        "The program could not be started: there is no program no-such-program on the machine.",
    )
    assert await told(serai, program("/etc/passwd")) == (
        "FAILURE",
        "The program could not be started: the file /etc/passwd is not a program that may be executed.",
    )
    assert await told(serai, with_input("/user/no/such.txt")) == (
        "FAILURE",
        "The program could not be started: the input /user/no/such.txt does not exist.",
    )
    (drive / "way-out").symlink_to("/etc")
    assert await told(serai, with_input("/user/way-out/passwd")) == (
        "FAILURE",
        "The program could not be started: the job may not use the input /user/way-out/passwd.",
    )
    state, words = await told(serai, shell_request("true", replicas=4))
    assert (state, words) == ("FAILURE", "The job could not be started: the job needs 4 cores, the machine has 3.")


async def test_a_supervisor_that_is_ended_by_somebody(serai: Stack) -> None:
    """Nobody saw how the program ended, and that is said; it is the provider's fault."""
    sent = await serai.core.submit(shell_request("sleep 600"))
    await serai.core.until(lambda: serai.core.jobs[sent.job_id].state == "RUNNING")
    begun = json.loads((serai.folder / "state" / "local" / "jobs" / sent.job_id / "begun").read_text())
    os.kill(int(begun["pid"]), signal.SIGKILL)
    await serai.until_final(sent.job_id)
    job = serai.core.jobs[sent.job_id]
    assert (job.state, "was ended by somebody on the machine." in job.arrivals[-1].status) == ("FAILURE", True)


async def test_waiting_is_told_with_place_and_estimate(serai: Stack) -> None:
    """For what, how many are before it, and when it starts at the latest when every job before it has a limit."""
    first = await serai.core.submit(replace(shell_request("sleep 600", replicas=3), hours=0, minutes=20))
    await serai.core.until(lambda: serai.core.jobs[first.job_id].state == "RUNNING")
    second = await serai.core.submit(shell_request("sleep 600"))

    def words(job_id: str) -> list[str]:
        return [a.status for a in serai.core.jobs[job_id].arrivals]

    await serai.core.until(lambda: any("waiting for" in w for w in words(second.job_id)))
    third = await serai.core.submit(shell_request("sleep 600"))
    await serai.core.until(lambda: any("1 job is before it" in w for w in words(third.job_id)))
    assert "The job is waiting for 1 core (0 of 3 are free); it starts within 20 minutes." in words(second.job_id)
    for sent in (third, second, first):
        await serai.core.terminate(sent.job_id)
    await serai.until_final(first.job_id, second.job_id, third.job_id)


async def test_a_limit_warns_and_ends(serai: Stack) -> None:
    """A job of 61 seconds is warned a minute before its end; one of a second is EXPIRED and billed once."""
    sent = await serai.core.submit(replace(shell_request("sleep 600"), hours=0, seconds=1))
    await serai.until_final(sent.job_id)
    job = serai.core.jobs[sent.job_id]
    assert (job.state, job.arrivals[-1].status) == ("EXPIRED", "The job has reached its time limit of 1 second.")
    long = await serai.core.submit(replace(shell_request("sleep 600"), hours=0, minutes=1, seconds=1))
    await serai.core.until(lambda: any("The job ends in 1 minute" in a.status for a in serai.core.jobs[long.job_id].arrivals))
    await serai.core.terminate(long.job_id)
    await serai.until_final(long.job_id)


async def test_without_credits_jobs_end_and_new_ones_are_refused(serai: Stack) -> None:
    """The seed's words; and then 402 with UCloud's code for it, in both generations."""
    first = await serai.core.submit(shell_request("exit 0", product=UNIT_PRODUCT))
    await serai.until_final(first.job_id)
    await serai.core.until(lambda: bool(serai.core.accounts.charges))
    serai.core.set_credits(first.job_id, 0)
    sent = await serai.core.submit(shell_request("sleep 600", product=UNIT_PRODUCT))
    await serai.until_final(sent.job_id)
    job = serai.core.jobs[sent.job_id]
    assert (job.state, job.arrivals[-1].status) == ("SUCCESS", "The job was terminated (No credits)")
    async with asyncio.timeout(20):
        while (refused := await serai.core.submit(shell_request("true", product=UNIT_PRODUCT))).accepted:
            await asyncio.sleep(0.1)
    assert refused.answer.status == 402
    assert isinstance(refused.answer.body, dict)
    assert refused.answer.body["errorCode"] == "NOT_ENOUGH_COMPUTE_CREDITS"
