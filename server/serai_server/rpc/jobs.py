"""serai.jobs.v1.JobsService over the use cases: messages in, messages out, no rules of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.job_pb2 import Job

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.jobs.changes import check_count
from serai_server.jobs.origin import Tool
from serai_server.jobs.requests import MOST_ITEMS
from serai_server.own_jobs import is_own
from serai_server.rpc.call import Call, Caller
from serai_server.rpc.iterate import converted
from serai_server.rpc.ports import Changes, Jobs, Sessions
from serai_server.rpc.project_limit import ProjectLimit
from serai_server.rpc.status import Failures
from serai_server.sessions.openable import Wanted
from serai_server.sessions.service import Opened
from serai_server.store.session_model import SessionKind

MOST_REQUESTS = 1_000
"""Requests in one CreateBulk."""


class JobsServicer:
    def __init__(self, jobs: Jobs, changes: Changes, failures: Failures, sessions: Sessions | None = None) -> None:
        self._jobs = jobs
        self._limit = ProjectLimit(jobs)
        self._changes = changes
        self._failures = failures
        self._sessions = sessions

    async def Create(self, request: pb.CreateRequest, call: Call) -> pb.CreateResponse:
        await self._jobs.create(request.items, _tool(call))
        return pb.CreateResponse(responses=[pb.CreatedJob()] * len(request.items))

    async def Submit(self, request: pb.SubmitRequest, call: Call) -> pb.SubmitResponse:
        return await self._jobs.submit(request, _tool(call))

    async def CreateBulk(self, request: pb.CreateBulkRequest, call: Call) -> pb.CreateBulkResponse:
        if len(request.requests) > MOST_REQUESTS:
            raise InvalidRequest(f"expected at most {MOST_REQUESTS} requests, found {len(request.requests)}", field="requests")
        # All at once, so that the store can put them into one transaction.
        outcomes = await asyncio.gather(*(self._outcome(inner, call) for inner in request.requests))
        return pb.CreateBulkResponse(outcomes=outcomes)

    async def _outcome(self, request: pb.CreateRequest, call: Call) -> pb.CreateOutcome:
        """As the request would be answered by itself; a failure is an answer too, so that it does not spoil its neighbours."""
        try:
            return pb.CreateOutcome(created=await self.Create(request, call))
        except Exception as error:
            failure = self._failures.of(error, call)
            return pb.CreateOutcome(error_status=failure.status.SerializeToString())

    async def RetrieveProducts(self, _request: pb.RetrieveProductsRequest, _call: Call) -> pb.RetrieveProductsResponse:
        return pb.RetrieveProductsResponse(responses=self._jobs.products())

    async def Get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        await self._limit.check_one(call, request.job_id)
        return pb.GetResponse(job=await self._jobs.get(request.job_id))

    async def List(self, request: pb.ListRequest, call: Call) -> pb.ListResponse:
        if call.only_project and request.project not in ("", call.only_project):
            return pb.ListResponse()
        if call.only_project:
            request.project = call.only_project
        answer = await self._jobs.list(request)
        return _for_core(answer) if call.caller is Caller.CORE else answer

    def Watch(self, request: pb.WatchRequest, call: Call) -> AsyncIterator[pb.WatchResponse]:
        reports = self._limit.stream(call, request.job_id, self._jobs.watch(request.job_id))
        return converted(reports, lambda report: pb.WatchResponse(job=report))

    def Follow(self, request: pb.FollowRequest, call: Call) -> AsyncIterator[pb.FollowResponse]:
        return self._limit.stream(call, request.job_id, self._jobs.follow(request))

    async def RetrieveUtilization(self, _request: pb.RetrieveUtilizationRequest, _call: Call) -> pb.RetrieveUtilizationResponse:
        found = await self._jobs.utilization()
        return pb.RetrieveUtilizationResponse(
            capacity=pb.CpuAndMemory(cpu=found.cpu, memory=found.memory_bytes),
            used_capacity=pb.CpuAndMemory(cpu=found.used_cpu, memory=found.used_memory_bytes),
            queue_status=pb.QueueStatus(running=found.running_jobs, pending=found.waiting_jobs),
        )

    # What is asked of jobs that exist.

    async def Terminate(self, request: pb.TerminateRequest, call: Call) -> pb.TerminateResponse:
        at = _named(request)
        asked = request.items if at == _ITEMS else [Job(id=job_id) for job_id in request.job_ids]
        # A job that is not known counts as done, and so does one that the caller may not know.
        if items := await self._limit.known(call, asked):
            await self._changes.terminate(items, for_core=call.caller is Caller.CORE)
        return pb.TerminateResponse(responses=_done(asked))

    async def Extend(self, request: pb.ExtendRequest, call: Call) -> pb.ExtendResponse:
        if _named(request) == _ITEMS:
            for field in ("added_ms", "time_limit_ms"):
                if getattr(request, field):
                    raise InvalidRequest("expected job_ids beside it, and no items", field=field)
            await self._limit.check_each(call, [item.job.id for item in request.items], _ITEMS)
            await self._changes.extend(request.items)
            return pb.ExtendResponse(responses=_done(request.items))
        await self._limit.check_each(call, request.job_ids, _JOB_IDS)
        if request.added_ms and request.time_limit_ms:
            raise InvalidRequest("expected either added_ms or time_limit_ms, found both", field="time_limit_ms")
        if request.time_limit_ms:
            await self._changes.extend_to(request.job_ids, request.time_limit_ms)
        else:
            await self._changes.extend_by(request.job_ids, request.added_ms)
        return pb.ExtendResponse(responses=_done(request.job_ids))

    async def Suspend(self, request: pb.SuspendRequest, call: Call) -> pb.SuspendResponse:
        at = _named(request)
        await self._changes.suspend(await self._limit.check_each(call, _ids(request), at), at)
        return pb.SuspendResponse()

    async def Unsuspend(self, request: pb.UnsuspendRequest, call: Call) -> pb.UnsuspendResponse:
        at = _named(request)
        await self._changes.unsuspend(await self._limit.check_each(call, _ids(request), at), at)
        return pb.UnsuspendResponse()

    async def UpdateAcl(self, request: pb.UpdateAclRequest, _call: Call) -> pb.UpdateAclResponse:
        await self._changes.update_acl(request.items)
        return pb.UpdateAclResponse(responses=_done(request.items))

    async def Verify(self, request: pb.VerifyRequest, _call: Call) -> pb.VerifyResponse:
        await self._changes.verify(request.items, cautious=request.cautious)
        return pb.VerifyResponse()

    async def OnUpdatedLabels(self, request: pb.OnUpdatedLabelsRequest, _call: Call) -> pb.OnUpdatedLabelsResponse:
        await self._changes.update_labels(request.items)
        return pb.OnUpdatedLabelsResponse(responses=_done(request.items))

    async def Disown(self, request: pb.DisownRequest, _call: Call) -> pb.DisownResponse:
        _check_ids(request.job_ids)
        await self._changes.disown(request.job_ids)
        return pb.DisownResponse()

    async def RequestDynamicParameters(
        self, _request: pb.RequestDynamicParametersRequest, _call: Call
    ) -> pb.RequestDynamicParametersResponse:
        # We add none; an error here would keep users of today's Core from submitting (facts today §5).
        return pb.RequestDynamicParametersResponse()

    async def OpenInteractiveSession(self, request: pb.OpenInteractiveSessionRequest, call: Call) -> pb.OpenInteractiveSessionResponse:
        if self._sessions is None:
            raise Unsupported("this provider does not open shells, web pages or desktops of jobs")
        wanted = [_wanted(item, f"items[{index}]") for index, item in enumerate(request.items)]
        return pb.OpenInteractiveSessionResponse(responses=map(_session, await self._sessions.open(wanted, call.user)))

    # What this provider does not do, in words that Core shows to its user.

    async def AttachResource(self, _request: pb.AttachResourceRequest, _call: Call) -> pb.AttachResourceResponse:
        raise Unsupported("this provider does not attach anything to a job that was started; start a new job with it")

    async def DetachResource(self, _request: pb.DetachResourceRequest, _call: Call) -> pb.DetachResourceResponse:
        raise Unsupported("this provider does not detach anything from a job that was started")

    async def OpenTerminalInFolder(self, _request: pb.OpenTerminalInFolderRequest, _call: Call) -> pb.OpenTerminalInFolderResponse:
        raise Unsupported("this provider does not open terminals in folders; start a job with the folder as its input")


def _tool(call: Call) -> Tool | None:
    return Tool(call.tool, call.only_project) if call.tool else None


_ITEMS, _JOB_IDS = "items", "job_ids"


def _named(request: pb.TerminateRequest | pb.ExtendRequest | pb.SuspendRequest | pb.UnsuspendRequest) -> str:
    """In which of its fields the request names jobs: UCloud's or the tools'. Raises InvalidRequest for both and for neither, for too many,
    and for a job that a tool names twice."""
    if not request.job_ids:
        if not request.items:
            raise InvalidRequest(f"expected 1 to {MOST_ITEMS} jobs", field=_JOB_IDS)
        check_count(request.items, _ITEMS)
        return _ITEMS
    if request.items:
        raise InvalidRequest("expected either job_ids or items, found both", field=_JOB_IDS)
    _check_ids(request.job_ids)
    return _JOB_IDS


def _check_ids(job_ids: Sequence[str]) -> None:
    """Raises InvalidRequest for too many or none, and for one that is there twice: what is meant by that cannot be told."""
    check_count(job_ids, _JOB_IDS)
    seen: set[str] = set()
    for place, job_id in enumerate(job_ids):
        if job_id in seen:
            raise InvalidRequest(f"job {job_id[:64]!r} is in the request twice", field=f"{_JOB_IDS}[{place}]")
        seen.add(job_id)


def _ids(request: pb.SuspendRequest | pb.UnsuspendRequest) -> Sequence[str]:
    return request.job_ids or [item.job.id for item in request.items]


def _for_core(answer: pb.ListResponse) -> pb.ListResponse:
    """Without the site's own: the gateway asks Core for each job, and stops those that it does not have."""
    return pb.ListResponse(jobs=[report for report in answer.jobs if not is_own(report.id)], next_page_token=answer.next_page_token)


