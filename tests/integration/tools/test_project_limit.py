"""Tools that are limited to one project: for each method that they may call, there are only that project's jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.backends import InstantBackend
from fakes.clock import FakeClock
from fakes.core_on import START_MS, core_on, job, until
from fakes.front import silent
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from serai.core.v1.resources_pb2 import AclEntity, Permission, ResourceAclEntry, ResourcePermissions, SimpleDuration, UserEntity
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.application_pb2 import AppParameterValue, FileValue, PeerValue
from serai.jobs.v1.job_pb2 import Job
from serai_backends.model import Features
from serai_server.jobs import notes
from serai_server.main import Core
from serai_server.rpc.call import Call
from serai_server.rpc.chain import Identify
from serai_server.rpc.dispatch import Dispatcher
from serai_server.rpc.health import Health
from serai_server.rpc.methods import Shape
from serai_server.rpc.services import dispatcher
from serai_server.rpc.status import RpcFailure
from serai_server.store.model import State
from serai_server.store.token_model import Role

SERVICE = "/serai.jobs.v1.JobsService/"


class Able(InstantBackend):
    """Can do all that is asked here."""

    @property
    def features(self) -> Features:
        return Features(logs=True, suspension=True, time_extension=True, utilization=True, peers=True, inputs=True)


def tool(project: str = "p", role: Role = Role.OPERATOR) -> Identify:
    """A door at which everybody is this tool."""

    def identify(call: Call, _metadata: Mapping[str, str]) -> None:
        call.tool, call.tool_role, call.only_project = "0123456789ab", role, project

    return identify


LIMITED, FREE = tool(), tool("")


@dataclass
class Site:
    core: Core
    front: Dispatcher

    async def ask(self, method: str, request: Message, who: Identify = LIMITED) -> bytes:
        """The answer, or the first one. Raises RpcFailure."""
        found = self.front.methods[SERVICE + method.partition(" ")[0]]
        if found.shape is Shape.UNARY_UNARY:
            return await self.front.chain.once(found, request.SerializeToString(), {}, who)
        answers = self.front.chain.many(found, request.SerializeToString(), {}, who)
        try:
            return await anext(answers, b"")
        finally:
            await answers.aclose()

    async def refused(self, method: str, request: Message, who: Identify = LIMITED) -> status_pb2.Status:
        with pytest.raises(RpcFailure) as caught:
            await self.ask(method, request, who)
        return caught.value.status


@asynccontextmanager
async def site_on(folder: Path) -> AsyncGenerator[Site]:
    """Jobs `tool-mine` of the tool's project and `tool-other` of another one, both running; `5` is Core's, of the other one."""
    clock = FakeClock(START_MS)
    async with core_on(folder, Able(), clock) as core:
        jobs = [of("p", "tool-mine"), of("q", "tool-other"), of("q", "5"), of("", "6")]
        await core.jobs.create(jobs)
        for one in jobs:
            await until(core, one.id, lambda row: row.state is State.RUNNING)
        yield fronted(core, clock)


def fronted(core: Core, clock: FakeClock) -> Site:
    front = dispatcher(jobs=core.jobs, changes=core.changes, events=core.events, health=Health(), clock=clock, log=silent())
    return Site(core, front)


def of(project: str, job_id: str, owner: str = "user") -> Job:
    message = job(job_id, "hang", minutes=30)
    message.owner.created_by, message.owner.project = owner, project
    return message


def ids(*job_ids: str) -> list[Job]:
    return [Job(id=job_id) for job_id in job_ids]


ASKS: Mapping[str, Callable[[str], Message]] = {
    "Get": lambda job_id: pb.GetRequest(job_id=job_id),
    "Watch": lambda job_id: pb.WatchRequest(job_id=job_id),
    "Follow": lambda job_id: pb.FollowRequest(job_id=job_id),
    "Extend": lambda job_id: pb.ExtendRequest(items=[pb.ExtendItem(job=Job(id=job_id), requested_time=SimpleDuration(minutes=1))]),
    "Suspend": lambda job_id: pb.SuspendRequest(items=[pb.SuspendItem(job=Job(id=job_id))]),
    "Unsuspend": lambda job_id: pb.UnsuspendRequest(items=[pb.UnsuspendItem(job=Job(id=job_id))]),
    "Extend by ids": lambda job_id: pb.ExtendRequest(job_ids=[job_id], added_ms=60_000),
    "Extend to a limit": lambda job_id: pb.ExtendRequest(job_ids=[job_id], time_limit_ms=3_600_000),
    "Suspend by ids": lambda job_id: pb.SuspendRequest(job_ids=[job_id]),
    "Unsuspend by ids": lambda job_id: pb.UnsuspendRequest(job_ids=[job_id]),
}
"""Method, and how it is told the job → a request about one job, which is NOT_FOUND when it is not known."""
TRIED_BY_THEMSELVES = {"Create", "Submit", "Terminate", "List", "RetrieveProducts", "RetrieveUtilization"}


def test_every_method_for_limited_tools_is_tried_here() -> None:
    """One that is added to the protos fails this until it is tried too."""
    from integration.tools.test_access import METHODS

    limited = {path for path, method in METHODS.items() if method.rule.of_project and not path.startswith("/grpc.")}
    assert limited == {SERVICE + name.partition(" ")[0] for name in {*ASKS, *TRIED_BY_THEMSELVES}}


@pytest.mark.parametrize("method", ASKS)
async def test_a_job_of_another_project_is_as_one_that_is_not_there(tmp_path: Path, method: str) -> None:
    """The same code, words and field, so that nobody learns which ids there are; one's own job is answered, and so is any to who is not
    limited."""
    async with site_on(tmp_path) as site:
        for job_id in ("tool-other", "5", "6"):
            absent_id = "x" * len(job_id)
            hidden, absent = await site.refused(method, ASKS[method](job_id)), await site.refused(method, ASKS[method](absent_id))
            assert hidden.code == code_pb2.NOT_FOUND
            assert hidden.SerializeToString().replace(job_id.encode(), absent_id.encode()) == absent.SerializeToString()
        await site.ask(method, ASKS[method]("tool-mine"))
        await site.ask(method, ASKS[method]("tool-other"), FREE)


@pytest.mark.parametrize("way", ["", " by ids"])
@pytest.mark.parametrize("name", ["Extend", "Suspend", "Unsuspend"])
async def test_one_of_another_project_spoils_the_whole_bulk(tmp_path: Path, name: str, way: str) -> None:
    """Nothing is done to any, and the field says which it was; as with a job that is not there."""
    method = name + way
    async with site_on(tmp_path) as site:
        both = ASKS[method]("tool-mine")
        both.MergeFrom(ASKS[method]("tool-other"))
        before = await site.core.store.job("tool-mine")
        status = await site.refused(method, both)
        bad = error_details_pb2.BadRequest()
        assert any(detail.Unpack(bad) for detail in status.details)
        assert [violation.field for violation in bad.field_violations] == ["job_ids[1]" if way else "items[1]"]
        assert await site.core.store.job("tool-mine") == before


async def test_an_end_is_only_for_ones_own_jobs(tmp_path: Path) -> None:
    """What is not known counts as done, and so does what is not one's own, which goes on."""
    async with site_on(tmp_path) as site:
        answer = await site.ask("Terminate", pb.TerminateRequest(items=ids("tool-other", "nope", "5", "tool-mine")))
        assert len(pb.TerminateResponse.FromString(answer).responses) == 4
        await until(site.core, "tool-mine", lambda row: row.state.final)
        for other in ("tool-other", "5"):
            row = await site.core.store.job(other)
            assert row is not None
            assert (row.state, row.target.stop) == (State.RUNNING, False)
        assert await site.ask("Terminate", pb.TerminateRequest(items=ids("tool-other")))
        assert await site.ask("Terminate", pb.TerminateRequest(job_ids=["tool-other", "nope"]))
        assert (await until(site.core, "tool-other", lambda row: True)).target.stop is False
        too_many = pb.TerminateRequest(items=ids(*map(str, range(1_001))))
        assert (await site.refused("Terminate", too_many)).code == code_pb2.INVALID_ARGUMENT


