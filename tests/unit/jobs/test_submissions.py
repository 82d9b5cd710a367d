"""What a SubmitRequest becomes: the whole job, and what is wrong in the names of the request's own fields."""

from __future__ import annotations

import pytest
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1.application_pb2 import ToolBackend
from serai.jobs.v1.job_pb2 import Job
from serai.jobs.v1.jobs_service_pb2 import SubmitRequest
from serai_backends.model import Features, Resources
from serai_server.errors import Forbidden, InvalidRequest, SeraiError, Unsupported
from serai_server.jobs.durations import LONGEST_MS
from serai_server.jobs.invocation import Writing, build_command
from serai_server.jobs.origin import Tool
from serai_server.jobs.products import MINUTE_MS, Catalog, Product
from serai_server.jobs.requests import Policy, new_job
from serai_server.jobs.spec import app_of, encoded_application
from serai_server.jobs.submissions import Submission, of_submission, whole_job
from serai_server.own_jobs import is_own, is_submitted
from serai_server.store.model import NewJob

DOCKER, NATIVE = ToolBackend.TOOL_BACKEND_DOCKER, ToolBackend.TOOL_BACKEND_NATIVE
FEATURES = Features(logs=True, native=True)
POLICY = Policy(most_replicas=100, undeclared_parameters=False, drive=lambda user, project: project or user)


def product(name: str, category: str = "cpu", *tools: str) -> Product:
    kinds = frozenset(tools or ("docker",))
    return Product(name, category, "example", Resources(1, 2 << 30), MINUTE_MS, tools=kinds)  # pyright: ignore[reportArgumentType] - words of the test


CATALOG = Catalog(
    [product("vm", "vms", "virtual_machine"), product("big"), product("small"), product("bare", "metal", "native"), product("big", "gpu")],
    FEATURES,
)


def asked(**fields: object) -> SubmitRequest:
    return SubmitRequest(**{"owner": "alice", "command": ["echo", "Hello  you"], **fields})  # pyright: ignore[reportArgumentType] - real fields


def taken(request: SubmitRequest, tool: Tool | None = None, catalog: Catalog = CATALOG) -> NewJob:
    """As JobsService does it, but for the store."""
    job = made(request, tool, catalog)
    with of_submission():
        return new_job(job, 0, catalog, POLICY, 5, tool=tool)


def made(request: SubmitRequest, tool: Tool | None = None, catalog: Catalog = CATALOG) -> Job:
    return whole_job(request, Submission.of(request, tool), catalog)


def test_all_that_is_said_is_in_the_job() -> None:
    """Each word of the command and the environment as it is; a limit in whole seconds, rounded up."""
    request = asked(
        project="p", image="debian:12", environment={"B": "2 $A", "A": ""}, replicas=3, time_limit_ms=3_723_001, name="try",
        product=ProductReference(id="small"),
    )  # fmt: skip
    job = made(request)
    app = app_of(encoded_application(job))
    command = build_command(app, Writing({}, {}, "", False, {}))
    assert (command.argv, command.environment) == (("echo", "Hello  you"), (("A", ""), ("B", "2 $A")))
    assert (app.image, app.tool, app.multi_node) == ("debian:12", DOCKER, True)
    row = taken(request)
    assert (row.owner, row.project, row.replicas, row.time_limit_ms, row.product) == ("alice", "p", 3, 3_724_000, "example/cpu/small")
    assert row.output_folder == f"/p/Jobs/Tool/try ({row.id})"


def test_what_is_not_said_has_a_meaning() -> None:
    """One replica, no limit, the owner's own drive, the first machine type that runs such a program."""
    row = taken(asked())
    assert (row.replicas, row.time_limit_ms, row.project, row.product) == (1, 0, "", "example/cpu/big")
    assert row.output_folder == f"/alice/Jobs/Tool/{row.id}"


@pytest.mark.parametrize(
    ("reference", "image", "found", "backend"),
    [
        (None, "", "cpu/big", DOCKER),
        (None, "x", "cpu/big", DOCKER),
        (ProductReference(), "", "cpu/big", DOCKER),
        (ProductReference(id="small"), "", "cpu/small", DOCKER),
        (ProductReference(id="big", category="gpu"), "", "gpu/big", DOCKER),
        (ProductReference(category="metal"), "", "metal/bare", NATIVE),
        (ProductReference(id="bare", category="metal", provider="example"), "", "metal/bare", NATIVE),
    ],
)
def test_machine_types(reference: ProductReference | None, image: str, found: str, backend: ToolBackend.ValueType) -> None:
    """As much of the name as it takes to tell it from others; a program without an image is the machine's own where that runs such."""
    job = made(asked(product=reference, image=image))
    assert f"{job.specification.product.category}/{job.specification.product.id}" == found
    assert job.specification.product.provider == "example"
    assert job.status.resolved_application.invocation.tool.tool.description.backend == backend


