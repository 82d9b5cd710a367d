"""What a create request must be. All that can be known to be wrong is refused here, with the path of the field, before anything is stored.

Paths are those of UCloud's JSON ("items[0].specification.replicas"), whatever wire the request came by.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from serai.core.v1.resources_pb2 import SimpleDuration
from serai.jobs.v1 import application_pb2
from serai.jobs.v1.application_pb2 import Application, ApplicationParameter, AppParameterValue, ToolBackend
from serai.jobs.v1.job_pb2 import Job, JobSpecification

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs import causes
from serai_server.jobs.bodies import queued_body
from serai_server.jobs.folders import output_folder
from serai_server.jobs.invocation import build_command
from serai_server.jobs.products import Catalog, Product
from serai_server.store.model import EventKind, NewEvent, NewJob

MOST_ITEMS = 1_000
"""Of one bulk request (facts 2021 §7)."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DAY_S = 86_400
_LONGEST_LIMIT_S = 3_650 * _DAY_S

_EXPECTED: dict[str, str] = {
    "input_file": "file",
    "input_directory": "file",
    "text": "text",
    "textarea": "textarea",
    "integer": "integer",
    "floating_point": "floating_point",
    "boolean": "boolean",
    "enumeration": "text",
    "peer": "peer",
    "license_server": "license_server",
    "ingress": "ingress",
    "network_ip": "network",
    "modules": "modules",
    "workflow": "workflow",
}
"""Kind of value that each kind of parameter takes (facts 2021 §8.6)."""

_NOT_YET: dict[str, str] = {
    "file": "input files and folders",
    "peer": "connections to other jobs",
    "license_server": "software licenses",
    "block_storage": "block storage",
    "network": "public IP addresses",
    "ingress": "public links",
    "modules": "software modules",
    "workflow": "workflows",
}
"""Kinds of value that need machinery this server does not have; a job is refused rather than run without what it asked for."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings allow."""

    most_replicas: int
    undeclared_parameters: bool
    """Generation 2026 sends parameters that the application does not declare."""
    drive: Callable[[str, str], str]
    """(username, project or "") → the drive that output goes to."""


def new_job(job: Job, index: int, catalog: Catalog, policy: Policy, now_ms: int) -> NewJob:
    """The row for one item of a create. Raises InvalidRequest and Unsupported."""
    at = f"items[{index}]"
    spec, path = job.specification, f"{at}.specification"
    if not is_job_id(job.id):
        raise InvalidRequest("expected an id of 1 to 64 letters, digits, '-' and '_'", field=f"{at}.id")
    if not job.owner.created_by:
        raise InvalidRequest("expected the username of the job's owner", field=f"{at}.owner.createdBy")
    _without_nul(job, at)
    product = _product(spec, catalog, path)
    application = _application(job, catalog, at)
    _check_values(spec, application, policy, path)
    build_command(application, spec.parameters, f"{path}.parameters")
    replicas = _replicas(spec, policy, path)
    metadata = application.metadata
    drive = policy.drive(job.owner.created_by, job.owner.project)
    folder = output_folder(drive, metadata.title or spec.application.name, spec.name, job.id)
    return NewJob(
        id=job.id,
        body=job.SerializeToString(),
        digest=_digest(job),
        owner=job.owner.created_by,
        project=job.owner.project,
        application=f"{spec.application.name} {spec.application.version}",
        product=product.key,
        name=spec.name,
        replicas=replicas,
        time_limit_ms=_time_limit_ms(spec, path),
        period_ms=product.period_ms,
        output_folder=folder,
        created_at_ms=now_ms,
        status=causes.QUEUED,
        events=(NewEvent(job.id, EventKind.JOB_UPDATE, queued_body(folder), now_ms),),
    )


def is_job_id(text: str) -> bool:
    """Whether a job could have this id; what cannot is unknown without a look into the store."""
    return _ID.fullmatch(text) is not None


def _without_nul(job: Job, at: str) -> None:
    """PostgreSQL keeps no NUL in a text, and no name of a person or a program has one."""
    spec = job.specification
    for field, value in (
        ("owner.createdBy", job.owner.created_by),
        ("owner.project", job.owner.project),
        ("specification.application.name", spec.application.name),
        ("specification.application.version", spec.application.version),
        ("specification.name", spec.name),
    ):
        if "\0" in value:
            raise InvalidRequest("expected a text without NUL characters", field=f"{at}.{field}")


