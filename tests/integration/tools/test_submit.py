"""A program that a tool submits: the job that is made of it on a real store, repeats, and who may."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.core_on import PRODUCTS, START_MS, core_on, until
from google.rpc import code_pb2, error_details_pb2, status_pb2
from integration.tools.test_project_limit import FREE, LIMITED, Able, fronted, of, site_on, tool
from serai.core.v1.resources_pb2 import ProductReference
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.job_pb2 import JOB_STATE_IN_QUEUE, JOB_STATE_RUNNING
from serai_server.jobs import notes
from serai_server.jobs.origin import Tool
from serai_server.jobs.submissions import Submission
from serai_server.store.api import StoreUnavailable
from serai_server.store.model import State, StoredJob
from serai_server.store.token_model import Role


def asked(submission_id: str = "", project: str = "", **fields: object) -> pb.SubmitRequest:
    product = ProductReference(id="example-compute-1")
    made = {"owner": "user", "command": ["hang"], "product": product, "time_limit_ms": 60_000, **fields}
    return pb.SubmitRequest(submission_id=submission_id, project=project, **made)  # pyright: ignore[reportArgumentType] - real fields


def answered(answer: bytes) -> pb.SubmitResponse:
    return pb.SubmitResponse.FromString(answer)


def fields_of(status: status_pb2.Status) -> list[str]:
    bad = error_details_pb2.BadRequest()
    return [violation.field for detail in status.details if detail.Unpack(bad) for violation in bad.field_violations]


async def test_a_submitted_program_runs(tmp_path: Path) -> None:
    """Its job is the site's own, made by that tool, and is answered with its state; two without a submission's id are two."""
    async with site_on(tmp_path) as site:
        first, second = answered(await site.ask("Submit", asked())), answered(await site.ask("Submit", asked()))
        assert first.job_id != second.job_id
        assert first.state == JOB_STATE_IN_QUEUE
        row = await until(site.core, first.job_id, lambda row: row.state is State.RUNNING)
        assert row.id.startswith("tool-")
        assert (row.owner, row.project, row.time_limit_ms, row.replicas) == ("user", "p", 60_000, 1)
        told = notes.read(row.notes)
        assert (told.tool, told.only_project) == ("0123456789ab", True)


async def test_the_same_submission_once_more_is_the_same_job(tmp_path: Path) -> None:
    """Also many at a time, and with the job's present state; with other content it is ALREADY_EXISTS, and the job stays as it is."""
    async with site_on(tmp_path) as site:
        answers = await asyncio.gather(*(site.ask("Submit", asked("nightly", "p"), FREE) for _ in range(5)))
        (job_id,) = {answered(one).job_id for one in answers}
        await until(site.core, job_id, lambda row: row.state is State.RUNNING)
        again = answered(await site.ask("Submit", asked("nightly", "p"), FREE))
        assert (again.job_id, again.state) == (job_id, JOB_STATE_RUNNING)
        before = await site.core.store.job(job_id)
        for other in (asked("nightly", "q"), asked("nightly", "p", command=["hang", "x"]), asked("nightly", "p", environment={"A": "1"})):
            status = await site.refused("Submit", other, FREE)
            assert (status.code, fields_of(status)) == (code_pb2.ALREADY_EXISTS, ["submission_id"])
            assert job_id in status.message
        assert await site.core.store.job(job_id) == before


async def test_a_limited_tool_submits_for_its_project_alone(tmp_path: Path) -> None:
    """Another project, by whatever submission, is PERMISSION_DENIED, and nothing is stored; an id that another project's tools have used is
    free, and says nothing of theirs."""
    async with site_on(tmp_path) as site:
        for submission in ("", "x"):
            status = await site.refused("Submit", asked(submission, "q"))
            assert (status.code, fields_of(status)) == (code_pb2.PERMISSION_DENIED, ["project"])
        other = answered(await site.ask("Submit", asked("x"), tool("q"))).job_id
        status = await site.refused("Submit", asked("x", "p"), tool("q"))
        assert (status.code, fields_of(status)) == (code_pb2.PERMISSION_DENIED, ["project"])
        mine = answered(await site.ask("Submit", asked("x"))).job_id
        assert mine != other
        rows = [await site.core.store.job(job_id) for job_id in (mine, other)]
        assert [row and row.project for row in rows] == ["p", "q"]