CONTAINERS = Catalog(
    [product("big", "cpu", "docker"), product("both", "cpu", "docker", "native"), product("bare", "metal", "native")],
    FEATURES,
    needs_image=lambda name: name.startswith("cpu/"),
)
"""As with Nomad: where a job's container is made, there is none without an image."""


@pytest.mark.parametrize(("image", "found"), [("", "metal/bare"), ("debian:12", "cpu/big")])
def test_the_first_machine_type_that_can_run_it(image: str, found: str) -> None:
    """One whose programs are in containers is none for a program without an image, be it the first."""
    assert taken(asked(image=image), catalog=CONTAINERS).product == f"example/{found}"


@pytest.mark.parametrize("name", ["big", "both"])
def test_a_machine_type_that_needs_an_image(name: str) -> None:
    """Refused at once, and not when it shall run; also where no machine type is named and each needs one."""
    alone = Catalog([product(name, "cpu", "docker", "native")], FEATURES, needs_image=lambda _name: True)
    for request, catalog in ((asked(product=ProductReference(id=name)), CONTAINERS), (asked(), alone)):
        with pytest.raises(InvalidRequest) as error:
            taken(request, catalog=catalog)
        assert error.value.field == "image"
        assert "expected an image" in error.value.text
    assert taken(asked(product=ProductReference(id=name), image="debian:12"), catalog=CONTAINERS).product == f"example/cpu/{name}"


def test_programs_of_the_machine_alone() -> None:
    """A site without containers runs what has no image, and says so of what has one."""
    metal = Catalog([product("bare", "metal", "native")], FEATURES)
    assert taken(asked(), catalog=metal).product == "example/metal/bare"
    with pytest.raises(InvalidRequest) as error:
        taken(asked(image="debian:12"), catalog=metal)
    assert error.value.field == "product"


WRONG: list[tuple[dict[str, object], str, str]] = [
    ({"owner": ""}, "owner", "username"),
    ({"owner": "a\0"}, "owner", "NUL"),
    ({"project": "\0"}, "project", "NUL"),
    ({"name": "\0"}, "name", "NUL"),
    ({"owner": "a" * 1_025}, "owner", "at most 1024 characters, found 1025"),
    ({"project": "a" * 1_025}, "project", "at most 1024"),
    ({"name": "a" * 15_500_000}, "name", "at most 1024 characters, found 15500000"),
    ({"image": "a" * 1_025}, "image", "at most 1024"),
    ({"command": []}, "command", "program"),
    ({"command": ["a\0"]}, "command", "NUL"),
    ({"command": ["a" * 200_000]}, "command", "longer than"),
    ({"command": ["a" * 100_000] * 11}, "command", "longer than"),
    ({"environment": {"1A": ""}}, "environment", "'1A'"),
    ({"environment": {"A=B": ""}}, "environment", "'A=B'"),
    ({"environment": {"A": "\0"}}, "environment", "NUL"),
    ({"environment": {"A": "a" * 200_000}}, "environment", "longer than"),
    ({"environment": {f"A{n}": "a" * 100_000 for n in range(11)}}, "environment", "together with the command"),
    ({"command": ["a" * 100_000] * 9, "environment": {"A": "a" * 100_000, "B": "b" * 100_000}}, "environment", "together with"),
    ({"command": ["a" * 100_000] * 11, "environment": {"A": "a"}}, "command", "longer than"),
    ({"product": ProductReference(id="big")}, "product", "cpu/big, gpu/big"),
    ({"product": ProductReference(id="none")}, "product", "none is not a machine type"),
    ({"product": ProductReference(id="big", category="metal")}, "product", "metal/big is not"),
    ({"product": ProductReference(id="big", provider="other")}, "product", "other/big is not"),
    ({"replicas": -1}, "replicas", "found -1"),
    ({"replicas": 101}, "replicas", "found 101"),
    ({"time_limit_ms": -1}, "time_limit_ms", "3650 days"),
    ({"time_limit_ms": LONGEST_MS + 1}, "time_limit_ms", "3650 days"),
    ({"submission_id": "a b"}, "submission_id", "1 to 64"),
    ({"submission_id": "a" * 65}, "submission_id", "1 to 64"),
    ({"submission_id": "a\n"}, "submission_id", "1 to 64"),
]


