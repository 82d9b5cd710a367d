"""In-memory use cases behind the gRPC front: jobs by id with the rules of JobsService, and an event log with those of EventLog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

from serai.core.v1.resources_pb2 import NameAndVersion, ProductReference, ResourceOwner
from serai.jobs.v1 import job_pb2, jobs_service_pb2
from serai.jobs.v1.job_pb2 import ComputeSupport, Job
from serai.jobs.v1.jobs_service_pb2 import (
    ExtendItem,
    FollowRequest,
    FollowResponse,
    JobReport,
    ListRequest,
    ListResponse,
    SubmitRequest,
    SubmitResponse,
    UpdateAclItem,
)
from serai_backends.model import Capacity
from serai_server.errors import ConsumerUnknown, InvalidRequest, JobConflictError, JobUnknown
from serai_server.events.consumers import Asker, ConsumerReport
from serai_server.jobs.origin import Tool
from serai_server.own_jobs import SUBMITTED
from serai_server.store.model import Backlog, EventSettlement, StoredEvent

STDOUT, STDERR = jobs_service_pb2.OUTPUT_STREAM_STDOUT, jobs_service_pb2.OUTPUT_STREAM_STDERR
FINAL = (job_pb2.JOB_STATE_SUCCESS, job_pb2.JOB_STATE_FAILURE, job_pb2.JOB_STATE_EXPIRED)


def job(job_id: str, *, owner: str = "alice", replicas: int = 1, project: str = "") -> Job:
    """A small job that JobsService would take."""
    return Job(
        id=job_id,
        owner=ResourceOwner(created_by=owner, project=project),
        specification=job_pb2.JobSpecification(
            application=NameAndVersion(name="acme-batch", version="1.0.0"),
            product=ProductReference(id="c1", category="c", provider="example"),
            replicas=replicas,
        ),
    )


class MemoryJobs:
    """Creates are all or none, a repeated one is fine, one with other content is a conflict; a stop ends a job at once."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.reports: dict[str, JobReport] = {}
        self.output: dict[str, list[FollowResponse]] = {}
        self.wrong: BaseException | None = None
        """Raised by every call while it is set."""
        self.asked: list[tuple[str, list[str]]] = []
        """What was asked of jobs that exist, with their ids, in order."""
        self.submitted: list[SubmitRequest] = []
        self.open_iterators = 0
        self._changed = asyncio.Condition()

    async def create(self, items: Sequence[Job], tool: Tool | None = None) -> None:
        self._raise()
        for index, item in enumerate(items if tool else ()):
            cast("Tool", tool).check(item, f"items[{index}]")
        if not 1 <= len(items) <= 1_000:
            raise InvalidRequest(f"expected 1 to 1000 items, found {len(items)}", field="items")
        for index, item in enumerate(items):
            if self.jobs.get(item.id, item) != item:
                raise JobConflictError(f"a job {item.id} with other content exists already", field=f"items[{index}].id")
        for item in items:
            copy = Job()
            copy.CopyFrom(item)
            self.jobs[item.id] = copy
            self.reports.setdefault(item.id, self._report(item))

    async def submit(self, request: SubmitRequest, tool: Tool | None = None) -> SubmitResponse:
        self.submitted.append(request)
        made = job(f"{SUBMITTED}{request.submission_id or len(self.jobs)}", owner=request.owner, project=request.project)
        await self.create([made], tool)
        return SubmitResponse(job_id=made.id, state=self.reports[made.id].state)

    async def of_project(self, job_ids: Sequence[str], project: str) -> list[bool]:
        self._raise()
        return [job_id in self.jobs and self.jobs[job_id].owner.project == project for job_id in job_ids]

    async def terminate(self, items: Sequence[Job], *, for_core: bool) -> None:
        self._raise()
        self.asked.append(("terminate for core" if for_core else "terminate", [item.id for item in items]))
        for item in items:
            if item.id in self.reports and self.reports[item.id].state not in FINAL:
                await self.change(item.id, job_pb2.JOB_STATE_SUCCESS, "stopped")

    async def extend(self, items: Sequence[ExtendItem]) -> None:
        self._ask("extend", [item.job.id for item in items])

    async def extend_by(self, job_ids: Sequence[str], added_ms: int) -> None:
        self._ask(f"extend by {added_ms}", job_ids)

    async def extend_to(self, job_ids: Sequence[str], time_limit_ms: int) -> None:
        self._ask(f"extend to {time_limit_ms}", job_ids)

    async def suspend(self, job_ids: Sequence[str], at: str = "items") -> None:
        self._ask("suspend", job_ids)

    async def unsuspend(self, job_ids: Sequence[str], at: str = "items") -> None:
        self._ask("unsuspend", job_ids)

    async def verify(self, items: Sequence[Job], *, cautious: bool = False) -> None:
        self._ask("verify", [item.id for item in items], unknown_too=True)

    async def update_acl(self, items: Sequence[UpdateAclItem]) -> None:
        self._ask("update acl", [item.resource.id for item in items], unknown_too=True)

    async def update_labels(self, items: Sequence[Job]) -> None:
        self._ask("update labels", [item.id for item in items], unknown_too=True)

    async def disown(self, job_ids: Sequence[str]) -> None:
        self._ask("disown", job_ids, unknown_too=True)

    def _ask(self, what: str, job_ids: Sequence[str], *, unknown_too: bool = False) -> None:
        self._raise()
        for job_id in job_ids if not unknown_too else ():
            self._known(job_id)
        self.asked.append((what, list(job_ids)))

    async def utilization(self) -> Capacity:
        self._raise()
        return Capacity(cpu=8, memory_bytes=1 << 34, used_cpu=3, used_memory_bytes=1 << 30, running_jobs=2, waiting_jobs=1)

    def products(self) -> list[ComputeSupport]:
        self._raise()
        return [ComputeSupport(product=ProductReference(id="c1", category="c", provider="example"))]

    async def get(self, job_id: str) -> JobReport:
        self._raise()
        return self._known(job_id)

    async def list(self, request: ListRequest) -> ListResponse:
        self._raise()
        start = int(request.page_token or 0)
        size = request.page_size or 100
        found = [r for r in reversed(self.reports.values()) if self._wanted(r, request)]
        more = str(start + size) if len(found) > start + size else ""
        return ListResponse(jobs=found[start : start + size], next_page_token=more)

    async def watch(self, job_id: str) -> AsyncIterator[JobReport]:
        self.open_iterators += 1
        try:
            while True:
                self._raise()
                report = JobReport()
                report.CopyFrom(self._known(job_id))
                yield report
                if report.state in FINAL:
                    return
                async with self._changed:
                    await self._changed.wait_for(lambda seen=report: self.reports[job_id] != seen)
        finally:
            self.open_iterators -= 1

    async def follow(self, request: FollowRequest) -> AsyncIterator[FollowResponse]:
        self._raise()
        self._known(request.job_id)
        for chunk in self.output.get(request.job_id, []):
            if not request.ranks or chunk.rank in request.ranks:
                yield chunk

    async def change(self, job_id: str, state: job_pb2.JobState.ValueType, status: str) -> None:
        async with self._changed:
            report = self.reports[job_id]
            report.state, report.status = state, status
            if state in FINAL:
                report.ended_at_ms = 2_000
            self._changed.notify_all()

    def _raise(self) -> None:
        if self.wrong is not None:
            raise self.wrong

    def _known(self, job_id: str) -> JobReport:
        if job_id not in self.reports:
            raise JobUnknown(f"no job {job_id!r} is known here", field="job_id")
        return self.reports[job_id]

    @staticmethod
    def _wanted(report: JobReport, request: ListRequest) -> bool:
        return (
            (not request.states or report.state in request.states)
            and (not request.owner or report.owner == request.owner)
            and (not request.project or report.project == request.project)
            and not (request.active_only and report.state in FINAL)
        )

    @staticmethod
    def _report(item: Job) -> JobReport:
        spec = item.specification
        return JobReport(
            id=item.id,
            state=job_pb2.JOB_STATE_IN_QUEUE,
            owner=item.owner.created_by,
            project=item.owner.project,
            application=spec.application,
            product=spec.product,
            name=spec.name,
            replicas=spec.replicas,
            created_at_ms=1_000,
        )


