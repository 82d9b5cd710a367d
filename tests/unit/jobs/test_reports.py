"""What operators' tools are told of a job: each end by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.jobs import stored_job
from serai_backends.model import End, JobObservation, Phase, ReplicaObservation
from serai_server.jobs import facts
from serai_server.jobs.reports import report

ROOT = Path(__file__).parents[3]
PROTO = ROOT / "proto" / "serai" / "jobs" / "v1" / "jobs_service.proto"


def phase_of(replica: ReplicaObservation) -> str:
    seen = JobObservation("54112", replica.phase, (replica,))
    return report(stored_job(replica_facts=facts.encode(seen)), 0, 0).replica_reports[0].phase


@pytest.mark.parametrize(
    ("end", "phase"),
    [
        (End.EXITED, "exited"),
        (End.SIGNALED, "signaled"),
        (End.CANCELED, "canceled"),
        (End.OUT_OF_MEMORY, "out of memory"),
        (End.START_FAILED, "start failed"),
        (End.LOST, "lost"),
    ],
)
def test_each_end_has_its_name(end: End, phase: str) -> None:
    """A stop, a program that was never executed and a lost replica are not told as programs that ended by themselves."""
    assert phase_of(ReplicaObservation(0, Phase.ENDED, end)) == phase


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_what_is_not_over(phase: Phase) -> None:
    assert phase_of(ReplicaObservation(0, phase)) == phase.value


def test_the_names_are_written_down() -> None:
    """In the API and for those who write scripts."""
    names = {phase_of(ReplicaObservation(0, Phase.ENDED, end)) for end in End} | {"waiting", "running"}
    api, page = PROTO.read_text(encoding="utf-8"), (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in names if f'"{name}"' not in api or f"`{name}`" not in page] == []
