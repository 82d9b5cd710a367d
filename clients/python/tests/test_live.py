"""Against the server that the environment names; skipped where it names none."""

from __future__ import annotations

import os

import grpc
import pytest
from serai_client import Client, Options, exit_code, explain, make_job, reason
from serai_client.api.jobs.v1.jobs_service_pb2 import RetrieveProductsRequest


@pytest.mark.skipif("SERAI_ADDRESS" not in os.environ, reason="SERAI_ADDRESS names no server")
def test_a_job_from_its_submission_to_its_last_byte() -> None:
    """A repetition is the same job, another job of its id a conflict."""
    options = Options(token=os.environ.get("SERAI_TOKEN", ""))
    if ca_file := os.environ.get("SERAI_CA"):
        options["ca_file"] = ca_file
    with Client(os.environ["SERAI_ADDRESS"], **options) as client:
        product = client.jobs.RetrieveProducts(RetrieveProductsRequest()).responses[0].product
        job = make_job(["sh", "-c", 'echo "$K"'], owner="tools", product=product, environment={"K": "a  b"})
        client.submit(job)
        client.submit(job)
        assert exit_code(client.until_final(job.id)) == 0
        assert b"".join(piece.data for piece in client.follow(job.id)) == b"a  b\n"
        with pytest.raises(grpc.RpcError) as raised:
            client.submit(make_job(["true"], owner="tools", product=product, job_id=job.id))
        assert reason(raised.value) == "JOB_CONFLICT"
        assert explain(raised.value).startswith("ALREADY_EXISTS: ")
        with pytest.raises(grpc.RpcError) as raised:
            client.until_final("no-such-job")
        assert reason(raised.value) == "JOB_UNKNOWN"
