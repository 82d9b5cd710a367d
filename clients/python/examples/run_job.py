"""Runs a program as a job of Serai: submits it, tells its states, writes what it writes, and ends with its exit code.

    SERAI_ADDRESS=https://serai.example.org SERAI_TOKEN=serai_… python examples/run_job.py sh -c 'echo Hello'

Its own words come on stderr and begin with "serai: ". 125 = the job could not be submitted or followed.
"""

from __future__ import annotations

import asyncio
import os
import sys

import grpc
from serai_client import AsyncClient, Options, exit_code, explain
from serai_client.api.jobs.v1.job_pb2 import JobState
from serai_client.api.jobs.v1.jobs_service_pb2 import OUTPUT_STREAM_STDERR, JobReport, SubmitRequest


async def run(command: list[str]) -> int:
    options = Options(token=os.environ.get("SERAI_TOKEN", ""))
    if ca_file := os.environ.get("SERAI_CA"):
        options["ca_file"] = ca_file
    if certificate_file := os.environ.get("SERAI_CERTIFICATE"):
        options["certificate_file"] = certificate_file
        options["key_file"] = os.environ["SERAI_KEY"]
    async with AsyncClient(os.environ.get("SERAI_ADDRESS", ""), **options) as client:
        request = SubmitRequest(
            owner="tools",
            project=os.environ.get("SERAI_PROJECT", ""),
            image=os.environ.get("SERAI_IMAGE", ""),
            command=command,
        )
        job_id = (await client.jobs.Submit(request)).job_id
        say(f"job {job_id} submitted")
        async with asyncio.TaskGroup() as group:
            states = group.create_task(print_states(client, job_id))
            group.create_task(print_logs(client, job_id))
    code = exit_code(states.result())
    say(f"job {job_id} ended: exit code {code}")
    return code


async def print_states(client: AsyncClient, job_id: str) -> JobReport:
    last = JobReport()
    async for report in client.watch(job_id):
        if report.state != last.state:
            say(f"job {job_id} is {JobState.Name(report.state).removeprefix('JOB_STATE_')}")
        last = report
    return last


async def print_logs(client: AsyncClient, job_id: str) -> None:
    async for piece in client.follow(job_id):
        target = sys.stderr if piece.stream == OUTPUT_STREAM_STDERR else sys.stdout
        target.buffer.write(piece.data)
        target.flush()


def say(words: str) -> None:
    print(f"serai: {words}", file=sys.stderr, flush=True)


def main() -> None:
    if len(sys.argv) < 2:
        print("usage: run_job.py PROGRAM [ARGUMENT...]", file=sys.stderr)
        sys.exit(125)
    try:
        code = asyncio.run(run(sys.argv[1:]))
    except* (grpc.RpcError, ValueError, OSError) as group:
        say(explain(group.exceptions[0]))
        code = 125
    sys.exit(code)


if __name__ == "__main__":
    main()