@pytest.mark.parametrize(("fields", "field", "words"), WRONG)
def test_a_wrong_field_is_named_as_in_the_request(fields: dict[str, object], field: str, words: str) -> None:
    """And never as in the job that is made of it."""
    with pytest.raises(InvalidRequest) as error:
        taken(asked(**fields))
    assert error.value.field == field
    assert words in error.value.text
    assert "items" not in error.value.text


def test_a_refusal_is_short_whatever_was_asked_for() -> None:
    """It goes where an answer's end goes, which has little room."""
    with pytest.raises(InvalidRequest) as error:
        taken(asked(product=ProductReference(id="x" * 100_000)))
    assert len(error.value.text) < 1_000


def test_a_machine_type_that_runs_no_such_program() -> None:
    """One that was named is not replaced by another one."""
    with pytest.raises(Unsupported):
        taken(asked(product=ProductReference(id="vm")))


def test_ids() -> None:
    """By chance without a submission's id; with one always the same, and another one for callers that are limited to a project. None is
    one that Create takes."""

    def id_of(project: str, **fields: object) -> str:
        return Submission.of(asked(**fields), Tool("0123456789ab", project)).job_id

    assert id_of("") != id_of("")
    every = [(name, project) for name in ("a", "b", "a.p") for project in ("", "p", "q")]
    ids = [id_of(project, submission_id=name) for name, project in every]
    assert ids == [id_of(project, submission_id=name, replicas=2) for name, project in every]
    assert len(set(ids)) == 9
    assert all(is_submitted(job_id) and is_own(job_id) and len(job_id) <= 64 for job_id in [*ids, id_of("")])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"replicas": 1}),
        ({}, {"product": ProductReference()}),
        ({"project": "p"}, {}),
        ({"environment": {"A": "1", "B": "2", "C": "3"}}, {"environment": {"C": "3", "B": "2", "A": "1"}}),
    ],
)
def test_the_same_said_otherwise(one: dict[str, object], other: dict[str, object]) -> None:
    """What is left out is the same as what it means."""
    tool = Tool("0123456789ab", "p")
    assert Submission.of(asked(**one), tool).digest == Submission.of(asked(**other), tool).digest


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "bob"},
        {"project": "q"},
        {"image": "debian:12"},
        {"command": ["echo", "Hello", "you"]},
        {"environment": {"A": ""}},
        {"product": ProductReference(id="big", category="cpu")},
        {"replicas": 2},
        {"time_limit_ms": 1},
        {"name": "x"},
    ],
)
def test_other_content(other: dict[str, object]) -> None:
    """Each field counts."""
    assert Submission.of(asked(**other), None).digest != Submission.of(asked(), None).digest


def test_the_digest_stays_over_releases() -> None:
    """It is kept with jobs, and compared with what another release says of the same request."""
    request = asked(submission_id="x", environment={"A": "1"}, time_limit_ms=5, product=ProductReference(id="small"))
    assert Submission.of(request, None).digest.hex() == "1281f2114081a5bf3d143826f31ff63809a66cfbc34a97ea2e685076d364f850"


def test_a_caller_that_is_limited_to_a_project() -> None:
    """Need not name it, and may name no other."""
    tool = Tool("0123456789ab", "p")
    assert taken(asked(), tool).project == "p"
    assert taken(asked(project="p"), tool).project == "p"
    with pytest.raises(Forbidden) as error:
        taken(asked(project="q"), tool)
    assert error.value.field == "project"


@pytest.mark.parametrize(
    ("inside", "field"),
    [("items[0].owner", "owner"), ("items[0].specification.timeAllocation", "time_limit_ms"), ("", ""), ("items[0].elsewhere", "")],
)
def test_paths_in_the_job_do_not_come_out(inside: str, field: str) -> None:
    """One that is made of no field in particular is told without a path."""

    def fail(error: SeraiError) -> None:
        raise error

    with pytest.raises(InvalidRequest) as caught, of_submission():
        fail(InvalidRequest("words", field=inside))
    assert (caught.value.field, caught.value.text) == (field, "words")
