"""Addresses, exit codes and errors: what needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from serai_client import Client, Options, exit_code, explain
from serai_client.api.jobs.v1 import job_pb2 as jobs
from serai_client.api.jobs.v1.jobs_service_pb2 import JobReport, ReplicaReport

TOKEN = Options(token="serai_1_secret")


@pytest.mark.parametrize("address", ["https://h", "https://h:1/", "http://localhost:1", "http://127.0.0.1", "http://[::1]:5", "unix:/a/b"])
def test_connect_takes(address: str) -> None:
    """With a token, all that nobody else can listen to."""
    Client(address, **TOKEN).close()


@pytest.mark.parametrize(
    ("address", "options", "words"),
    [
        ("", Options(), "expected https://"),
        ("h:443", Options(), "expected https://"),
        ("ftp://h", Options(), "expected https://"),
        ("https://h/path", Options(), "expected https://"),
        ("https://h:port", Options(), "expected https://"),
        ("http://serai.example.org", TOKEN, "without TLS"),
        ("http://192.0.2.1", TOKEN, "without TLS"),
        ("http://localhost", Options(ca_file="ca.pem"), "https:// addresses only"),
        ("https://h", Options(certificate_file="c.pem", ca_file=__file__), "needs its key_file"),
    ],
)
def test_connect_refuses(address: str, options: Options, words: str) -> None:
    """In words for a person, without the token."""
    with pytest.raises(ValueError, match=words) as raised:
        Client(address, **options)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        Client("https://h", ca_file=tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("state", "replicas", "code"),
    [
        (jobs.JOB_STATE_SUCCESS, [ReplicaReport(exit_code=0)] * 2, 0),
        (jobs.JOB_STATE_SUCCESS, [ReplicaReport(exit_code=code) for code in (0, 3, 4)], 3),
        (jobs.JOB_STATE_SUCCESS, [ReplicaReport(signal=9)], 137),
        (jobs.JOB_STATE_EXPIRED, [ReplicaReport(exit_code=0)], 1),
        (jobs.JOB_STATE_FAILURE, [], 1),
    ],
)
def test_exit_codes_are_those_of_a_shell(state: jobs.JobState.ValueType, replicas: list[ReplicaReport], code: int) -> None:
    assert exit_code(JobReport(state=state, replica_reports=replicas)) == code


def test_other_errors_are_explained_too() -> None:
    """In one line."""
    assert explain(ValueError("two\nlines")) == "two lines"