@pytest.mark.parametrize("who", [LIMITED, FREE], ids=["limited", "not limited"])
@pytest.mark.parametrize("name", ["Extend", "Suspend", "Unsuspend", "Terminate"])
async def test_too_many_jobs_are_refused_in_the_name_of_their_field(tmp_path: Path, name: str, who: Identify) -> None:
    """Whoever asks."""
    async with site_on(tmp_path) as site:
        request = getattr(pb, f"{name}Request")(job_ids=map(str, range(1_001)))
        status = await site.refused(name, request, who)
        assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "job_ids: expected 1 to 1000 items, found 1001")


@pytest.mark.parametrize("who", [LIMITED, FREE], ids=["limited", "not limited"])
@pytest.mark.parametrize("method", ["Create", "Extend", "Suspend", "Terminate", "Unsuspend"])
async def test_a_bulk_of_nothing_is_refused(tmp_path: Path, method: str, who: Identify) -> None:
    """Whoever asks, and with the path of the field."""
    async with site_on(tmp_path) as site:
        status = await site.refused(method, getattr(pb, f"{method}Request")(), who)
        assert status.code == code_pb2.INVALID_ARGUMENT
        assert status.message.startswith(("items: expected 1 to ", "job_ids: expected 1 to "))


async def test_lists_have_ones_own_jobs(tmp_path: Path) -> None:
    """Whatever project is asked for; who asks for another one gets none."""
    async with site_on(tmp_path) as site:
        for project, expected in (("", ["tool-mine"]), ("p", ["tool-mine"]), ("q", [])):
            answer = pb.ListResponse.FromString(await site.ask("List", pb.ListRequest(project=project)))
            assert [found.id for found in answer.jobs] == expected
        everything = pb.ListResponse.FromString(await site.ask("List", pb.ListRequest(), FREE))
        assert {found.id for found in everything.jobs} == {"tool-mine", "tool-other", "5", "6"}


