"""serai.jobs.v1.JobsService over the use cases: messages in, messages out, no rules of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Never

from serai.jobs.v1 import jobs_service_pb2 as pb

from serai_server.errors import InvalidRequest, Unsupported
from serai_server.rpc.iterate import converted
from serai_server.rpc.methods import Call
from serai_server.rpc.ports import Jobs
from serai_server.rpc.status import Failures

MOST_REQUESTS = 1_000
"""Requests in one CreateBulk."""


class JobsServicer:
    def __init__(self, jobs: Jobs, failures: Failures) -> None:
        self._jobs = jobs
        self._failures = failures

    async def Create(self, request: pb.CreateRequest, _call: Call) -> pb.CreateResponse:
        await self._jobs.create(request.items)
        return pb.CreateResponse(responses=[pb.CreatedJob()] * len(request.items))

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
            failure = self._failures.of(error, call.method, call.request_id)
            return pb.CreateOutcome(error_status=failure.status.SerializeToString())

    async def Terminate(self, request: pb.TerminateRequest, _call: Call) -> pb.TerminateResponse:
        await self._jobs.terminate([job.id for job in request.items])
        return pb.TerminateResponse(responses=[pb.Acknowledged()] * len(request.items))

    async def RetrieveProducts(self, _request: pb.RetrieveProductsRequest, _call: Call) -> pb.RetrieveProductsResponse:
        return pb.RetrieveProductsResponse(responses=self._jobs.products())

    async def Get(self, request: pb.GetRequest, _call: Call) -> pb.GetResponse:
        return pb.GetResponse(job=await self._jobs.get(request.job_id))

    async def List(self, request: pb.ListRequest, _call: Call) -> pb.ListResponse:
        return await self._jobs.list(request)

    def Watch(self, request: pb.WatchRequest, _call: Call) -> AsyncIterator[pb.WatchResponse]:
        return converted(self._jobs.watch(request.job_id), lambda report: pb.WatchResponse(job=report))

    def Follow(self, request: pb.FollowRequest, _call: Call) -> AsyncIterator[pb.FollowResponse]:
        return self._jobs.follow(request)

    # Calls of the seed whose part is not built yet. Unsupported is what Core understands as "this provider does not do that".

    async def Extend(self, _request: pb.ExtendRequest, _call: Call) -> pb.ExtendResponse:
        _not_done("add time to jobs")

    async def OpenInteractiveSession(self, _request: pb.OpenInteractiveSessionRequest, _call: Call) -> pb.OpenInteractiveSessionResponse:
        _not_done("open shells, web pages or desktops of jobs")

    async def Suspend(self, _request: pb.SuspendRequest, _call: Call) -> pb.SuspendResponse:
        _not_done("suspend jobs")

    async def Unsuspend(self, _request: pb.UnsuspendRequest, _call: Call) -> pb.UnsuspendResponse:
        _not_done("resume suspended jobs")

    async def UpdateAcl(self, _request: pb.UpdateAclRequest, _call: Call) -> pb.UpdateAclResponse:
        _not_done("take changes of a job's permissions")

    async def Verify(self, _request: pb.VerifyRequest, _call: Call) -> pb.VerifyResponse:
        _not_done("verify jobs on demand")

    async def OnUpdatedLabels(self, _request: pb.OnUpdatedLabelsRequest, _call: Call) -> pb.OnUpdatedLabelsResponse:
        _not_done("take labels of jobs")

    async def RequestDynamicParameters(
        self, _request: pb.RequestDynamicParametersRequest, _call: Call
    ) -> pb.RequestDynamicParametersResponse:
        return pb.RequestDynamicParametersResponse()

    async def AttachResource(self, _request: pb.AttachResourceRequest, _call: Call) -> pb.AttachResourceResponse:
        _not_done("attach resources to jobs that were started")

    async def DetachResource(self, _request: pb.DetachResourceRequest, _call: Call) -> pb.DetachResourceResponse:
        _not_done("detach resources from jobs")

    async def OpenTerminalInFolder(self, _request: pb.OpenTerminalInFolderRequest, _call: Call) -> pb.OpenTerminalInFolderResponse:
        _not_done("open terminals in folders")

    async def Disown(self, _request: pb.DisownRequest, _call: Call) -> pb.DisownResponse:
        _not_done("disown jobs")

    async def RetrieveUtilization(self, _request: pb.RetrieveUtilizationRequest, _call: Call) -> pb.RetrieveUtilizationResponse:
        _not_done("tell how busy it is")


def _not_done(what: str) -> Never:
    raise Unsupported(f"this provider does not {what}")
