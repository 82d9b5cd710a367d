"""A process that opens sessions and ends their jobs until it is killed, and says on its standard output what it was answered.

See `victims`; its lines: "opened SESSION", "redeemed SESSION", "over JOB".
"""

from __future__ import annotations

import asyncio
import os

from serai_server.store.model import JobChange, NewJob, State
from serai_server.store.open import open_store
from serai_server.store.session_model import SessionKind, StoredSession

from fakes.victims import run, say

WORKERS = 12
LAST_MS = 2**40


async def write(url: str, prefix: str) -> None:
    async with open_store(url, lambda _: None) as store, asyncio.TaskGroup() as group:

        async def jobs(worker: int) -> None:
            n = 0
            while True:
                n += 1
                job_id = f"{prefix}.{worker}.{n}"
                await store.create_jobs([NewJob(job_id, b"", b"d", "o", "", "a", "p", "n", 1, 0, 60_000, "/f", n)])
                rows = [
                    StoredSession(f"{job_id}.{i}", os.urandom(32), b"", SessionKind.WEB, job_id, 0, "u", 80, n, 0, LAST_MS)
                    for i in range(3)
                ]
                await store.sessions.open(rows, {job_id: 1})
                for row in rows:
                    say("opened", row.id)
                if await store.sessions.redeem(rows[0].id, b"cookie", n, LAST_MS):
                    say("redeemed", rows[0].id)
                if n % 2:
                    await store.change_job(JobChange(job_id, 1, state=State.SUCCESS, ended_at_ms=n))
                    say("over", job_id)

        for worker in range(WORKERS):
            group.create_task(jobs(worker))


if __name__ == "__main__":
    run(write)