@pytest.mark.parametrize("method", ["RetrieveProducts", "RetrieveUtilization"])
async def test_what_is_of_no_project_is_told_to_all(tmp_path: Path, method: str) -> None:
    """Machine types and how busy they are: no job is in that."""
    async with site_on(tmp_path) as site:
        asked = getattr(pb, f"{method}Request")()
        assert await site.ask(method, asked, tool("p", Role.VIEWER)) == await site.ask(method, asked, FREE)


async def test_a_job_is_made_in_ones_own_project_only(tmp_path: Path) -> None:
    """Neither in another one nor in a personal workspace; all items or none. Its maker is noted."""
    async with site_on(tmp_path) as site:
        for project in ("q", ""):
            request = pb.CreateRequest(items=[of("p", "tool-a"), of(project, "tool-b")])
            status = await site.refused("Create", request)
            assert status.code == code_pb2.PERMISSION_DENIED
            assert "'p'" in status.message
        assert await site.core.store.job("tool-a") is None
        await site.ask("Create", pb.CreateRequest(items=[of("p", "tool-a")]))
        row = await site.core.store.job("tool-a")
        assert row is not None
        told = notes.read(row.notes)
        assert (told.tool, told.only_project) == ("0123456789ab", True)


@pytest.mark.parametrize("who", [LIMITED, FREE], ids=["limited", "not limited"])
async def test_ids_of_tools_jobs_are_not_such_as_core_gives(tmp_path: Path, who: Identify) -> None:
    """Or Core would one day be told that the id of its job is taken."""
    async with site_on(tmp_path) as site:
        status = await site.refused("Create", pb.CreateRequest(items=[of("p", "4711")]), who)
        assert status.code == code_pb2.INVALID_ARGUMENT
        assert "tool-" in status.message


def with_input(message: Job, path: str) -> Job:
    message.specification.resources.append(AppParameterValue(file=FileValue(path=path)))
    return message


