"""kill -9 of the process that holds the store, at random moments: no session outlives its job, and none that was answered is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fakes.victims import killed_rounds


def test_sessions_survive_kill_9_and_no_job_that_is_over_has_any(tmp_path: Path) -> None:
    """Twenty rounds on one database with many writers, each killed after a random number of answers."""
    path = tmp_path / "s.db"
    answers: dict[str, set[str]] = {"opened": set(), "redeemed": set(), "over": set()}
    for said in killed_rounds("fakes.sessions_victim", f"sqlite:///{path}", seed=20261126, most=400):
        for kind, what in said:
            answers[kind].add(what)
        assert_whole(path, answers)
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
