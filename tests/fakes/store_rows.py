"""New jobs and events for tests of the store, with only what a test cares about."""

from __future__ import annotations

import hashlib
from pathlib import Path

from serai_server.store.link import Link
from serai_server.store.model import EventKind, NewEvent, NewJob
from serai_server.store.postgresql import PostgresLink
from serai_server.store.sqlite import SqliteLink


def new_job(job_id: str, *, text: str = "", owner: str = "alice", project: str = "", created_at_ms: int = 1_000, events: int = 1) -> NewJob:
    """`text` is the job's content: two jobs of one id and other texts are a conflict."""
    body = f"job {job_id} {text}".encode()
    return NewJob(
        id=job_id,
        body=body,
        digest=hashlib.sha256(body).digest(),
        owner=owner,
        project=project,
        application="acme-batch 1.0.0",
        product="example/example-compute/example-compute-1",
        name="a name",
        replicas=2,
        time_limit_ms=3_600_000,
        period_ms=60_000,
        output_folder=f"/home/Jobs/acme-batch/{job_id}",
        created_at_ms=created_at_ms,
        events=tuple(update(job_id, f"created {n}") for n in range(events)),
    )


def update(job_id: str, text: str = "news", at_ms: int = 2_000) -> NewEvent:
    return NewEvent(job_id, EventKind.JOB_UPDATE, text.encode(), at_ms)


def link_to(url: str) -> Link:
    """An open connection to the database, as the owner thread has one."""
    link = SqliteLink(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite") else PostgresLink(url)
    link.connect()
    return link