async def test_nobody_takes_or_learns_the_id_of_a_submission(tmp_path: Path) -> None:
    """What Create says of such an id is the same whether there is such a job or not, to whomever: so a project's word is free for it,
    whatever tools of others guessed, and they learn nothing of it."""
    async with site_on(tmp_path) as site:
        guessed = Submission.of(asked("weekly"), Tool("0123456789ab", "p")).job_id
        refusals: list[status_pb2.Status] = []
        for project, whose in (("q", tool("q")), ("p", FREE), ("p", LIMITED)):
            status = await site.refused("Create", pb.CreateRequest(items=[of(project, guessed)]), whose)
            assert (status.code, fields_of(status)) == (code_pb2.INVALID_ARGUMENT, ["items[0].id"])
            refusals.append(status)
        assert answered(await site.ask("Submit", asked("weekly"))).job_id == guessed
        for project, whose in (("q", tool("q")), ("p", FREE), ("p", LIMITED)):
            assert await site.refused("Create", pb.CreateRequest(items=[of(project, guessed)]), whose) == refusals.pop(0)
        hidden = await site.refused("Get", pb.GetRequest(job_id=guessed), tool("q"))
        absent = await site.refused("Get", pb.GetRequest(job_id=guessed[:-1] + "x"), tool("q"))
        assert hidden.code == absent.code == code_pb2.NOT_FOUND
        assert hidden.message.replace(guessed, "") == absent.message.replace(guessed[:-1] + "x", "")


async def test_a_repeat_finds_its_job_whatever_was_changed_since(tmp_path: Path) -> None:
    """Also when the server has started anew with other settings, by which its machine type is not sold any more and another one is the
    first that runs such programs."""
    named, unnamed, gone = asked("named"), asked("unnamed", product=None), asked("gone")
    clock, machine = FakeClock(START_MS), Able()
    async with core_on(tmp_path, machine, clock) as core:
        first = [answered(await fronted(core, clock).ask("Submit", one)).job_id for one in (named, unnamed)]
    async with core_on(tmp_path, machine, clock, products=(replace(PRODUCTS[0], id="newer"), PRODUCTS[0])) as core:
        assert [answered(await fronted(core, clock).ask("Submit", one)).job_id for one in (named, unnamed)] == first
    async with core_on(tmp_path, machine, clock, products=(replace(PRODUCTS[0], id="newer"),)) as core:
        site = fronted(core, clock)
        assert [answered(await site.ask("Submit", one)).job_id for one in (named, unnamed)] == first
        status = await site.refused("Submit", asked("named", replicas=2))
        assert (status.code, fields_of(status)) == (code_pb2.ALREADY_EXISTS, ["submission_id"])
        status = await site.refused("Submit", gone)
        assert (status.code, fields_of(status)) == (code_pb2.INVALID_ARGUMENT, ["product"])


async def test_what_is_stored_is_answered_without_another_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that goes away right after its commit takes the answer not with it: "nothing was changed" would have the tool ask for a
    second job."""

    async def away(_job_id: str) -> StoredJob | None:
        raise StoreUnavailable("away")

    async with site_on(tmp_path) as site:
        with monkeypatch.context() as patch:
            patch.setattr(site.core.store, "job", away)
            made = answered(await site.ask("Submit", asked()))
        assert made.state == JOB_STATE_IN_QUEUE
        row = await site.core.store.job(made.job_id)
        assert row is not None


class OfContainers(Able):
    """Runs nothing without an image on the first machine type."""

    def needs_image(self, product: str) -> bool:
        return product == "example-compute/example-compute-1"


async def test_the_backend_says_where_an_image_is_needed(tmp_path: Path) -> None:
    """Without one the job is refused at once, in the words of the request; and one that names no machine type goes to the first that takes
    it."""
    clock = FakeClock(START_MS)
    async with core_on(tmp_path, OfContainers(), clock) as core:
        site = fronted(core, clock)
        status = await site.refused("Submit", asked())
        assert (status.code, fields_of(status)) == (code_pb2.INVALID_ARGUMENT, ["image"])
        for image, found in (("", "unit"), ("debian:12", "example-compute-1")):
            row = await core.store.job(answered(await site.ask("Submit", asked(product=None, image=image))).job_id)
            assert row is not None
            assert row.product == f"example/example-compute/{found}"


@pytest.mark.parametrize("role", [Role.VIEWER])
async def test_who_may_only_look_submits_nothing(tmp_path: Path, role: Role) -> None:
    """Neither for all projects nor for one."""
    async with site_on(tmp_path) as site:
        for project in ("", "p"):
            assert (await site.refused("Submit", asked(), tool(project, role))).code == code_pb2.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(owner=""), "owner"),
        (asked(command=[]), "command"),
        (asked(replicas=1_000_000), "replicas"),
        (asked(product=ProductReference(id="none")), "product"),
        (asked(time_limit_ms=-1), "time_limit_ms"),
        (asked("a b"), "submission_id"),
    ],
)
async def test_what_is_wrong_is_said_in_the_requests_names(tmp_path: Path, request_: pb.SubmitRequest, field: str) -> None:
    """INVALID_ARGUMENT with the field's path, and nothing is stored."""
    async with site_on(tmp_path) as site:
        before = pb.ListResponse.FromString(await site.ask("List", pb.ListRequest(), FREE))
        status = await site.refused("Submit", request_, LIMITED)
        assert (status.code, fields_of(status)) == (code_pb2.INVALID_ARGUMENT, [field])
        after = pb.ListResponse.FromString(await site.ask("List", pb.ListRequest(), FREE))
        assert [job.id for job in after.jobs] == [job.id for job in before.jobs]
