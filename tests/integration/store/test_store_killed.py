"""kill -9 of the process that holds the store, at random moments: what was answered is there, and nothing is there by halves."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from fakes import store_victim
from serai_server.store.open import open_store

ROUNDS = 20


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
    chance = random.Random(20261123)
    answers: dict[str, dict[str, int]] = {"created": {}, "changed": {}, "settled": {}}
    with subprocess.Popen([sys.executable, store_victim.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victims:
        assert victims.stdin is not None
        assert victims.stdout is not None
        for number in range(ROUNDS):
            victims.stdin.write(f"{url} r{number}\n")
            victims.stdin.flush()
            pid, left = 0, chance.randrange(1, 400)
            for line in victims.stdout:
                kind, *words = line.split()
                if kind == "ended":
                    break
                if kind == "pid":
                    pid = int(words[0])
                    continue
                answers[kind][words[0]] = int(words[1]) if len(words) > 1 else 1
                left -= 1
                if left == 0:
                    os.kill(pid, signal.SIGKILL)
            assert_sound(path)
        victims.stdin.close()
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
