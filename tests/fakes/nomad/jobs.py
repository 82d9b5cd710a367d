"""Calls about jobs, allocations and evaluations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiohttp import web

from fakes.nomad import shapes, spec
from fakes.nomad.client import Clients
from fakes.nomad.cluster import Allocation, Cluster, Evaluation, JobRow
from fakes.nomad.http import Refused, Row, answer, body, by_index, flag, inner, namespace, page
from fakes.nomad.scheduler import Scheduler
from fakes.nomad.spec import Json


class Jobs:
    def __init__(self, cluster: Cluster, scheduler: Scheduler, clients: Clients) -> None:
        self._cluster, self._scheduler, self._clients = cluster, scheduler, clients

    def routes(self) -> list[web.RouteDef]:
        every: list[web.RouteDef] = []
        for path in ("/v1/jobs", "/v1/job/{id}"):
            every += [web.put(path, self.register), web.post(path, self.register)]
        return [
            web.get("/v1/jobs", self.list),
            *every,
            web.get("/v1/job/{id}", self.read),
            web.delete("/v1/job/{id}", self.deregister),
            web.get("/v1/job/{id}/allocations", self.allocations),
            web.get("/v1/job/{id}/evaluations", self.evaluations),
            web.put("/v1/job/{id}/evaluate", self.evaluate),
            web.post("/v1/job/{id}/evaluate", self.evaluate),
            web.get("/v1/allocations", self.all_allocations),
            web.get("/v1/allocation/{id}", self.allocation),
            web.put("/v1/allocation/{id}/stop", self.stop_allocation),
            web.post("/v1/allocation/{id}/stop", self.stop_allocation),
            web.get("/v1/evaluations", self.all_evaluations),
            web.get("/v1/evaluation/{id}", self.evaluation),
            web.put("/v1/system/gc", self.gc),
            web.post("/v1/system/gc", self.gc),
        ]

    # jobs

    async def register(self, request: web.Request) -> web.Response:
        sent = await body(request)
        raw = inner(sent, "Job")
        if not raw:
            raise Refused(400, "Job must be specified")
        try:
            job = spec.read(raw)
        except msgspec.ValidationError as wrong:
            raise Refused(400, str(wrong)) from wrong
        if "id" in request.match_info and request.match_info["id"] != job.id:
            raise Refused(400, "Job ID does not match name")
        where = request.query.get("namespace") or job.namespace or "default"
        self._refuse(job, where)
        stored = self._cluster.jobs.get((where, job.id))
        if sent.get("EnforceIndex"):
            self._enforce(stored, sent.get("JobModifyIndex"))
        return self._store(raw, job, where, stored)

    def _refuse(self, job: spec.Job, where: str) -> None:
        wrong = spec.problems(job) or spec.unplayed(job)
        if wrong:
            raise Refused(500, wrong)
        if where not in self._cluster.namespaces:
            raise Refused(500, spec.listed([f'job "{job.id}" is in nonexistent namespace "{where}"']))
        if job.pool not in self._cluster.pools:
            raise Refused(500, spec.listed([f'job "{job.id}" is in nonexistent node pool "{job.pool}"']))

    def _enforce(self, stored: JobRow | None, asked: object) -> None:
        """A refused one moves the index on too, as every change that reaches the log does."""
        wanted = asked if isinstance(asked, int) else 0
        at = f"Enforcing job modify index {wanted}: "
        text = ""
        if wanted == 0 and stored is not None:
            text = at + "job already exists"
        elif wanted and stored is None:
            text = at + "job does not exist"
        elif wanted and stored is not None and stored.job_modify_index != wanted:
            text = at + f"job exists with conflicting job modify index: {stored.job_modify_index}"
        if text:
            self._cluster.next()
            raise Refused(500, text)

    def _store(self, raw: Json, job: spec.Job, where: str, stored: JobRow | None) -> web.Response:
        told = spec.completed(raw, where)
        if stored is None:
            stored = JobRow(told, job, where)
            changed = True
        else:
            changed = stored.raw != told or stored.stop
        if changed:
            index = self._cluster.next("jobs", "evals")
            if stored.create_index:
                stored.version += 1
            else:
                stored.create_index = index
            stored.raw, stored.spec, stored.stop = told, job, False
            stored.modify_index = stored.job_modify_index = index
            stored.submit_time = self._cluster.clock()
            self._cluster.jobs[stored.key] = stored
        else:
            index = self._cluster.next("evals")
        one = self._cluster.new_eval(stored, "job-register", index)
        stored.status = self._cluster.job_status(stored)
        if changed:
            self._cluster.tell(index, shapes.job_event("JobRegistered", stored, index))
        self._cluster.tell(index, shapes.eval_event("JobRegistered", one, index))
        self._soon(one)
        return answer(
            {
                "EvalID": one.id,
                "EvalCreateIndex": index,
                "JobModifyIndex": stored.job_modify_index,
                "Warnings": "",
                "Index": index,
                "LastContact": 0,
                "KnownLeader": False,
                "NextToken": "",
            },
            index,
        )

    def _soon(self, one: Evaluation) -> None:
        asyncio.get_running_loop().call_soon(self._scheduler.evaluate, one)

    async def list(self, request: web.Request) -> web.Response:
        prefix, meta = request.query.get("prefix", ""), flag(request, "meta")
        rows = [
            Row(f"{r.namespace}.{r.id}", lambda r=r: shapes.job_stub(r, self._of(r), meta=meta))
            for r in self._cluster.jobs.values()
            if r.id.startswith(prefix) and _sees(request, r.namespace)
        ]
        return page(request, rows, self._cluster.at("jobs"))

    def _of(self, job: JobRow) -> Sequence[Allocation]:
        return [*self._cluster.of_job.get(job.key, {}).values()]

    def _row(self, request: web.Request) -> JobRow | None:
        return self._cluster.jobs.get((namespace(request), request.match_info["id"]))

    async def read(self, request: web.Request) -> web.Response:
        row = self._row(request)
        if row is None:
            raise Refused(404, "job not found")
        return answer(shapes.job(row), row.modify_index)

    async def deregister(self, request: web.Request) -> web.Response:
        row, purge = self._row(request), flag(request, "purge")
        if row is None:
            self._cluster.next()
            return answer(_deregistered(None, 0), 0)
        index = self._cluster.next("jobs", "evals", "allocs")
        row.stop, row.modify_index, row.job_modify_index = True, index, index
        row.version += 1
        if purge:
            return answer(self.purge(row, index), index)
        one = self._cluster.new_eval(row, "job-deregister", index)
        row.status = self._cluster.job_status(row)
        self._cluster.tell(index, shapes.job_event("JobDeregistered", row, index), shapes.eval_event("JobDeregistered", one, index))
        self._soon(one)
        return answer(_deregistered(one, index), index)

    def purge(self, row: JobRow, index: int) -> Json:
        """The job and what hangs on it is gone at once; of the allocations no event tells."""
        self._scheduler.forget(row)
        one = self._cluster.new_eval(row, "job-deregister", index)
        self._cluster.tell(index, shapes.job_event("JobDeregistered", row, index), shapes.eval_event("JobDeregistered", one, index))
        for alloc in self._cluster.forget_job(row.key):
            self._clients.vanish(alloc)
        self._cluster.evals[one.id] = one
        self._cluster.evals_of_job[row.key] = {one.id: one}
        self._soon(one)
        self._scheduler.unblock()
        return _deregistered(one, index)

    async def evaluate(self, request: web.Request) -> web.Response:
        row = self._row(request)
        if row is None:
            raise Refused(404, "job not found")
        index = self._cluster.next("evals")
        one = self._cluster.new_eval(row, "job-register", index)
        self._cluster.tell(index, shapes.eval_event("JobRegistered", one, index))
        self._soon(one)
        return answer({"EvalID": one.id, "EvalCreateIndex": index, "JobModifyIndex": row.job_modify_index, "Index": index}, index)

    # allocations

    async def allocations(self, request: web.Request) -> web.Response:
        key = (namespace(request), request.match_info["id"])
        rows = sorted(self._cluster.of_job.get(key, {}).values(), key=lambda a: a.create_index)
        return answer(
            [shapes.alloc_stub(a, states=True, ask=False) for a in rows],
            max([a.modify_index for a in rows], default=self._cluster.at("allocs")),
        )

    async def evaluations(self, request: web.Request) -> web.Response:
        key = (namespace(request), request.match_info["id"])
        rows = sorted(self._cluster.evals_of_job.get(key, {}).values(), key=lambda e: -e.create_index)
        return answer([shapes.evaluation(e) for e in rows], max([e.modify_index for e in rows], default=self._cluster.at("evals")))

    async def all_allocations(self, request: web.Request) -> web.Response:
        prefix, states, ask = request.query.get("prefix", ""), flag(request, "task_states", True), flag(request, "resources")
        rows = [
            Row(f"{a.create_index}.{a.id}", lambda a=a: shapes.alloc_stub(a, states=states, ask=ask))
            for a in self._cluster.allocs.values()
            if a.id.startswith(prefix) and _sees(request, a.job.namespace)
        ]
        return page(request, rows, self._cluster.at("allocs"), by_index)

    def _alloc(self, request: web.Request) -> Allocation:
        name = request.match_info["id"]
        if len(name) != 36:
            raise Refused(500, "alloc lookup failed: index error: UUID must be 36 characters")
        found = self._cluster.allocs.get(name)
        if found is None:
            raise Refused(404, "alloc not found")
        return found

    async def allocation(self, request: web.Request) -> web.Response:
        alloc = self._alloc(request)
        return answer(shapes.alloc_whole(alloc, with_job=True), alloc.modify_index)

    async def stop_allocation(self, request: web.Request) -> web.Response:
        alloc = self._alloc(request)
        one = self.stop(alloc, reschedule=flag(request, "reschedule"))
        return answer({"EvalID": one.id, "Index": one.create_index}, one.create_index)

    def stop(self, alloc: Allocation, *, reschedule: bool) -> Evaluation:
        """Without `reschedule` another one comes in its place; with it the reschedule policy decides, and none comes."""
        index = self._cluster.next("allocs", "evals")
        alloc.transition = {"Migrate": True, "NoShutdownDelay": False, "Reschedule": reschedule}
        alloc.modify_index = index
        one = self._cluster.new_eval(alloc.job, "alloc-stop", index)
        events = [
            shapes.alloc_event("AllocationUpdateDesiredStatus", alloc, index),
            shapes.eval_event("AllocationUpdateDesiredStatus", one, index),
        ]
        self._cluster.tell(index, *events)
        self._soon(one)
        return one

    async def all_evaluations(self, request: web.Request) -> web.Response:
        wanted, job = request.query.get("status", ""), request.query.get("job", "")
        rows = [
            Row(f"{e.create_index}.{e.id}", lambda e=e: shapes.evaluation(e))
            for e in self._cluster.evals.values()
            if _sees(request, e.job.namespace) and wanted in {"", e.status} and job in {"", e.job.id}
        ]
        return page(request, rows, self._cluster.at("evals"), by_index)

    async def evaluation(self, request: web.Request) -> web.Response:
        found = self._cluster.evals.get(request.match_info["id"])
        if found is None:
            raise Refused(404, "eval not found")
        return answer(shapes.evaluation(found), found.modify_index)

    # garbage

    async def gc(self, request: web.Request) -> web.Response:
        self.collect()
        return web.Response(status=200, headers={"X-Nomad-Index": "0"})

    def collect(self) -> None:
        """Every dead job goes at once with its allocations; no event tells of those."""
        for row in [r for r in self._cluster.jobs.values() if r.status == "dead"]:
            index = self._cluster.next("jobs", "evals", "allocs")
            self._cluster.tell(index, shapes.job_event("JobBatchDeregistered", row, index))
            for alloc in self._cluster.forget_job(row.key):
                self._clients.vanish(alloc)


def _sees(request: web.Request, where: str) -> bool:
    return namespace(request) in {"*", where}


def _deregistered(one: Evaluation | None, index: int) -> Json:
    told: Json = {"EvalID": one.id if one else "", "EvalCreateIndex": index, "JobModifyIndex": index, "Index": index}
    return told | {"VolumeEvalID": "", "VolumeEvalIndex": 0, "LastContact": 0, "KnownLeader": False, "NextToken": ""}
