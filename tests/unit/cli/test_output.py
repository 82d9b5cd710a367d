"""What people see is safe to print and easy to read."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from serai.core.v1.resources_pb2 import NameAndVersion, ResourceOwner
from serai.jobs.v1 import job_pb2
from serai.jobs.v1.jobs_service_pb2 import JobReport, ReplicaReport
from serai_server.cli import output

EVIL = "a\x1b[31mred\x07\n[bold]x[/bold]"


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=200, markup=False, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def evil_report() -> JobReport:
    return JobReport(
        id="1",
        state=job_pb2.JOB_STATE_RUNNING,
        status=EVIL,
        owner=ResourceOwner(created_by=EVIL),
        application=NameAndVersion(name=EVIL, version="1"),
        name=EVIL,
        output_folder=EVIL,
        replica_reports=[ReplicaReport(rank=0, phase="exited", exit_code=1, cause=EVIL, node=EVIL)],
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


@pytest.mark.parametrize(
    ("ms", "expected"),
    [(0, "0.0 s"), (1_950, "1.9 s"), (59_999, "59.9 s"), (61_000, "1 min 01 s"), (3_600_000 * 30 + 120_000, "30 h 02 min")],
)
def test_how_long_it_ran(ms: int, expected: str) -> None:
    """In the unit in which a person would say it."""
    assert output.ran(JobReport(started_at_ms=1_000, ended_at_ms=1_000 + ms)) == expected


def test_a_job_that_runs_has_no_length_yet() -> None:
    """Nothing is shown for what is not known, and a clock that stepped back gives no negative time."""
    assert output.ran(JobReport(started_at_ms=1_000)) == ""
    assert output.ran(JobReport(started_at_ms=2_000, ended_at_ms=1_000)) == "0.0 s"
    assert output.when(0) == ""


def test_every_state_has_a_name_and_comes_back() -> None:
    """The names that `--state` takes are those that are shown."""
    assert {output.state_name(output.state_number(n)) for n in output.state_names()} == set(output.state_names())
    assert len(output.state_names()) == len(job_pb2.JobState.values()) - 1


def test_a_stop_is_seen_before_it_is_done() -> None:
    """A job that was asked to stop and still runs is shown as such."""
    assert output.state_text(JobReport(state=job_pb2.JOB_STATE_RUNNING, stopping=True)).plain == "RUNNING (stopping)"


def test_json_has_null_for_what_is_not_there() -> None:
    """Programs tell 0 from nothing."""
    document = output.job_json(JobReport(id="1", state=job_pb2.JOB_STATE_IN_QUEUE, replica_reports=[ReplicaReport(exit_code=0)]))
    assert (document["started_at_ms"], document["name"]) == (None, None)
    ranks = document["ranks"]
    assert isinstance(ranks, list)
    assert (ranks[0]["exit_code"], ranks[0]["signal"]) == (0, None)
