"""A job's files and a job's neighbours, from Core's request to what the program sees."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.stack import Stack, stack
from serai_devcore.applications import EXAMPLE_PRODUCT, Application, JobRequest, shell_request, text_parameter, var, word
from serai_devcore.wire import JsonObject

READER = Application(
    "reader",
    "1",
    "Reader",
    "Shows its inputs",
    "debian:stable-slim",
    (word("sh"), word("-c"), word('cat "$@"; ls'), word("sh"), var("first", "second")),
    ({**text_parameter("first", "A file"), "type": "input_file"}, {**text_parameter("second", "Another"), "type": "input_file"}),
)
SERVE = """python3 -c '
import socket
with socket.create_server(("0.0.0.0", 7000)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    connection.sendall(b"data of A")
    print(connection.recv(99).decode(), flush=True)
'"""
ASK = """python3 -c '
import socket
with socket.create_connection(("database", 7000), 20) as connection:
    print(connection.recv(99).decode(), flush=True)
    connection.sendall(b"thanks of B")
'"""


@pytest.fixture(params=["2021", "2026"])
async def serai(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Stack]:
    async with stack(tmp_path, generation=str(request.param)) as running:
        yield running


def file(path: str, *, read_only: bool = True) -> JsonObject:
    return {"type": "file", "path": path, "readOnly": read_only}


async def test_outputs_of_one_job_are_inputs_of_the_next(serai: Stack) -> None:
    """Two files of one name are told apart, on the command line too; the job's folder has its own files and no empty mount points."""
    made = await serai.core.submit(shell_request("mkdir a b; echo one > a/x.txt; echo two > b/x.txt"))
    await serai.until_final(made.job_id)
    folder = serai.core.jobs[made.job_id].output_folder
    request = JobRequest(READER, EXAMPLE_PRODUCT, {"first": file(f"{folder}/a/x.txt"), "second": file(f"{folder}/b/x.txt")})
    sent = await serai.core.submit(request)
    assert sent.accepted, sent.answer
    await serai.until_final(sent.job_id)
    out = (serai.work(sent.job_id, "Reader") / "stdout.txt").read_text()
    assert out.startswith("one\ntwo\n")
    assert {"x.txt", "x (2).txt"} <= set(out.splitlines())
    left = {p.name for p in serai.work(sent.job_id, "Reader").iterdir()}
    assert not left & {"x.txt", "x (2).txt"}
    if serai.core.generation.value == "2026":
        assert json.loads((serai.work(sent.job_id, "Reader") / "JobParameters.json").read_text())["siteVersion"] == 3


async def test_read_only_holds_and_writing_goes_to_the_drive(serai: Stack) -> None:
    """What is not read-only is the user's own file and may be changed; what is cannot be."""
    made = await serai.core.submit(shell_request("mkdir d; echo old > d/f"))
    await serai.until_final(made.job_id)
    folder = serai.core.jobs[made.job_id].output_folder
    write = shell_request("echo new > d/f")
    refused = await serai.core.submit(replace(write, resources=(file(f"{folder}/d"),)))
    await serai.until_final(refused.job_id)
    assert (serai.work(made.job_id) / "d" / "f").read_text() == "old\n"
    taken = await serai.core.submit(replace(write, resources=(file(f"{folder}/d", read_only=False),)))
    await serai.until_final(taken.job_id)
    assert (serai.work(made.job_id) / "d" / "f").read_text() == "new\n"


async def test_a_drive_of_somebody_else_is_refused(serai: Stack) -> None:
    """At once, with the path of the field; nothing is stored."""
    sent = await serai.core.submit(replace(shell_request("true"), resources=(file("/other/secret"),)))
    assert (sent.answer.status, "specification.resources[0]" in sent.answer.why) == (400, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="jobs are connected by root only")
async def test_two_jobs_reach_each_other_by_name(serai: Stack) -> None:
    """Bytes go both ways between a job and the one that it named; a job whose peer is gone says so."""
    a = await serai.core.submit(shell_request(SERVE))
    await serai.core.until(lambda: serai.core.jobs[a.job_id].state == "RUNNING")
    peer: JsonObject = {"type": "peer", "hostname": "database", "jobId": a.job_id}
    b = await serai.core.submit(replace(shell_request(f"until {ASK} 2>/dev/null; do sleep 0.2; done"), resources=(peer,)))
    assert b.accepted, b.answer
    await serai.until_final(a.job_id, b.job_id)
    assert (serai.work(a.job_id) / "stdout.txt").read_text() == "ready\nthanks of B\n"
    assert (serai.work(b.job_id) / "stdout.txt").read_text() == "data of A\n"
    late = await serai.core.submit(replace(shell_request("true"), resources=(peer,)))
    await serai.until_final(late.job_id)
    job = serai.core.jobs[late.job_id]
    words = "The job could not be started: the job that it wants to reach as database is not running any more."
    assert (job.state, job.arrivals[-1].status) == ("FAILURE", words)


@pytest.mark.skipif(os.geteuid() != 0, reason="jobs are connected by root only")
async def test_nobody_reaches_a_job_of_somebody_else(serai: Stack) -> None:
    """Even if Core let the request through, a job of another project's is told apart in no way from one that never was."""
    theirs = await serai.core.submit(replace(shell_request("sleep 600"), username="alice", project="p1"))
    await serai.core.until(lambda: serai.core.jobs[theirs.job_id].state == "RUNNING")
    for job_id in (theirs.job_id, "999999"):
        peer: JsonObject = {"type": "peer", "hostname": "database", "jobId": job_id}
        sent = await serai.core.submit(replace(shell_request("true"), username="mallory", resources=(peer,)))
        await serai.until_final(sent.job_id)
        job = serai.core.jobs[sent.job_id]
        words = "The job could not be started: the job that it wants to reach as database is not running any more."
        assert (job.state, job.arrivals[-1].status) == ("FAILURE", words)
    assert serai.core.jobs[theirs.job_id].state == "RUNNING"
    await serai.core.terminate(theirs.job_id)
    await serai.until_final(theirs.job_id)


async def test_an_application_that_is_a_script(tmp_path: Path) -> None:
    """A template of today's Core is rendered for each rank and run by its interpreter."""
    template = "set -e\necho rank {{ ucloud.rank }} of {{ ucloud.nodes }}: {{ who }}\n"
    script: JsonObject = {"type": "jinja", "template": template}
    who: JsonObject = {"type": "text", "value": "it's $HOME; `id`"}
    application = Application(
        "script", "2", "Script", "A script", "debian:stable-slim", (script,), (text_parameter("who", "Who"),), allow_multi_node=True
    )
    async with stack(tmp_path, generation="2026") as running:
        sent = await running.core.submit(JobRequest(application, EXAMPLE_PRODUCT, {"who": who}, replicas=2))
        assert sent.accepted, sent.answer
        await running.until_final(sent.job_id)
        assert running.core.jobs[sent.job_id].state == "SUCCESS"
        for rank, name in enumerate(("stdout.txt", "stdout-1.txt")):
            text = (running.work(sent.job_id, "Script") / name).read_text()
            assert text == f"rank {rank} of 2: it's $HOME; `id`\n"
