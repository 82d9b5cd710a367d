"""kill -9 of the process that holds the store while jobs take seats: no seat is lost, held twice or held for nobody."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from fakes import seats_victim
from fakes.victims import ROUNDS, killed_rounds


def test_seats_survive_kill_9(tmp_path: Path) -> None:
    """Twenty rounds on one database; each is killed after a random number of answers and ends first what the one before left behind."""
    path = tmp_path / "s.db"
    answers: dict[str, set[str]] = {"created": set(), "taken": set(), "over": set()}
    for said in killed_rounds("fakes.seats_victim", f"sqlite:///{path}", seed=20261126, most=200):
        for kind, what in said:
            answers[kind].add(what)
        assert_sound(path, answers)
    assert len(answers["taken"]) > ROUNDS
    assert len(answers["over"]) > ROUNDS


def assert_sound(path: Path, answers: dict[str, set[str]]) -> None:
    """Claims are those of the jobs that are not over, whole; held ones are within the limit and of jobs whose step is stored; history and
    events name each bind and its end once; what was answered is so."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        jobs = {
            i: (bool(submitted), bool(ended))
            for i, submitted, ended in connection.execute("SELECT id, submitted_at_ms, ended_at_ms FROM jobs")
        }
        claims = connection.execute("SELECT job_id, license_id, product, seats, held_at_ms <> 0 FROM claims").fetchall()
        lines = [
            bytes(b).decode() for (b,) in connection.execute("SELECT body FROM license_history WHERE license_id = '1' ORDER BY number")
        ]
        events = [bytes(b).decode() for (b,) in connection.execute("SELECT body FROM events WHERE license_id = '1' ORDER BY sequence")]
    finally:
        connection.close()
    assert {(job_id, license_id) for job_id, license_id, *_ in claims} == {
        (job_id, license_id) for job_id, (_, ended) in jobs.items() if not ended for license_id in seats_victim.LICENSES
    }
    held: Counter[str] = Counter()
    for job_id, _, product, seats, is_held in claims:
        assert bool(is_held) == jobs[job_id][0], job_id
        held[product] += seats if is_held else 0
    assert all(held[product] <= limit for product, limit in seats_victim.LIMITS.items())
    binds = {job_id for job_id, (submitted, _) in jobs.items() if submitted}
    unbinds = {job_id for job_id, (submitted, ended) in jobs.items() if submitted and ended}
    expected = Counter([f"bind {i} 1" for i in binds] + [f"unbind {i} 1" for i in unbinds])
    assert Counter(events) == expected
    assert [f"{line} 1" for line in lines] == events[-1_000:]
    assert answers["created"] <= set(jobs)
    assert answers["taken"] <= binds
    assert answers["over"] <= {job_id for job_id, (_, ended) in jobs.items() if ended}
