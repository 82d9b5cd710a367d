"""One test of one provider: what rules use to call it, to run jobs on it and to see what Core is told; and the cleaning up.

A job that several rules only look at is made once (`shared`). What a rule needs and cannot have, because another rule's matter does not
work, ends it as not observed: the fault is then reported once, by the rule whose matter it is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from serai_conformance.client import Answer, Client
from serai_conformance.core import ControlSide
from serai_conformance.documents import Parameter, Product, Program, items, job_document, license_document
from serai_conformance.model import Broken, Generation, NotObserved, Target
from serai_conformance.sockets import Follow, Refused, Wire, wire
from serai_conformance.support import Support
from serai_conformance.tokens import Signer
from serai_conformance.watch import Known, Records
from serai_conformance.wire import Json, JsonObject, objects_at, text_at

T = TypeVar("T")
UNSEEN = "only Core sees it: have the kit play Core with --core-listen"
READY = "kit-is-ready"
"""What a shared job writes when it runs."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that the kit made, or made up."""

    id: str
    program: Program
    document: JsonObject


@dataclass(slots=True)
class Visit:
    target: Target
    signer: Signer
    client: Client
    core: ControlSide | None
    support: Support
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    """Sent to the provider, and not known to be over."""
    licenses: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    """Sent, and not deleted."""
    own_ids: list[str] = field(default_factory=list[str])
    """Ids that the provider gave to jobs and licenses."""
    refused_ids: set[str] = field(default_factory=set[str])
    """Jobs of creates that were refused: the provider has nothing to say of them."""
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(int(time.time()) * 1000))
    _shared: dict[str, asyncio.Task[object]] = field(default_factory=dict[str, "asyncio.Task[object]"])
    _streams: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def todays(self) -> bool:
        return self.target.generation is Generation.G2026

    @property
    def product(self) -> Product:
        """NotObserved when the provider declares none."""
        if self.support.product is None:
            raise NotObserved("the provider declares no product on which jobs can run")
        return self.support.product

    @property
    def license_product(self) -> Product:
        if self.support.license_product is None:
            raise NotObserved("the provider declares no product of licenses")
        return self.support.license_product

    @property
    def seen(self) -> Records:
        """What Core was told. NotObserved when the kit is not Core."""
        return self.control.records

    @property
    def control(self) -> ControlSide:
        if self.core is None:
            raise NotObserved(UNSEEN)
        return self.core

    def new_id(self) -> str:
        """A number that no job or license of this provider has had."""
        return str(next(self._ids))

    # --- jobs -------------------------------------------------------------------------------------------------------------------------

    def program(
        self,
        script: str,
        *,
        replicas: int = 1,
        limit_s: int | None = 3600,
        parameters: tuple[Parameter, ...] = (),
        kind: str = "BATCH",
        backend: str = "",
        name: str | None = None,
        username: str = "kit",
    ) -> Program:
        """As Program, with the target's image; `backend` "" = the one that is declared."""
        return Program(script, replicas, limit_s, parameters, kind, backend or self.support.backend, name, username, self.target.image)

    def job(self, program: Program, job_id: str = "", product: Product | None = None, *, age_s: int = 0) -> Job:
        """Its document, not sent to anybody. `age_s`: s since Core made it."""
        made_id = job_id or self.new_id()
        at_ms = int((time.time() - age_s) * 1000)
        return Job(made_id, program, job_document(program, made_id, product or self.product, at_ms, self.target.generation))

    def stranger(self) -> Job:
        """A job that Core has for an hour, and that the provider never heard of."""
        job = self.job(self.program("exit 0"), age_s=3600)
        self.expect(job)
        return job

    async def create(self, *jobs: Job, body: Json | bytes = None, username: str = "kit") -> Answer:
        """Send a create for the jobs. `body` = what is sent in place of their documents."""
        for job in jobs:
            self.jobs[job.id] = job
            self.expect(job)
        answer = await self.client.post("/jobs", body if body is not None else items(*(job.document for job in jobs)), username=username)
        self._note_ids(answer)
        for job in jobs:
            if not answer.ok:
                self.forget(job)
            elif self.core is not None and job.id in self.core.records.known:
                self.core.records.known[job.id].taken = True
        return answer

    def _note_ids(self, answer: Answer) -> None:
        if answer.ok:
            self.own_ids += [own for one in objects_at(answer.body, "responses") if (own := text_at(one, "id"))]

    def expect(self, job: Job) -> None:
        """Core has this job."""
        if self.core is not None:
            known = Known(job.id, "job", job.document, job.program.username, "IN_QUEUE")
            self.core.records.known.setdefault(job.id, known)

    def forget(self, job: Job) -> None:
        """Core has it no more: its create was refused."""
        self.jobs.pop(job.id, None)
        self.refused_ids.add(job.id)
        if self.core is not None:
            self.core.records.known.pop(job.id, None)

    async def made(self, program: Program) -> Job:
        """A job that the provider took. NotObserved when it does not."""
        job = self.job(program)
        answer = await self.create(job)
        if not answer.ok:
            raise NotObserved(f"no job could be made: {answer.words}")
        return job

    @contextlib.asynccontextmanager
    async def having(self, program: Program) -> AsyncGenerator[Job]:
        """A job that the provider took and that is ended when the context is left."""
        job = await self.made(program)
        try:
            yield job
        finally:
            await self.end(job)

    async def end(self, job: Job) -> None:
        """Have it terminated, whatever the answer: the cleaning up tries once more."""
        if (await self.terminate(job)).ok:
            self.jobs.pop(job.id, None)

    async def terminate(self, *jobs: Job) -> Answer:
        return await self.client.post("/jobs/terminate", items(*(self.document_of(job) for job in jobs)), username="kit")

    def document_of(self, job: Job) -> JsonObject:
        """As Core sends it now."""
        known = None if self.core is None else self.core.records.known.get(job.id)
        return job.document if known is None or self.core is None else self.core.document(known)

    async def until_running(self, job: Job) -> None:
        """NotObserved when the job does not come so far, or nobody can see that."""
        if self.core is not None:
            found = await self.seen.until(lambda: any(state != "IN_QUEUE" for state in self.seen.states(job.id)), self.target.patience_s)
            if not found or "RUNNING" not in self.seen.states(job.id):
                raise NotObserved(f"Core was not told within {self.target.patience_s:g} s that job {job.id} is RUNNING")
        elif not self.support.has("logs"):
            raise NotObserved("nobody can see that a job runs: declare logs, or have the kit play Core with --core-listen")

    async def running(self, program: Program) -> Job:
        job = await self.made(program)
        await self.until_running(job)
        return job

    async def shared(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives, made once for all rules that ask for it by this name."""
        if name not in self._shared:
            self._shared[name] = asyncio.create_task(_result(make))
        return cast("T", await asyncio.shield(self._shared[name]))

    async def talker(self) -> Job:
        """A running job of one rank that has written a line to each stream and then waits to be ended."""
        script = f"echo kit-out; echo kit-err >&2; echo {READY}; exec sleep 3600"
        return await self.shared("talker", lambda: self.running(self.program(script)))

    async def stop_shared(self) -> None:
        """Nobody waits for them any more."""
        for task in self._shared.values():
            task.cancel()
        if self._shared:
            await asyncio.wait(self._shared.values())

    # --- WebSockets -------------------------------------------------------------------------------------------------------------------

    @property
    def follow_call(self) -> str:
        return f"jobs.provider.{self.target.name}.follow"

    @property
    def _sockets_url(self) -> str:
        return self.target.url.rstrip("/").replace("http", "ws", 1)

    def new_stream(self) -> str:
        return str(next(self._streams))

    @contextlib.asynccontextmanager
    async def follow_socket(self, *, token: str | None = "", username: str = "kit") -> AsyncGenerator[Wire]:
        """The WebSocket on which Core follows. `token` counts today only: "" = Core's good one, None = none. Refused."""
        url = f"{self._sockets_url}/ucloud/jobs.provider.{self.target.name}/websocket"
        headers: dict[str, str] = {}
        if not self.todays:
            headers["UCloud-Username"] = username
        else:
            url += f"?usernameHint={base64.urlsafe_b64encode(username.encode()).decode()}"
            if token is not None:
                headers["Authorization"] = f"Bearer {token or self.client.token()}"
        async with wire(url, headers, todays=self.todays, timeout_s=self.target.answer_within_s * 3, trust=self.target.trust) as found:
            yield found

    @contextlib.asynccontextmanager
    async def shell_socket(self, session: str) -> AsyncGenerator[Wire]:
        """The WebSocket on which a browser opens shells. Refused."""
        url = f"{self._sockets_url}/ucloud/{self.target.name}/websocket"
        if self.todays:
            url += f"?session={session}&usernameHint={base64.urlsafe_b64encode(b'kit').decode()}"
        async with wire(url, {}, todays=False, timeout_s=self.target.answer_within_s * 3, trust=self.target.trust) as found:
            yield found

    def init_frame(self, job: Job, stream_id: str, *, bearer: str | None = "") -> JsonObject:
        """The frame by which Core begins a follow. `bearer` counts in 2021: "" = Core's good token."""
        frame: JsonObject = {"call": self.follow_call, "streamId": stream_id}
        frame["payload"] = {"type": "init", "job": self.document_of(job)}
        if self.todays:
            return frame | {"bearer": "", "project": None}
        return frame | {"bearer": self.client.token() if bearer == "" else bearer, "causedBy": None, "project": None}

    async def begin(self, socket: Wire, job: Job) -> Follow:
        """Follow the job on this socket."""
        stream_id = "ignored" if self.todays else self.new_stream()
        await socket.send(self.init_frame(job, stream_id), pieces=self.todays)
        return Follow(socket, stream_id, self.todays)

    @contextlib.asynccontextmanager
    async def follow(self, job: Job) -> AsyncGenerator[Follow]:
        """The job's output, as its user sees it. Broken when it cannot be had."""
        try:
            async with self.follow_socket() as socket:
                yield await self.begin(socket, job)
        except Refused as error:
            raise Broken(str(error)) from error

    # --- licenses ---------------------------------------------------------------------------------------------------------------------

    def license(self, license_id: str = "", product: Product | None = None) -> JsonObject:
        at_ms = int(time.time() * 1000)
        return license_document(license_id or self.new_id(), product or self.license_product, at_ms, self.target.generation)

    async def create_license(self, *documents: JsonObject) -> Answer:
        for document in documents:
            license_id = str(document["id"])
            self.licenses[license_id] = document
            if self.core is not None:
                known = Known(license_id, "license", document, "kit", "PREPARING")
                self.core.records.known.setdefault(license_id, known)
        answer = await self.client.post("/licenses", items(*documents), username="kit")
        self._note_ids(answer)
        if not answer.ok:
            for document in documents:
                self.licenses.pop(str(document["id"]), None)
        return answer

    async def made_license(self) -> JsonObject:
        """A license that the provider took. NotObserved when it does not."""
        document = self.license()
        answer = await self.create_license(document)
        if not answer.ok:
            raise NotObserved(f"no license could be made: {answer.words}")
        return document

    async def delete_license(self, *documents: JsonObject) -> Answer:
        answer = await self.client.call("DELETE", "/licenses", items(*documents), username="kit")
        if answer.ok:
            for document in documents:
                self.licenses.pop(str(document["id"]), None)
        return answer

    # --- the end ----------------------------------------------------------------------------------------------------------------------

    async def clean_up(self) -> list[str]:
        """End every job and take every license away that is left; what could not be, in words."""
        left: list[str] = []
        for job in list(self.jobs.values()):
            answer = await self.terminate(job)
            if not answer.ok:
                left.append(f"job {job.id} may still run: {answer.words}")
        for license_id, document in list(self.licenses.items()):
            answer = await self.delete_license(document)
            if not answer.ok:
                left.append(f"license {license_id} may still be there: {answer.words}")
        return left


async def _result(make: Callable[[], Awaitable[T]]) -> T:
    return await make()