class MemoryEvents:
    """Gives what was put in, in order, and goes on for ever."""

    def __init__(self) -> None:
        self.stored: list[StoredEvent] = []
        self.settled: dict[str, list[EventSettlement]] = {}
        self.askers: dict[str, Asker] = {}
        """Who settled last, by consumer."""
        self.open_iterators = 0
        self._more = asyncio.Condition()

    async def put(self, event: StoredEvent) -> None:
        async with self._more:
            self.stored.append(event)
            self._more.notify_all()

    async def subscribe(self, consumer: str, from_now: bool, batch_size: int, asker: Asker) -> AsyncIterator[Sequence[StoredEvent]]:
        if not consumer:
            raise InvalidRequest("expected 1 to 64 characters of [a-z0-9._-]", field="consumer")
        if batch_size < 0:
            raise InvalidRequest("expected 1 or more, or 0 for 1000", field="batch_size")
        at = len(self.stored) if from_now else 0
        self.open_iterators += 1
        try:
            while True:
                async with self._more:
                    await self._more.wait_for(lambda seen=at: len(self.stored) > seen)
                batch = self.stored[at : at + (batch_size or 1_000)]
                at += len(batch)
                yield batch
        finally:
            self.open_iterators -= 1

    async def acknowledge(self, consumer: str, settlements: Sequence[EventSettlement], asker: Asker) -> None:
        self.askers[consumer] = asker
        self.settled.setdefault(consumer, []).extend(settlements)

    async def consumers(self) -> Sequence[ConsumerReport]:
        return [ConsumerReport(Backlog(name, 0, 0, owner=asker.who), 0) for name, asker in sorted(self.askers.items())]

    async def drop(self, consumer: str) -> None:
        if self.askers.pop(consumer, None) is None:
            raise ConsumerUnknown(f"no consumer {consumer!r} is known here", field="consumer")

    async def give(self, consumer: str, owner: str) -> None:
        await self.drop(consumer)
        self.askers[consumer] = Asker(owner, may_all=False)
