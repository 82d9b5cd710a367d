"""What a create must be: each wrong field is named by its path, and nothing harmful gets into a folder's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes.jobs import seed_job
from hypothesis import given
from hypothesis import strategies as st
from serai.core.v1.resources_pb2 import Permission
from serai.jobs.v1.application_pb2 import ApplicationType, ContainerDescription, ToolBackend
from serai.jobs.v1.job_pb2 import Job, JobUpdate
from serai_backends.model import Features, Resources
from serai_server.errors import InvalidRequest, SeraiError, Unsupported
from serai_server.jobs.folders import component, output_folder
from serai_server.jobs.inputs import MappedDrive
from serai_server.jobs.products import MINUTE_MS, Catalog, Product
from serai_server.jobs.requests import Policy, new_job
from serai_server.store.model import NewJob

Change = Callable[[Job], object]

PRODUCT = Product("example-compute-1", "example-compute", "example", Resources(1, 2 << 30), MINUTE_MS)
CATALOG = Catalog([PRODUCT], Features(logs=True))
POLICY = Policy(most_replicas=100, undeclared_parameters=False, drive=lambda user, project: project or user)


LONG = "a" * 1_025
IMAGE = "items[0].status.resolvedApplication.invocation.tool.tool.description.image"


def make(job: Job, policy: Policy = POLICY) -> NewJob:
    return new_job(job, 0, CATALOG, policy, 5)


def test_the_seeds_job_is_taken() -> None:
    """The seed's batch job becomes a row with its limit, product and folder, and one event that tells Core the folder."""
    row = make(seed_job())
    assert (row.id, row.owner, row.replicas, row.time_limit_ms) == ("54112", "user", 1, 3_600_000)
    assert row.output_folder == "/user/Jobs/Acme batch/54112"
    update = JobUpdate.FromString(row.events[0].body)
    assert (update.output_folder, update.HasField("state")) == (row.output_folder, False)


def test_names_as_long_as_cores_are_taken() -> None:
    """Today's Core takes 1,024 characters for a text of one line."""
    job = seed_job()
    job.specification.name = "é" * 1_024
    assert make(job).name == job.specification.name


def test_replicas_left_out_are_one_and_no_limit_is_none() -> None:
    """null replicas mean 1 (the data model's default); null timeAllocation means no limit."""
    job = seed_job()
    job.specification.ClearField("replicas")
    job.specification.ClearField("time_allocation")
    row = make(job)
    assert (row.replicas, row.time_limit_ms) == (1, 0)


@pytest.mark.parametrize("kind", [ToolBackend.TOOL_BACKEND_DOCKER, ToolBackend.TOOL_BACKEND_NATIVE])
def test_a_machine_type_of_containers_needs_an_image(kind: ToolBackend.ValueType) -> None:
    """So its job is refused when it comes, and not when it shall run; with one it is taken, under either of its names."""
    sold = replace(PRODUCT, tools=frozenset({"docker", "native"}))
    catalog = Catalog([sold], Features(native=True), needs_image=lambda name: name == "example-compute/example-compute-1")
    job = seed_job()
    tool = job.status.resolved_application.invocation.tool.tool.description
    tool.backend = kind
    assert new_job(job, 0, catalog, POLICY, 5).id == job.id
    tool.ClearField("image")
    with pytest.raises(InvalidRequest) as error:
        new_job(job, 0, catalog, POLICY, 5)
    assert error.value.field == IMAGE
    assert new_job(job, 0, Catalog([sold], Features(native=True)), POLICY, 5).id == job.id
    tool.container = "acme/batch:1.0.0"
    assert new_job(job, 0, catalog, POLICY, 5).id == job.id


def wrong(change: Change) -> Job:
    job = seed_job()
    change(job)
    return job


WRONG: list[tuple[Change, str]] = [
    (lambda j: setattr(j, "id", ""), "items[0].id"),
    (lambda j: setattr(j, "id", "../../etc"), "items[0].id"),
    (lambda j: setattr(j, "id", "1" * 65), "items[0].id"),
    (lambda j: setattr(j, "id", "5\n"), "items[0].id"),
    (lambda j: j.owner.ClearField("created_by"), "items[0].owner.createdBy"),
    (lambda j: setattr(j.owner, "created_by", LONG), "items[0].owner.createdBy"),
    (lambda j: setattr(j.owner, "project", LONG), "items[0].owner.project"),
    (lambda j: setattr(j.specification, "name", LONG), "items[0].specification.name"),
    (lambda j: setattr(j.specification.application, "name", LONG), "items[0].specification.application.name"),
    (lambda j: setattr(j.specification.application, "version", LONG), "items[0].specification.application.version"),
    (lambda j: setattr(j.specification.product, "id", LONG), "items[0].specification.product.id"),
    (lambda j: setattr(j.status.resolved_application.invocation.tool.tool.description, "image", LONG), IMAGE),
    (lambda j: setattr(j.specification.product, "id", "other"), "items[0].specification.product"),
    (lambda j: setattr(j.specification, "replicas", 0), "items[0].specification.replicas"),
    (lambda j: setattr(j.specification, "replicas", -1), "items[0].specification.replicas"),
    (lambda j: setattr(j.specification, "replicas", 101), "items[0].specification.replicas"),
    (lambda j: setattr(j.specification.time_allocation, "hours", -1), "items[0].specification.timeAllocation.hours"),
    (lambda j: setattr(j.specification.time_allocation, "minutes", 60), "items[0].specification.timeAllocation.minutes"),
    (lambda j: setattr(j.specification.time_allocation, "seconds", -1), "items[0].specification.timeAllocation.seconds"),
    (lambda j: setattr(j.specification.time_allocation, "hours", 0), "items[0].specification.timeAllocation"),
    (lambda j: setattr(j.specification.time_allocation, "hours", 2**31 - 1), "items[0].specification.timeAllocation"),
    (lambda j: j.status.ClearField("resolved_application"), "items[0].status.resolvedApplication"),
    (lambda j: setattr(j.specification.parameters["none"].text, "value", "x"), 'items[0].specification.parameters["none"]'),
    (lambda j: setattr(j.specification.parameters["debug"].text, "value", "x"), 'items[0].specification.parameters["debug"]'),
    (lambda j: j.status.resolved_application.invocation.ClearField("invocation"), "items[0].specification.parameters"),
    (lambda j: j.specification.parameters.pop("value"), 'items[0].specification.parameters["value"]'),
    (lambda j: setattr(j.specification, "replicas", 2), "items[0].specification.replicas"),
    (
        lambda j: j.status.resolved_application.invocation.container.MergeFrom(
            ContainerDescription(run_as_root=True, run_as_real_user=True)
        ),
        "items[0].status.resolvedApplication.invocation.container",
    ),
    (
        lambda j: setattr(j.status.resolved_application.invocation.invocation[0].jinja, "template", "{% if"),
        "items[0].status.resolvedApplication.invocation",
    ),
]