_KINDS = {
    pb.INTERACTIVE_SESSION_TYPE_SHELL: SessionKind.SHELL,
    pb.INTERACTIVE_SESSION_TYPE_WEB: SessionKind.WEB,
    pb.INTERACTIVE_SESSION_TYPE_VNC: SessionKind.VNC,
}


def _wanted(item: pb.OpenInteractiveSessionItem, at: str) -> Wanted:
    kind = _KINDS.get(item.session_type)
    if kind is None:
        raise InvalidRequest("expected SHELL, WEB or VNC", field=f"{at}.sessionType")
    return Wanted(kind, item.job.id, item.rank, item.target, at)


def _session(opened: Opened) -> pb.OpenSession:
    """As Core gets it, but for the addresses of pages and desktops, which the gateway makes."""
    session, secret = opened.session, opened.secret
    match session.kind:
        case SessionKind.WEB:
            return pb.OpenSession(web=pb.WebSession(job_id=session.job_id, rank=session.rank, session_identifier=secret))
        case SessionKind.VNC:
            desktop = pb.VncSession(job_id=session.job_id, rank=session.rank, password=opened.password, session_identifier=secret)
            return pb.OpenSession(vnc=desktop)
        case _:
            return pb.OpenSession(shell=pb.ShellSession(job_id=session.job_id, rank=session.rank, session_identifier=secret))


def _done(items: Sequence[object]) -> list[pb.Acknowledged]:
    return [pb.Acknowledged()] * len(items)
