"""kill -9 of the process that holds the store, at random moments: no session outlives its job, and none that was answered is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from fakes import sessions_victim

ROUNDS = 20


def test_sessions_survive_kill_9_and_no_job_that_is_over_has_any(tmp_path: Path) -> None:
    """Twenty rounds on one database with many writers, each killed after a random number of answers."""
    path = tmp_path / "s.db"
    chance = random.Random(20261126)
    answers: dict[str, set[str]] = {"opened": set(), "redeemed": set(), "over": set()}
    with subprocess.Popen([sys.executable, sessions_victim.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victims:
        assert victims.stdin is not None
        assert victims.stdout is not None
        for number in range(ROUNDS):
            victims.stdin.write(f"sqlite:///{path} r{number}\n")
            victims.stdin.flush()
            pid, left = 0, chance.randrange(1, 400)
            for line in victims.stdout:
                kind, *words = line.split()
                if kind == "ended":
                    break
                if kind == "pid":
                    pid = int(words[0])
                    continue
                answers[kind].add(words[0])
                left -= 1
                if left == 0:
                    os.kill(pid, signal.SIGKILL)
            assert left <= 0, "the victim ended by itself"
            assert_whole(path, answers)
        victims.stdin.close()
    assert all(answers.values())


def assert_whole(path: Path, answers: dict[str, set[str]]) -> None:
    """Sessions are those of jobs that are not over, three of each or none; every one that was answered is there, and its cookie."""
    connection = sqlite3.connect(path)
    try:
        over = {str(job) for (job,) in connection.execute("SELECT id FROM jobs WHERE ended_at_ms > 0")}
        rows = {str(i): (str(job), bytes(cookie)) for i, job, cookie in connection.execute("SELECT id, job_id, cookie FROM sessions")}
    finally:
        connection.close()
    assert answers["over"] <= over
    jobs = [job for job, _ in rows.values()]
    assert not over & set(jobs)
    assert {jobs.count(job) for job in jobs} <= {3}
    living = {i for i in answers["opened"] if i.rpartition(".")[0] not in over}
    assert living <= set(rows)
    assert all(rows[i][1] == b"cookie" for i in answers["redeemed"] & living)
