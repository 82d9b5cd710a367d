"""What the console's pages are told, made of the server's answers."""

from __future__ import annotations

import pytest
from serai.jobs.v1.job_pb2 import JOB_STATE_RUNNING
from serai.jobs.v1.jobs_service_pb2 import JobReport, ReplicaPhase, ReplicaReport
from serai_gateway.console import documents


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "waiting"), (2, "running"), (3, "exited"), (5, "canceled"), (6, "out of memory"), (7, "start failed"), (0, ""), (99, "")],
)
def test_phases_in_words(number: int, words: str) -> None:
    """As the pages compare and show them; one that a later server knows is none that could be said, and the rest of the job is."""
    report = JobReport(id="1", state=JOB_STATE_RUNNING, replica_reports=[ReplicaReport(phase=ReplicaPhase.ValueType(number))])
    assert [replica.phase for replica in documents.job(report).ranks] == [words]
