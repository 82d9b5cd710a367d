"""A process whose jobs take seats until it is killed, and says on its standard output what it was answered.

See `victims`; its lines: "created ID", "taken ID", "over ID".
"""

from __future__ import annotations

import asyncio

from serai_server.store.license_model import AtCore, LicenseNote, LicenseState, NewClaim, NewLicense, Payment, SeatsTaken
from serai_server.store.model import EventKind, JobChange, NewEvent, NewJob, State
from serai_server.store.open import open_store
from serai_server.store.sql_store import SqlStore

from fakes.victims import run, say

WORKERS = 12
LIMITS = {"p/c/1": 4, "p/c/2": 5}
LICENSES = {"1": "p/c/1", "2": "p/c/2"}


def new_license(license_id: str) -> NewLicense:
    return NewLicense(
        id=license_id,
        digest=b"d",
        owner="o",
        project="",
        product=LICENSES[license_id],
        created_at_ms=1,
        at_core=AtCore.KNOWN,
        payment=Payment.PAID,
        status="",
        body=b"",
        acl=b"",
        readers=("r",),
        state=LicenseState.READY,
    )


def notes(job_id: str, what: str) -> tuple[LicenseNote, ...]:
    return tuple(LicenseNote(i, 1, f"{what} {job_id}".encode(), f"{what} {job_id} {i}".encode()) for i in LICENSES)


async def end(store: SqlStore, job_id: str) -> None:
    """As a start does with what it finds, and a job when it is done."""
    job = await store.job(job_id)
    assert job is not None
    free = notes(job_id, "unbind") if job.submitted_at_ms else ()
    await store.change_job(JobChange(job_id, job.version, state=State.SUCCESS, ended_at_ms=3, forgotten_at_ms=3, license_notes=free))
    say("over", job_id)


async def write(url: str, prefix: str) -> None:
    async with open_store(url, lambda _: None) as store, asyncio.TaskGroup() as group:
        await store.licenses.create([new_license(i) for i in LICENSES])
        for record in await store.active_records():
            await end(store, record.id)

        async def jobs(worker: int) -> None:
            n = 0
            while True:
                n += 1
                job_id = f"{prefix}.{worker}.{n}"
                first = NewEvent(job_id, EventKind.JOB_UPDATE, b"", 1)
                claims = tuple(NewClaim(i, product, 1 + worker % 2) for i, product in LICENSES.items())
                job = NewJob(job_id, b"", b"d", "o", "", "a", "p", "n", 1, 0, 60_000, "/f", n, events=(first,), claims=claims)
                await store.create_jobs([job])
                say("created", job_id)
                step = JobChange(job_id, 1, submitted_at_ms=2, license_notes=notes(job_id, "bind"))
                while (await store.licenses.take_seats(step, LIMITS))[1] != SeatsTaken():
                    pass
                say("taken", job_id)
                await end(store, job_id)

        for worker in range(WORKERS):
            group.create_task(jobs(worker))


if __name__ == "__main__":
    run(write)