async def test_a_limited_tools_job_does_not_reach_the_drives_of_whom_it_names(tmp_path: Path) -> None:
    """The tool says whose job it is, so a personal drive and what is open to that user by name are out of its reach."""
    async with site_on(tmp_path) as site:
        mine = pb.CreateRequest(items=[with_input(of("p", "tool-in"), "/p/data")])
        await site.ask("Create", mine)
        theirs = pb.CreateRequest(items=[with_input(of("p", "tool-steal", owner="victim"), "/victim/secrets")])
        assert (await site.refused("Create", theirs)).code == code_pb2.INVALID_ARGUMENT
        await site.ask("Create", theirs, FREE)


async def test_a_limited_tools_job_does_not_reach_jobs_that_were_shared_with_whom_it_names(tmp_path: Path) -> None:
    """Only those of its project; a job that it may not reach is as one that is gone."""
    async with site_on(tmp_path) as site:
        entry = ResourceAclEntry(entity=AclEntity(user=UserEntity(username="victim")), permissions=[Permission.PERMISSION_EDIT])
        shared = pb.UpdateAclItem(resource=Job(id="5", permissions=ResourcePermissions()), added=[entry])
        await site.core.changes.update_acl([shared])
        for who, job_id, reaches in ((LIMITED, "tool-l", False), (FREE, "tool-f", True)):
            message = of("p", job_id, owner="victim")
            message.specification.resources.append(AppParameterValue(peer=PeerValue(hostname="other", job_id="5")))
            await site.ask("Create", pb.CreateRequest(items=[message]), who)
            row = await until(site.core, job_id, lambda row: row.state.final or row.state is State.RUNNING)
            assert (row.state is State.RUNNING) == reaches


async def test_an_id_that_another_project_has_is_taken_and_no_more_is_told(tmp_path: Path) -> None:
    """Ids are one namespace: the words are those for a job of one's own that has the id, and the other job stays as it is."""
    async with site_on(tmp_path) as site:
        before = await site.core.store.job("tool-other")
        theirs = await site.refused("Create", pb.CreateRequest(items=[of("p", "tool-other")]))
        longer = of("p", "tool-mine")
        longer.specification.time_allocation.minutes += 1
        mine = await site.refused("Create", pb.CreateRequest(items=[longer]))
        assert theirs.code == code_pb2.ALREADY_EXISTS
        assert theirs.message == mine.message.replace("tool-mine", "tool-other")
        texts = [b"".join(detail.value for detail in status.details) for status in (theirs, mine)]
        assert len(texts[0]) - texts[0].count(b"tool-other") == len(texts[1]), "the id alone is different"
        assert await site.core.store.job("tool-other") == before


async def test_undelivered_events_are_counted_for_one_job_and_not_in_lists(tmp_path: Path) -> None:
    """As the proto says."""
    async with site_on(tmp_path) as site:
        one = pb.GetResponse.FromString(await site.ask("Get", pb.GetRequest(job_id="5"), FREE))
        watched = pb.WatchResponse.FromString(await site.ask("Watch", pb.WatchRequest(job_id="5"), FREE))
        assert one.job.undelivered_events == watched.job.undelivered_events > 0
        listed = pb.ListResponse.FromString(await site.ask("List", pb.ListRequest(), FREE))
        assert {job.id: job.undelivered_events for job in listed.jobs}["5"] == 0


async def test_whose_a_job_is_waits_for_no_write(tmp_path: Path) -> None:
    """A limited tool that only reads is answered while the queue of writes is long."""
    async with site_on(tmp_path) as site:
        go = threading.Event()

        def slow(_place: int, _job: object) -> None:
            go.wait(60)

        writing = asyncio.create_task(site.core.store.decide(["tool-other"], slow))
        try:
            async with asyncio.timeout(20):
                assert await site.ask("Get", pb.GetRequest(job_id="tool-mine"))
                assert (await site.refused("Get", pb.GetRequest(job_id="tool-other"))).code == code_pb2.NOT_FOUND
        finally:
            go.set()
            await writing
