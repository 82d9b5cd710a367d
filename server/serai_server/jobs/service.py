"""The use cases of jobs, without gRPC: a handler stores what was asked and answers; the reconciler does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import msgspec
from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai.jobs.v1.jobs_service_pb2 import (
    FollowRequest,
    FollowResponse,
    JobReport,
    ListRequest,
    ListResponse,
    SubmitRequest,
    SubmitResponse,
)
from serai_backends.api import Backend
from serai_backends.errors import BackendUnavailable
from serai_backends.model import Capacity
from serai_telemetry.spans import Traces, recorded

from serai_server.clock import Clock
from serai_server.errors import BackendDown, InvalidRequest, JobConflictError, JobUnknown, NotEnoughCredits, Unsupported
from serai_server.events.log import CORE
from serai_server.jobs import notes
from serai_server.jobs.changes import check_count
from serai_server.jobs.origin import Tool
from serai_server.jobs.output import Output
from serai_server.jobs.products import Catalog
from serai_server.jobs.registry import Registry
from serai_server.jobs.reports import report
from serai_server.jobs.requests import Policy, is_job_id, new_job
from serai_server.jobs.spec import licenses_of
from serai_server.jobs.submissions import Submission, of_submission, whole_job
from serai_server.ledger.funds import Funds, wallet_of
from serai_server.licenses.in_jobs import LicensesInJobs, Whose
from serai_server.own_jobs import SUBMITTED, is_own, is_submitted
from serai_server.store.api import JobConflict, Store
from serai_server.store.model import JobFilter, NewJob, State, StoredJob

_SLICE = 8
"""Items of a bulk that are checked before other calls get their turn (about a millisecond)."""


class JobsService:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        backend: Backend,
        catalog: Catalog,
        policy: Policy,
        output: Output,
        funds: Funds,
        clock: Clock,
        licenses: LicensesInJobs,
        traces: Traces | None = None,
    ) -> None:
        """`traces` None = no spans, and jobs do not know in which one they were asked for."""
        self._traces = traces
        self._licenses = licenses
        self._store = store
        self._backend = backend
        self._funds = funds
        self._registry = registry
        self._catalog = catalog
        self._policy = policy
        self._output = output
        self._clock = clock

    async def create(self, items: Sequence[Job], tool: Tool | None = None) -> None:
        """Store the jobs, all or none; they run later. A job that exists with the same content is left as it is. `tool`: who makes them,
        None = not a tool at its door.

        Raises Forbidden, InvalidRequest, Unsupported, WrongState, NotEnoughCredits, NotEnoughLicenses, JobConflictError, and the store's
        StoreUnavailable.
        """
        check_count(items)
        for index, item in enumerate(items):
            if is_submitted(item.id):  # in the same words whether there is such a job or not
                raise InvalidRequest(f"ids that begin with {SUBMITTED} are given by Submit; choose another one", field=f"items[{index}].id")
        try:
            await self._store.create_jobs(await self._new_jobs(items, tool))
        except JobConflict as error:
            raise JobConflictError(
                f"a job {error.job_id} with other content exists already; a job's id cannot be used again", field=f"items[{error.index}].id"
            ) from error

    async def _new_jobs(self, items: Sequence[Job], tool: Tool | None) -> list[NewJob]:
        """As they will be stored. Raises as `create`, but for the last two."""
        jobs: list[NewJob] = []
        ids: set[str] = set()
        origin = recorded(self._traces.current()) if self._traces is not None else ""
        for index, item in enumerate(items):
            if index and index % _SLICE == 0:
                await asyncio.sleep(0)
            if is_own(item.id) and licenses_of(item, f"items[{index}]"):
                raise Unsupported("jobs of tools use no licenses: UCloud would be told that one is bound to a job that it does not know")
            job = new_job(item, index, self._catalog, self._policy, self._clock.now_ms(), tool=tool)
            if job.id in ids:
                raise InvalidRequest(f"job {job.id} is in the request twice", field=f"items[{index}].id")
            ids.add(job.id)
            if origin:
                job = msgspec.structs.replace(job, notes=notes.with_origin(job.notes, origin))
            await self._check_funds(job)
            jobs.append(await self._with_licenses(job, item, index))
        return jobs

    async def submit(self, request: SubmitRequest, tool: Tool | None = None) -> SubmitResponse:
        """Store the job that is described, or find the one of the same submission; that is not made of the request anew, so that neither
        other settings nor another release keep it from being found. Raises as `create`."""
        submission = Submission.of(request, tool)
        if request.submission_id and (there := await self._store.job(submission.job_id)) is not None:
            return submission.answer(there)
        job = whole_job(request, submission, self._catalog)
        with of_submission():
            (made,) = await self._new_jobs([job], tool)
        new = msgspec.structs.replace(made, digest=submission.digest)
        (row,) = await self._store.decide([new.id], lambda _place, there: new if there is None else None)
        return submission.answer(row)

    async def _with_licenses(self, job: NewJob, item: Job, index: int) -> NewJob:
        """The job with its claims on licenses. Raises InvalidRequest, WrongState, NotEnoughLicenses."""
        used = licenses_of(item, f"items[{index}]")
        # One that is there already is a create whose answer got lost: its licenses may have changed since, and it has its claims.
        if not used or await self._store.job(job.id) is not None:
            return job
        provider = item.specification.product.provider
        claims = await self._licenses.check(used, Whose(job.owner, job.project, provider, job.replicas))
        return msgspec.structs.replace(job, claims=claims)

    async def _check_funds(self, job: NewJob) -> None:
        """Core does not check what a wallet holds before it sends a job (facts today §6.1)."""
        if is_own(job.id) or not len(self._funds) or not self._funds.is_short(wallet_of(job.owner, job.project, job.product)):
            return
        # A job that is there already is a create whose answer got lost: it is answered as it was.
        if await self._store.job(job.id) is None:
            whose = "the project" if job.project else f"user {job.owner}"
            raise NotEnoughCredits(f"{whose} has no credits left for this kind of machine; add some, then try again in a few minutes")

    def products(self) -> list[ComputeSupport]:
        return self._catalog.support()

    async def utilization(self) -> Capacity:
        """Raises Unsupported, BackendDown."""
        if not self._catalog.features.utilization:
            raise Unsupported("this provider does not tell how busy it is")
        try:
            return await self._backend.capacity()
        except BackendUnavailable as error:
            raise BackendDown("how busy the machines are cannot be told right now; try again later") from error

    async def of_project(self, job_ids: Sequence[str], project: str) -> list[bool]:
        """For each id, whether it is one of a job of this project. Raises InvalidRequest for too many."""
        check_count(job_ids)
        known = [job_id for job_id in job_ids if is_job_id(job_id)]
        mine = await self._store.of_project(known, project) if known else ()
        return [job_id in mine for job_id in job_ids]

    async def get(self, job_id: str) -> JobReport:
        """Raises JobUnknown."""
        return await self._report(await self._known(job_id))

    async def _report(self, job: StoredJob) -> JobReport:
        claims = await self._store.licenses.claims(job.id) if job.claims and not job.state.final else ()
        undelivered = 0 if is_own(job.id) else await self._store.undelivered_count(job.id, CORE)
        return report(job, undelivered, self._clock.now_ms(), claims)

    async def list(self, request: ListRequest) -> ListResponse:
        """Newest first. Raises InvalidRequest for a page token that was not given out here."""
        for field, text in (("owner", request.owner), ("project", request.project), ("page_token", request.page_token)):
            if "\0" in text:
                raise InvalidRequest("expected a text without NUL characters", field=field)
        condition = JobFilter(
            states=_states(request),
            owner=request.owner,
            project=request.project or None,
            active_only=request.active_only,
        )
        size = min(request.page_size or 100, 1_000)
        if size < 1:
            raise InvalidRequest("expected 1 to 1000, or 0 for 100", field="page_size")
        try:
            page = await self._store.jobs(condition, size, request.page_token)
        except ValueError as error:
            raise InvalidRequest("not a token that this server gave out", field="page_token") from error
        now_ms = self._clock.now_ms()
        return ListResponse(jobs=[report(job, 0, now_ms) for job in page.jobs], next_page_token=page.next_token)

    async def watch(self, job_id: str) -> AsyncIterator[JobReport]:
        """The job's report now and after each change, until it is final. Raises JobUnknown."""
        changed = self._registry.watch(job_id)
        try:
            while True:
                changed.clear()
                job = await self._known(job_id)
                yield await self._report(job)
                if job.state.final:
                    return
                await changed.wait()
        finally:
            self._registry.unwatch(job_id, changed)

    async def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]:
        """The replicas' output. Raises JobUnknown, InvalidRequest."""
        job = await self._known(request.job_id)
        async with aclosing(self._output.read(job, request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _known(self, job_id: str) -> StoredJob:
        job = await self._store.job(job_id) if is_job_id(job_id) else None
        if job is None:
            raise JobUnknown(f"no job {job_id!r} is known here", field="job_id")
        return job


def _states(request: ListRequest) -> tuple[State, ...]:
    try:
        return tuple(State(s) for s in request.states if s)
    except ValueError as error:
        raise InvalidRequest("expected states of a job", field="states") from error
