"""The whole job of a SubmitRequest: what a tool says of a program that shall run, in the form in which UCloud would have sent it.

So there is one path for all jobs. What is wrong with one is said in the names of the fields that the tool sent, and not of what is made
of them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.json_format import MessageToJson
from serai.core.v1.resources_pb2 import NameAndVersion, ProductReference, ResourceOwner, SimpleDuration
from serai.jobs.v1.application_pb2 import (
    TOOL_BACKEND_DOCKER,
    TOOL_BACKEND_NATIVE,
    Application,
    ApplicationInvocation,
    ApplicationMetadata,
    ApplicationType,
    InvocationParameter,
    Tool,
    ToolDescription,
    ToolReference,
    WordInvocation,
)
from serai.jobs.v1.job_pb2 import JOB_STATE_IN_QUEUE, Job, JobSpecification, JobState, JobStatus
from serai.jobs.v1.jobs_service_pb2 import SubmitRequest, SubmitResponse

from serai_server.errors import InvalidRequest, JobConflictError, SeraiError
from serai_server.jobs import origin
from serai_server.jobs.durations import LONGEST_DAYS, LONGEST_MS
from serai_server.jobs.invocation import ENVIRONMENT_NAME, MOST_ARGUMENT_BYTES, MOST_COMMAND_BYTES, command_bytes
from serai_server.jobs.products import Catalog, Product
from serai_server.own_jobs import SUBMITTED
from serai_server.store.model import StoredJob

_WHAT = NameAndVersion(name="tool", version="1")
"""The application of all such jobs."""
_TITLE = "Tool"
"""Its title, which is in the output folder's path."""
_SUBMISSION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID_BYTES = 16
_LONGEST_SHOWN = 200
"""Characters of what was asked for, in words about it."""

_FIELDS = {
    "owner": "owner",
    "owner.createdBy": "owner",
    "owner.project": "project",
    "specification.name": "name",
    "specification.parameters": "command",
    "specification.product": "product",
    "specification.replicas": "replicas",
    "specification.timeAllocation": "time_limit_ms",
    "status.resolvedApplication.invocation.tool.tool.description.image": "image",
}
"""Paths in the job to the fields that they are made of."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a SubmitRequest is known by once it is stored."""

    job_id: str
    """By chance, or the same for the same submission_id of the same callers."""
    project: str
    """Whose job it is; empty = none's."""
    digest: bytes
    """Of the request itself. What is made of it depends on the settings and on this program, which a repeat may find changed."""

    @classmethod
    def of(cls, request: SubmitRequest, tool: origin.Tool | None) -> Submission:
        """`tool`: who asks, None = not a tool at its door. Raises InvalidRequest, Forbidden."""
        only_project = tool.only_project if tool else ""
        project = request.project or only_project
        if tool is not None:
            tool.check_project(project, "project")
        return cls(_job_id(request.submission_id, only_project), project, _digest(request, project))

    def answer(self, job: StoredJob | None) -> SubmitResponse:
        """For the job that is stored under its id. Raises JobConflictError when it is that of another request."""
        if job is None or job.digest != self.digest:
            words = f"job {self.job_id} was submitted with this submission_id and other content; for another job use another one"
            raise JobConflictError(words, field="submission_id")
        return SubmitResponse(job_id=job.id, state=JobState.ValueType(job.state.value))


def whole_job(request: SubmitRequest, submission: Submission, catalog: Catalog) -> Job:
    """Raises InvalidRequest."""
    if not request.command:
        raise InvalidRequest("expected a program to run, and its arguments", field="command")
    _check_environment(request)
    product = _product(request, catalog)
    job = Job(
        id=submission.job_id,
        owner=ResourceOwner(created_by=request.owner, project=submission.project or None),
        specification=JobSpecification(
            application=_WHAT,
            product=ProductReference(id=product.id, category=product.category, provider=product.provider),
            name=request.name or None,
            replicas=request.replicas or 1,
            time_allocation=_duration(request.time_limit_ms),
        ),
        status=JobStatus(state=JOB_STATE_IN_QUEUE),
    )
    job.status.resolved_application.CopyFrom(_application(request, product))
    return job


@contextmanager
def of_submission() -> Generator[None]:
    """Errors about the job, made alone, are told as those of the SubmitRequest."""
    try:
        yield
    except SeraiError as error:
        error.field = _FIELDS.get(error.field.removeprefix("items[0]."), "")
        raise


