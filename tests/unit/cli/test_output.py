"""What people see is safe to print and easy to read."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console
from serai.core.v1.resources_pb2 import NameAndVersion, ProductReference
from serai.jobs.v1 import job_pb2
from serai.jobs.v1.jobs_service_pb2 import JobLicense, JobReport, ReplicaPhase, ReplicaReport
from serai_server.cli import output

EVIL = "a\x1b[31mred\x07\n[bold]x[/bold]"


def printed(renderable: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def evil_report() -> JobReport:
    return JobReport(
        id="1",
        state=job_pb2.JOB_STATE_RUNNING,
        status=EVIL,
        owner=EVIL,
        application=NameAndVersion(name=EVIL, version="1"),
        name=EVIL,
        output_folder=EVIL,
        replica_reports=[ReplicaReport(rank=0, phase=ReplicaPhase.REPLICA_PHASE_EXITED, exit_code=1, cause=EVIL, node=EVIL)],
    )


def test_names_of_users_are_no_control_sequences() -> None:
    """A job's name can neither colour the operator's terminal nor begin a line of its own, and markup is plain text."""
    report = evil_report()
    for text in (
        printed(output.jobs_table([report])),
        printed(output.job_card(report)),
        printed(output.replicas_table(report.replica_reports)),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[bold]x[/bold]" in text
        assert not any(line.startswith("[bold]") for line in text.splitlines())


STATUS = "Job waits for 4 cores: 1 free of 2, 3 jobs are ahead of it"


def listed_report() -> JobReport:
    return JobReport(
        id="1792000000123",
        state=job_pb2.JOB_STATE_RUNNING,
        status=STATUS,
        owner="JaneDoe#1234",
        application=NameAndVersion(name="acme-batch", version="1.0.0"),
        replicas=3,
        created_at_ms=1_792_000_000_000,
        started_at_ms=1_792_000_000_000,
        ended_at_ms=1_792_000_061_000,
    )


def words(text: str, heading: str) -> str:
    """What stands in the last column, its folded lines joined."""
    lines = text.splitlines()
    return " ".join(" ".join(line[lines[0].index(heading) :] for line in lines[1:]).split())


@pytest.mark.parametrize("width", [200, 120, 80, 60])
def test_a_narrow_terminal_shows_fewer_columns_and_all_of_these(width: int) -> None:
    """Nothing that is shown is cut, the status folds, and columns that tell less are left out first."""
    text = printed(output.jobs_table([listed_report()], width), width)
    assert "1792000000123" in text
    assert words(text, "STATUS") == STATUS
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert ("CREATED" in text, "REPLICAS" in text) == {200: (True, True), 120: (False, True), 80: (False, False), 60: (False, False)}[width]
    if width >= 80:
        assert "JaneDoe#1234  acme-batch 1.0.0" in text


@pytest.mark.parametrize("width", [70, 60, 40, 20])
def test_the_job_id_is_whole_on_any_terminal(width: int) -> None:
    """It is what the next command needs. Other cells fold, and no line is longer than the terminal."""
    report = listed_report()
    report.stopping = True
    table = output.jobs_table([report], width)
    assert "1792000000123" in printed(table, width)
    assert max(len(line.rstrip()) for line in printed(table).splitlines()) <= width


def test_a_pipe_gets_every_column() -> None:
    """A script that counts columns must not depend on what stands in them."""
    report = listed_report()
    report.owner = "x" * 150
    assert [h for h in ("CREATED", "REPLICAS", "RAN", "STATUS") if h not in printed(output.jobs_table([report]), 400)] == []


def test_a_narrow_terminal_tells_why_a_replica_ended() -> None:
    """Times and machine give way to the cause."""
    replica = ReplicaReport(
        rank=1, phase=ReplicaPhase.REPLICA_PHASE_START_FAILED, cause="program acme was not found", node="node-with-a-long-name"
    )
    replica.started_at_ms = replica.ended_at_ms = 1_792_000_000_000
    text = printed(output.replicas_table([replica], 80), 80)
    assert words(text, "CAUSE") == "program acme was not found"
    assert "start failed" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_time_has_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time, with its distance from UTC on that day."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert output.when(1_792_000_000_999) == "2026-10-14 19:46:40+02:00"
        assert output.when(1_794_600_000_000) == "2026-11-13 21:00:00+01:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("count", "expected"), [(1, "1 event"), (2, "2 events")])
def test_one_event_is_one(count: int, expected: str) -> None:
    assert printed(output.job_card(JobReport(id="1", undelivered_events=count))).rstrip().endswith(f" {expected}")


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0, "0.0 s"), (1_950, "1.9 s"), (59_999, "59.9 s"), (61_000, "1 min 01 s"), (3_600_000 * 30 + 120_000, "30 h 02 min")],
)
def test_how_long_it_ran(ms: int, expected: str) -> None:
    """In the unit in which a person would say it."""
    assert output.ran(JobReport(started_at_ms=1_000, ended_at_ms=9_000_000_000, ran_ms=ms)) == expected


def test_how_long_a_job_ran() -> None:
    """What it ran and not what passed; of one that runs up to now, by the server's clock."""
    assert output.ran(JobReport()) == ""
    runs = JobReport(created_at_ms=500, started_at_ms=1_000, running_since_ms=4_000, ran_ms=2_000, age_ms=9_500)
    assert output.ran(runs) == "8.0 s"
    assert output.ran(JobReport(started_at_ms=1_000, ran_ms=61_000)) == "1 min 01 s"
    assert output.when(0) == ""


