"""What a create request must be. All that can be known to be wrong is refused here, with the path of the field, before anything is stored.

Paths are those of UCloud's JSON ("items[0].specification.replicas"), whatever wire the request came by.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from serai.jobs.v1.job_pb2 import Job, JobSpecification

from serai_server.errors import InvalidRequest
from serai_server.jobs import causes, notes
from serai_server.jobs.applications import App, app_of
from serai_server.jobs.bodies import queued_body
from serai_server.jobs.durations import duration_ms
from serai_server.jobs.folders import output_folder
from serai_server.jobs.ids import is_job_id
from serai_server.jobs.origin import Tool
from serai_server.jobs.products import Catalog, Product
from serai_server.jobs.spec import Policy, check, encoded_application
from serai_server.store.model import EventKind, NewEvent, NewJob

MOST_ITEMS = 1_000
"""Of one bulk request (facts 2021 §7)."""
LONGEST_TEXT = 1_024
"""Characters of a name that is kept beside the job and told in lists. As much as today's Core takes for a text of one line."""

__all__ = ["MOST_ITEMS", "Policy", "is_job_id", "new_job"]


def new_job(job: Job, index: int, catalog: Catalog, policy: Policy, now_ms: int, *, tool: Tool | None = None) -> NewJob:
    """The row for one item of a create; `tool` made it, None = it came another way. Raises InvalidRequest, Unsupported, Forbidden."""
    at = f"items[{index}]"
    spec, path = job.specification, f"{at}.specification"
    if not is_job_id(job.id):
        raise InvalidRequest("expected an id of 1 to 64 letters, digits, '-' and '_'", field=f"{at}.id")
    if not job.owner.created_by:
        raise InvalidRequest("expected the username of the job's owner", field=f"{at}.owner.createdBy")
    _check_names(job, at)
    if tool is not None:
        tool.check(job, at)
    product = _product(spec, catalog, path)
    if not job.status.HasField("resolved_application"):
        where = f"{at}.status.resolvedApplication"
        raise InvalidRequest("expected the resolved application; without it there is no command to run", field=where)
    encoded = encoded_application(job)
    app = app_of(encoded)
    only_project = tool is not None and tool.only_project != ""
    check(job, app, product, catalog.offered(product), replace(policy, only_project=only_project), at=at)
    if not app.image and catalog.needs_image(product):
        where = f"{at}.status.resolvedApplication.invocation.tool.tool.description.image"
        raise InvalidRequest("expected an image: this machine type runs nothing but images of containers", field=where)
    replicas = _replicas(spec, app, policy, path)
    drive = policy.drive(job.owner.created_by, job.owner.project)
    folder = output_folder(drive, app.title or spec.application.name, spec.name, job.id)
    return NewJob(
        id=job.id,
        body=job.SerializeToString(),
        digest=_digest(job, encoded),
        owner=job.owner.created_by,
        project=job.owner.project,
        application=f"{spec.application.name} {spec.application.version}",
        product=product.key,
        name=spec.name,
        replicas=replicas,
        time_limit_ms=duration_ms(spec.time_allocation, f"{path}.timeAllocation") if spec.HasField("time_allocation") else 0,
        period_ms=product.period_ms,
        output_folder=folder,
        created_at_ms=now_ms,
        status=causes.QUEUED,
        events=(NewEvent(job.id, EventKind.JOB_UPDATE, queued_body(folder), now_ms),),
        notes=notes.of_new(job, product.price, tool.who if tool else "", only_project=only_project),
    )


def _check_names(job: Job, at: str) -> None:
    """PostgreSQL keeps no NUL in a text, and no name of a person or a program has one; none is longer than what a list can hold many of."""
    spec, tool = job.specification, job.status.resolved_application.invocation.tool.tool.description
    for field, value in (
        ("owner.createdBy", job.owner.created_by),
        ("owner.project", job.owner.project),
        ("specification.application.name", spec.application.name),
        ("specification.application.version", spec.application.version),
        ("specification.name", spec.name),
        ("specification.product.id", spec.product.id),
        ("specification.product.category", spec.product.category),
        ("specification.product.provider", spec.product.provider),
        ("status.resolvedApplication.invocation.tool.tool.description.image", tool.image or tool.container),
    ):
        if "\0" in value:
            raise InvalidRequest("expected a text without NUL characters", field=f"{at}.{field}")
        if len(value) > LONGEST_TEXT:
            raise InvalidRequest(f"expected at most {LONGEST_TEXT} characters, found {len(value)}", field=f"{at}.{field}")


def _digest(job: Job, application: bytes) -> bytes:
    """What makes two creates the same: who, what and with which application. Core's own notes (status, permissions, times) may differ."""
    digest = hashlib.sha256(job.id.encode())
    owner, asked = (part.SerializeToString(deterministic=True) for part in (job.owner, job.specification))
    for body in (owner, asked, application):
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


def _replicas(spec: JobSpecification, app: App, policy: Policy, path: str) -> int:
    replicas = spec.replicas if spec.HasField("replicas") else 1
    if not 1 <= replicas <= policy.most_replicas:
        raise InvalidRequest(f"expected 1 to {policy.most_replicas}, found {replicas}", field=f"{path}.replicas")
    if replicas > 1 and not app.multi_node:  # not said means no, as in UCloud's own form
        raise InvalidRequest(f"the application runs as one replica only, found {replicas}", field=f"{path}.replicas")
    return replicas
