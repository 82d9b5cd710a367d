"""A process that writes to a store until it is killed, and says on its standard output what it was answered.

`python store_victim.py` reads lines "url round" and starts a child for each, by fork, so that a round costs no start of Python.
Lines out: "pid N", then "created ID", "changed ID VERSION", "settled SEQUENCE" for each answer, then "ended" when the child was reaped.
"""

from __future__ import annotations

import asyncio
import os
import sys

from serai_server.store.model import EventKind, EventSettlement, JobChange, NewEvent, NewJob, Outcome
from serai_server.store.open import open_store

WORKERS = 12


def say(*words: object) -> None:
    """One write, so that no line is ever half."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def body(job_id: str, version: int) -> bytes:
    return f"{job_id} at {version}".encode()


async def write(url: str, prefix: str) -> None:
    async with open_store(url, lambda _: None) as store, asyncio.TaskGroup() as group:

        async def jobs(worker: int) -> None:
            n = 0
            while True:
                n += 1
                job_id = f"{prefix}.{worker}.{n}"
                first = NewEvent(job_id, EventKind.JOB_UPDATE, body(job_id, 1), 1)
                await store.create_jobs([NewJob(job_id, bytes(900), b"d", "o", "", "a", "p", "n", 1, 0, 60_000, "/f", n, events=(first,))])
                say("created", job_id)
                for version in (1, 2):
                    event = NewEvent(job_id, EventKind.JOB_UPDATE, body(job_id, version + 1), 1)
                    change = JobChange(job_id, version, status=f"at {version + 1}", events=(event,))
                    await store.change_job(change)
                    say("changed", job_id, version + 1)

        async def settle() -> None:
            while True:
                for event in await store.events("core", 0, 3):
                    await store.settle("core", [EventSettlement(event.sequence, Outcome.DELIVERED, "", 1)])
                    say("settled", event.sequence)

        group.create_task(settle())
        for worker in range(WORKERS):
            group.create_task(jobs(worker))


def main() -> None:
    for line in sys.stdin:
        url, prefix = line.split()
        child = os.fork()
        if child == 0:
            say("pid", os.getpid())
            try:
                asyncio.run(write(url, prefix))
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    main()