def test_every_state_has_a_name_and_comes_back() -> None:
    """The names that `--state` takes are those that are shown."""
    assert {output.state_name(output.state_number(n)) for n in output.state_names()} == set(output.state_names())
    assert len(output.state_names()) == len(job_pb2.JobState.values()) - 1


def test_a_stop_is_seen_before_it_is_done() -> None:
    """A job that was asked to stop and still runs is shown as such."""
    assert output.state_text(JobReport(state=job_pb2.JOB_STATE_RUNNING, stopping=True)).plain == "RUNNING (stopping)"


def test_a_jobs_licenses_and_their_seats_are_told() -> None:
    """Whoever asks why a job waits sees for which license."""
    product = ProductReference(id="solver", category="acme", provider="hpc")
    report = JobReport(
        id="1", licenses=[JobLicense(id="7", product=product, seats=1, held_at_ms=5), JobLicense(id="8", product=product, seats=3)]
    )
    lines = printed(output.job_card(report)).splitlines()
    words = "7 of hpc/acme/solver, holds 1 seat; 8 of hpc/acme/solver, waits for 3 seats"
    assert [line.split(maxsplit=1)[1].rstrip() for line in lines if line.startswith("licenses")] == [words]
    solver = {"id": "solver", "category": "acme", "provider": "hpc"}
    assert output.job_json(report)["licenses"] == [
        {"id": "7", "product": solver, "seats": 1, "held_at_ms": 5},
        {"id": "8", "product": solver, "seats": 3, "held_at_ms": None},
    ]


@pytest.mark.parametrize(("number", "words"), [(2, "running"), (6, "out of memory"), (0, ""), (99, "")])
def test_phases_in_words(number: int, words: str) -> None:
    """In tables and for scripts; one that a later server knows is none that could be said, and the rest of the job is."""
    report = JobReport(id="1", state=job_pb2.JOB_STATE_RUNNING, replica_reports=[ReplicaReport(phase=ReplicaPhase.ValueType(number))])
    ranks = output.job_json(report)["ranks"]
    assert isinstance(ranks, list)
    assert ranks[0]["phase"] == words
    assert words in printed(output.replicas_table(report.replica_reports))


def test_json_has_null_for_what_is_not_there() -> None:
    """Programs tell 0 from nothing."""
    document = output.job_json(JobReport(id="1", state=job_pb2.JOB_STATE_IN_QUEUE, replica_reports=[ReplicaReport(exit_code=0)]))
    assert (document["started_at_ms"], document["name"]) == (None, None)
    ranks = document["ranks"]
    assert isinstance(ranks, list)
    assert (ranks[0]["exit_code"], ranks[0]["signal"]) == (0, None)
