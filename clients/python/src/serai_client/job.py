"""How a job stands, and how it ended."""

from __future__ import annotations

from serai_client.api.jobs.v1 import job_pb2 as jobs
from serai_client.api.jobs.v1.jobs_service_pb2 import JobReport

_FINAL = (jobs.JOB_STATE_SUCCESS, jobs.JOB_STATE_FAILURE, jobs.JOB_STATE_EXPIRED)


def is_final(state: jobs.JobState.ValueType) -> bool:
    """Whether a job in this state is over."""
    return state in _FINAL


def exit_code(report: JobReport) -> int:
    """Of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the signal for one that
    a signal ended, 1 for a job that is no SUCCESS for another reason, else 0."""
    codes = (128 + replica.signal if replica.HasField("signal") else replica.exit_code for replica in report.replica_reports)
    otherwise = int(report.state != jobs.JOB_STATE_SUCCESS)
    return next((code for code in codes if code), otherwise)
