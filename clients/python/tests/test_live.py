"""Against the server that the environment names; skipped where it names none."""

from __future__ import annotations

import os
import secrets

import grpc
import pytest
from serai_client import Client, Options, exit_code, explain, reason
from serai_client.api.jobs.v1.jobs_service_pb2 import SubmitRequest


@pytest.mark.skipif("SERAI_ADDRESS" not in os.environ, reason="SERAI_ADDRESS names no server")
def test_a_job_from_its_submission_to_its_last_byte() -> None:
    """A repetition is the same job, another job by the same submission a conflict."""
    options = Options(token=os.environ.get("SERAI_TOKEN", ""))
    if ca_file := os.environ.get("SERAI_CA"):
        options["ca_file"] = ca_file
    with Client(os.environ["SERAI_ADDRESS"], **options) as client:
        request = SubmitRequest(
            owner="tools", command=["sh", "-c", 'echo "$K"'], environment={"K": "a  b"}, submission_id=secrets.token_hex(8)
        )
        job_id = client.jobs.Submit(request).job_id
        assert client.jobs.Submit(request).job_id == job_id
        assert exit_code(client.until_final(job_id)) == 0
        assert b"".join(piece.data for piece in client.follow(job_id)) == b"a  b\n"
        request.command[:] = ["true"]
        with pytest.raises(grpc.RpcError) as raised:
            client.jobs.Submit(request)
        assert reason(raised.value) == "JOB_CONFLICT"
        assert explain(raised.value).startswith("ALREADY_EXISTS: ")
        with pytest.raises(grpc.RpcError) as raised:
            client.until_final("no-such-job")
        assert reason(raised.value) == "JOB_UNKNOWN"
