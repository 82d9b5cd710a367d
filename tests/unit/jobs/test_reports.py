"""What operators' tools are told of a job: each end by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.jobs import stored_job
from serai.jobs.v1.jobs_service_pb2 import ReplicaPhase
from serai_backends.model import End, JobObservation, Phase, ReplicaObservation
from serai_server.cli.output import phase_words
from serai_server.jobs import facts
from serai_server.jobs.reports import report


def phase_of(replica: ReplicaObservation) -> str:
    """Its value's name."""
    seen = JobObservation("54112", replica.phase, (replica,))
    told = report(stored_job(replica_facts=facts.encode(seen)), 0, 0).replica_reports[0].phase
    return ReplicaPhase.Name(told).removeprefix("REPLICA_PHASE_")


@pytest.mark.parametrize("end", End)
def test_each_end_has_its_name(end: End) -> None:
    """A stop, a program that was never executed and a lost replica are not told as programs that ended by themselves."""
    assert phase_of(ReplicaObservation(0, Phase.ENDED, end)) == end.name


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_what_is_not_over(phase: Phase) -> None:
    """Is where it is."""
    assert phase_of(ReplicaObservation(0, phase)) == phase.name


def test_an_end_that_was_not_told() -> None:
    """Is none in particular."""
    assert phase_of(ReplicaObservation(0, Phase.ENDED)) == "UNSPECIFIED"


def test_the_words_are_written_down() -> None:
    """As scripts get them from the command line."""
    words = {phase_words(ReplicaPhase.Value(value.name)) for value in ReplicaPhase.DESCRIPTOR.values if value.number}
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert len(words) == 8
    assert [word for word in words if f"`{word}`" not in page] == []
