"""Jobs for tests: the seed's batch job as a message, and rows of the store with only what a test cares about."""

from __future__ import annotations

import dataclasses

from google.protobuf import text_format
from serai.jobs.v1.job_pb2 import Job
from serai_server.store.model import State, StoredJob, Target

SEED_JOB = """
id: "54112"
owner { created_by: "user" }
created_at: 1633329776235
specification {
  application { name: "acme-batch" version: "1.0.0" }
  product { id: "example-compute-1" category: "example-compute" provider: "example" }
  replicas: 1
  parameters { key: "debug" value { boolean { value: true } } }
  parameters { key: "value" value { text { value: "Hello, World!" } } }
  time_allocation { hours: 1 }
}
status {
  state: JOB_STATE_IN_QUEUE
  resolved_application {
    metadata { name: "acme-batch" version: "1.0.0" title: "Acme batch" }
    invocation {
      tool { name: "acme-batch" version: "1.0.0" tool { description { backend: TOOL_BACKEND_DOCKER image: "acme/batch:1.0.0" } } }
      invocation { word { word: "acme-batch" } }
      invocation { var { variable_names: "debug" prefix_global: "--debug " } }
      invocation { var { variable_names: "value" } }
      parameters { boolean { name: "debug" } }
      parameters { text { name: "value" } }
      application_type: APPLICATION_TYPE_BATCH
    }
  }
}
"""


def seed_job(job_id: str = "54112") -> Job:
    """The job of the seed's batch example, under any id."""
    job = text_format.Parse(SEED_JOB, Job())
    job.id = job_id
    return job


def stored_job(**fields: object) -> StoredJob:
    """A row of a job that was just created; `fields` replaces what a test needs otherwise."""
    row = StoredJob(
        id="54112",
        state=State.IN_QUEUE,
        target=Target.RUN,
        version=1,
        digest=b"",
        owner="user",
        project="",
        application="acme-batch 1.0.0",
        product="example/example-compute/example-compute-1",
        name="",
        replicas=1,
        time_limit_ms=3_600_000,
        period_ms=60_000,
        output_folder="/user/Jobs/Acme batch/54112",
        created_at_ms=1_000_000,
        submitted_at_ms=0,
        started_at_ms=0,
        ended_at_ms=0,
        forgotten_at_ms=0,
        stop_requested_at_ms=0,
        status="",
        replica_facts=b"",
        charged_periods=0,
        wake_at_ms=0,
        body=seed_job().SerializeToString(),
    )
    return dataclasses.replace(row, **fields)  # pyright: ignore[reportArgumentType] - a test names real fields