def _digest(job: Job) -> bytes:
    """What makes two creates the same: who, what and with which application. Core's own notes (status, permissions, times) may differ."""
    digest = hashlib.sha256(job.id.encode())
    for part in (job.owner, job.specification, job.status.resolved_application):
        body = part.SerializeToString(deterministic=True)
        digest.update(len(body).to_bytes(8, "big"))
        digest.update(body)
    return digest.digest()


def _product(spec: JobSpecification, catalog: Catalog, path: str) -> Product:
    product = catalog.find(spec.product)
    if product is None:
        raise InvalidRequest(
            f"{spec.product.provider}/{spec.product.category}/{spec.product.id} is not a machine type of this provider",
            field=f"{path}.product",
        )
    return product


def _application(job: Job, catalog: Catalog, at: str) -> Application:
    path = f"{at}.status.resolvedApplication"
    if not job.status.HasField("resolved_application"):
        raise InvalidRequest("expected the resolved application; without it there is no command to run", field=path)
    application = job.status.resolved_application
    invocation = application.invocation
    tool = invocation.tool.tool.description
    if tool.backend in (application_pb2.TOOL_BACKEND_VIRTUAL_MACHINE, application_pb2.TOOL_BACKEND_SINGULARITY):
        raise Unsupported(
            f"this provider does not run {ToolBackend.Name(tool.backend).removeprefix('TOOL_BACKEND_').lower().replace('_', ' ')} tools"
        )
    if invocation.application_type == application_pb2.APPLICATION_TYPE_WEB and not catalog.features.web:
        raise Unsupported("this provider does not run web applications")
    if invocation.application_type == application_pb2.APPLICATION_TYPE_VNC and not catalog.features.vnc:
        raise Unsupported("this provider does not run remote desktops")
    return application


def _check_values(spec: JobSpecification, application: Application, policy: Policy, path: str) -> None:
    declared = dict(_declared(p) for p in application.invocation.parameters)
    for name, value in spec.parameters.items():
        where = f'{path}.parameters["{name}"]'
        kind = value.WhichOneof("value")
        expected = declared.get(name)
        if expected is None:
            if not policy.undeclared_parameters:
                raise InvalidRequest("the application declares no parameter of this name", field=where)
        elif kind is not None and _EXPECTED.get(expected, kind) != kind:
            raise InvalidRequest(f"expected a value of type {_EXPECTED[expected]}, found {kind}", field=where)
        _check_possible(value, where)
    for index, value in enumerate(spec.resources):
        _check_possible(value, f"{path}.resources[{index}]")


def _check_possible(value: AppParameterValue, where: str) -> None:
    kind = value.WhichOneof("value")
    if kind is not None and kind in _NOT_YET:
        raise Unsupported(f"{where}: this provider does not support {_NOT_YET[kind]}", field=where)


def _declared(parameter: ApplicationParameter) -> tuple[str, str]:
    """Name and kind of a declared parameter; kind "" = one that is not known here."""
    kind = parameter.WhichOneof("parameter")
    if kind is None:
        return "", ""
    name: str = getattr(parameter, kind).name  # every member of the union has a name
    return name, kind


def _replicas(spec: JobSpecification, policy: Policy, path: str) -> int:
    replicas = spec.replicas if spec.HasField("replicas") else 1
    if not 1 <= replicas <= policy.most_replicas:
        raise InvalidRequest(f"expected 1 to {policy.most_replicas}, found {replicas}", field=f"{path}.replicas")
    return replicas


def _time_limit_ms(spec: JobSpecification, path: str) -> int:
    """0 = no limit."""
    if not spec.HasField("time_allocation"):
        return 0
    span: SimpleDuration = spec.time_allocation
    where = f"{path}.timeAllocation"
    if span.hours < 0:
        raise InvalidRequest(f"expected 0 or more, found {span.hours}", field=f"{where}.hours")
    for unit, found in (("minutes", span.minutes), ("seconds", span.seconds)):
        if not 0 <= found <= 59:
            raise InvalidRequest(f"expected 0 to 59, found {found}", field=f"{where}.{unit}")
    seconds = span.hours * 3600 + span.minutes * 60 + span.seconds
    if not 1 <= seconds <= _LONGEST_LIMIT_S:
        raise InvalidRequest(f"expected 1 second to {_LONGEST_LIMIT_S // _DAY_S} days", field=where)
    return seconds * 1000