@pytest.mark.parametrize(("change", "field"), WRONG)
def test_a_wrong_field_is_named(change: Change, field: str) -> None:
    """InvalidRequest carries the path of the field at fault, in the spelling of UCloud's JSON."""
    with pytest.raises(InvalidRequest) as error:
        make(wrong(change))
    assert error.value.field == field


IMPOSSIBLE: list[Change] = [
    lambda j: setattr(j.status.resolved_application.invocation, "application_type", ApplicationType.APPLICATION_TYPE_WEB),
    lambda j: setattr(j.status.resolved_application.invocation, "application_type", ApplicationType.APPLICATION_TYPE_VNC),
    lambda j: setattr(j.status.resolved_application.invocation.tool.tool.description, "backend", ToolBackend.TOOL_BACKEND_VIRTUAL_MACHINE),
    lambda j: setattr(j.specification.resources.add().file, "path", "/1/a"),
    lambda j: setattr(j.specification.resources.add().peer, "job_id", "1"),
    lambda j: setattr(j.specification.resources.add().license_server, "id", "1"),
    lambda j: setattr(j.status.resolved_application.invocation.tool.tool.description, "backend", ToolBackend.TOOL_BACKEND_SINGULARITY),
    lambda j: j.status.resolved_application.invocation.invocation.add(),
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_what_cannot_be_done_is_refused_and_not_left_out(change: Change) -> None:
    """A job that asks for what this provider cannot give is refused rather than run without it."""
    with pytest.raises(Unsupported):
        make(wrong(change))


def test_undeclared_parameters_are_tolerated_where_the_policy_says_so() -> None:
    """Today's Core adds a parameter of its own to every job (facts on today's Core §10); it is carried and not used."""
    job = seed_job()
    job.specification.parameters["ucMetricSampleRate"].text.value = "0ms"
    assert make(job, Policy(100, undeclared_parameters=True, drive=POLICY.drive)).id == "54112"


def test_an_application_for_many_nodes_has_many_replicas() -> None:
    """Only one that says so: not said means no, as in UCloud's own form."""
    job = seed_job()
    job.specification.replicas = 3
    job.status.resolved_application.invocation.allow_multi_node = True
    assert make(job).replicas == 3


def test_output_on_a_drive_that_the_settings_map() -> None:
    """Its rules count for output too: whoever may not use it, or not write to it, cannot have a job there."""
    for mapped, right in (
        (MappedDrive(users=frozenset({"user"})), True),
        (MappedDrive(users=frozenset({"other"})), False),
        (MappedDrive(read_only=True), False),
    ):
        policy = replace(POLICY, mapped={"user": mapped})
        if right:
            assert make(seed_job(), policy).output_folder.startswith("/user/")
        else:
            with pytest.raises(InvalidRequest) as error:
                make(seed_job(), policy)
            assert error.value.field == "items[0].owner"


def test_the_digest_tells_content_from_notes() -> None:
    """Core's notes on a job may change between two creates; what was asked may not."""
    job, noted, other = seed_job(), seed_job(), seed_job()
    noted.status.started_at = 7
    noted.permissions.myself.append(Permission.PERMISSION_READ)
    other.specification.name = "x"
    assert make(job).digest == make(noted).digest != make(other).digest


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_folders_have_four_harmless_components(drive: str, title: str, name: str) -> None:
    """Whatever drive, title and name are, the folder has four components, none of which is special or too long for a disk."""
    parts = output_folder(component(drive) or "d", title, component(name), "17").split("/")
    assert len(parts) == 5
    assert parts[0] == ""
    for part in parts[1:]:
        assert part not in ("", ".", "..")
        assert len(part.encode("utf-8", "surrogatepass")) <= 160
        assert "\0" not in part


@given(st.binary(max_size=400))
def test_no_message_makes_anything_but_a_row_or_a_named_error(noise: bytes) -> None:
    """Any message that protobuf can read is a row or a SeraiError."""
    job = seed_job()
    try:
        job.MergeFromString(noise)
    except Exception:
        return
    try:
        make(job)
    except SeraiError as error:
        assert str(error)