def _digest(request: SubmitRequest, project: str) -> bytes:
    """Of what it says, however it is said: protobuf's JSON leaves out what is not set, so that a field of a later release changes nothing
    for requests without it; and what means the same as to be left out is."""
    said = SubmitRequest()
    said.CopyFrom(request)
    said.project = project
    if said.replicas == 1:
        said.ClearField("replicas")
    if not said.product.ByteSize():
        said.ClearField("product")
    text = MessageToJson(said, preserving_proto_field_name=True, indent=None, sort_keys=True)
    return hashlib.sha256(f"submission\0{text}".encode()).digest()


def _job_id(submission_id: str, only_project: str) -> str:
    """By chance, or the same for the same submission. Callers that are limited to a project take nothing from those of another one, and
    learn nothing of what they chose."""
    if not submission_id:
        return SUBMITTED + secrets.token_hex(_ID_BYTES)
    if not _SUBMISSION_ID.fullmatch(submission_id):
        raise InvalidRequest("expected 1 to 64 letters, digits, '.', '_' and '-'", field="submission_id")
    return SUBMITTED + hashlib.sha256(f"{submission_id}\0{only_project}".encode()).hexdigest()[: 2 * _ID_BYTES]


def _check_environment(request: SubmitRequest) -> None:
    for name, value in request.environment.items():
        if not ENVIRONMENT_NAME.fullmatch(name):
            words = f"expected names of letters, digits and '_' that begin with no digit, found {name[:64]!r}"
            raise InvalidRequest(words, field="environment")
        if "\0" in value:
            raise InvalidRequest(f"the value of {name[:64]} holds a NUL character", field="environment")
        if len(name) + len(value.encode()) >= MOST_ARGUMENT_BYTES:
            raise InvalidRequest(f"{name[:64]} is longer than {MOST_ARGUMENT_BYTES} bytes with its value", field="environment")
    command = command_bytes(request.command)
    if command <= MOST_COMMAND_BYTES < command + command_bytes(f"{k}={v}" for k, v in request.environment.items()):
        raise InvalidRequest(f"the environment is longer than {MOST_COMMAND_BYTES} bytes together with the command", field="environment")


def _product(request: SubmitRequest, catalog: Catalog) -> Product:
    asked = request.product
    found = catalog.matching(asked)
    if asked.id or asked.category:
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{p.category}/{p.id}" for p in found[:5])
            raise InvalidRequest(f"several machine types are called that; say which of {names}", field="product")
        name = "/".join(part for part in (asked.provider, asked.category, asked.id) if part)
        raise InvalidRequest(f"{name[:_LONGEST_SHOWN]} is not a machine type of this provider", field="product")
    runs = [product for product in found if "docker" in product.tools or ("native" in product.tools and not request.image)]
    for product in runs:
        if request.image or not catalog.needs_image(product):
            return product
    if runs:
        raise InvalidRequest("expected an image: this provider's machine types run nothing but images of containers", field="image")
    raise InvalidRequest("no machine type of this provider runs such a program; name one", field="product")


def _duration(limit_ms: int) -> SimpleDuration | None:
    if not 0 <= limit_ms <= LONGEST_MS:
        raise InvalidRequest(f"expected 1 ms to {LONGEST_DAYS} days, or 0 for no limit", field="time_limit_ms")
    seconds = -(-limit_ms // 1_000)
    return SimpleDuration(hours=seconds // 3600, minutes=seconds // 60 % 60, seconds=seconds % 60) if seconds else None


def _application(request: SubmitRequest, product: Product) -> Application:
    native = not request.image and "native" in product.tools
    tool = ToolDescription(
        info=_WHAT, backend=TOOL_BACKEND_NATIVE if native else TOOL_BACKEND_DOCKER, image=None if native else request.image or None
    )
    return Application(
        metadata=ApplicationMetadata(name=_WHAT.name, version=_WHAT.version, title=_TITLE),
        invocation=ApplicationInvocation(
            tool=ToolReference(name=_WHAT.name, version=_WHAT.version, tool=Tool(description=tool)),
            application_type=ApplicationType.APPLICATION_TYPE_BATCH,
            allow_multi_node=request.replicas > 1,
            invocation=map(_word, request.command),
            environment={name: _word(value) for name, value in request.environment.items()},
        ),
    )


def _word(text: str) -> InvocationParameter:
    return InvocationParameter(word=WordInvocation(word=text))
