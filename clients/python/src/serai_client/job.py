"""A job of one program, and how it ended."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta

from serai_client.api.core.v1.resources_pb2 import NameAndVersion, ProductReference, ResourceOwner, SimpleDuration
from serai_client.api.jobs.v1 import application_pb2 as apps
from serai_client.api.jobs.v1 import job_pb2 as jobs
from serai_client.api.jobs.v1.jobs_service_pb2 import JobReport

_FINAL = (jobs.JOB_STATE_SUCCESS, jobs.JOB_STATE_FAILURE, jobs.JOB_STATE_EXPIRED)


def make_job(
    command: Sequence[str],
    *,
    owner: str,
    product: ProductReference,
    project: str = "",
    image: str = "",
    environment: Mapping[str, str] | None = None,
    name: str = "",
    replicas: int = 1,
    time_limit: timedelta | None = None,
    job_id: str = "",
) -> jobs.Job:
    """The message that `Client.submit` and `JobsService.Create` take; anything else can be set on it.

    `command` is the program and its arguments, each unchanged. `owner` is the username in whose drive the output is kept; `project` is
    theirs, empty = their personal workspace, and must be the token's where the token has one. `product` is the machine type:
    `RetrieveProducts` lists those that there are. `image` is the container's, where jobs run in containers. `environment` is the program's,
    beside what Serai sets. `time_limit` of RUNNING is in whole seconds, rounded up; None = no limit. `job_id` is 1 to 64 letters, digits,
    "-" and "_"; empty = a new one by chance.
    """
    what = NameAndVersion(name="tool", version="1")
    tool = apps.ToolDescription(info=what, backend=apps.TOOL_BACKEND_DOCKER, image=image or None)
    invocation = apps.ApplicationInvocation(
        tool=apps.ToolReference(name=what.name, version=what.version, tool=apps.Tool(description=tool)),
        invocation=[_word(argument) for argument in command],
        environment={key: _word(value) for key, value in (environment or {}).items()},
        application_type=apps.APPLICATION_TYPE_BATCH,
        allow_multi_node=replicas > 1,
    )
    metadata = apps.ApplicationMetadata(name=what.name, version=what.version, title="Tool")
    return jobs.Job(
        id=job_id or f"tool-{secrets.token_hex(8)}",
        owner=ResourceOwner(created_by=owner, project=project or None),
        specification=jobs.JobSpecification(
            application=what,
            product=product,
            name=name or None,
            replicas=replicas,
            time_allocation=None if time_limit is None else _whole_seconds(time_limit),
        ),
        status=jobs.JobStatus(
            state=jobs.JOB_STATE_IN_QUEUE, resolved_application=apps.Application(metadata=metadata, invocation=invocation)
        ),
    )


def _word(text: str) -> apps.InvocationParameter:
    return apps.InvocationParameter(word=apps.WordInvocation(word=text))


def _whole_seconds(limit: timedelta) -> SimpleDuration:
    minutes, seconds = divmod(math.ceil(limit.total_seconds()), 60)
    return SimpleDuration(hours=minutes // 60, minutes=minutes % 60, seconds=seconds)


def is_final(state: jobs.JobState.ValueType) -> bool:
    """Whether a job in this state is over."""
    return state in _FINAL


def exit_code(report: JobReport) -> int:
    """Of a job that is over, as a shell would tell it: that of the first replica which did not end with 0, 128 and the signal for one that
    a signal ended, 1 for a job that is no SUCCESS for another reason, else 0."""
    codes = (128 + replica.signal if replica.HasField("signal") else replica.exit_code for replica in report.replica_reports)
    otherwise = int(report.state != jobs.JOB_STATE_SUCCESS)
    return next((code for code in codes if code), otherwise)
