"""A process that writes to a store until it is killed, and says on its standard output what it was answered.

See `victims`; its lines: "created ID", "changed ID VERSION", "settled SEQUENCE".
"""

from __future__ import annotations

import asyncio

from serai_server.store.model import EventKind, EventSettlement, JobChange, NewEvent, NewJob, Outcome
from serai_server.store.open import open_store

from fakes.victims import run, say

WORKERS = 12


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


if __name__ == "__main__":
    run(write)
