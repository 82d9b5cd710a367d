"""kill -9 of the process that holds the store, at random moments: what was answered is there, and nothing is there by halves."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path

from fakes import store_victim
from fakes.victims import ROUNDS, killed_rounds
from serai_server.store.open import open_store


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    """Twenty rounds on one database, with many writers and a consumer that settles; each is killed after a random number of answers."""
    path = tmp_path / "s.db"
    url = f"sqlite:///{path}"
    answers = killed_again_and_again(path, url)
    assert len(answers["created"]) > ROUNDS
    assert answers["settled"]
    await assert_all_there(url, answers)


def killed_again_and_again(path: Path, url: str) -> dict[str, dict[str, int]]:
    """Kind of answer → job id or sequence → version."""
    answers: dict[str, dict[str, int]] = {"created": {}, "changed": {}, "settled": {}}
    for said in killed_rounds("fakes.store_victim", url, seed=20261123, most=400):
        for kind, what, *version in said:
            answers[kind][what] = int(version[0]) if version else 1
        assert_sound(path)
    return answers


def assert_sound(path: Path) -> None:
    """SQLite finds nothing wrong, and each job has one event for each of its versions."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        events: dict[str, list[bytes]] = defaultdict(list)
        for job_id, body in connection.execute("SELECT job_id, body FROM events ORDER BY sequence"):
            events[job_id].append(body)
        versions = {i: int(v) for i, v in connection.execute("SELECT id, version FROM jobs")}
    finally:
        connection.close()
    assert events == {i: [store_victim.body(i, n) for n in range(1, v + 1)] for i, v in versions.items()}


async def assert_all_there(url: str, answers: dict[str, dict[str, int]]) -> None:
    async with open_store(url, lambda _: None) as store:
        for job_id in answers["created"]:
            job = await store.job(job_id)
            assert job is not None, job_id
            assert job.version >= answers["changed"].get(job_id, 1), job_id
        left = {e.sequence for e in await store.events("core", 0, 1_000_000)}
        assert not left & {int(s) for s in answers["settled"]}
