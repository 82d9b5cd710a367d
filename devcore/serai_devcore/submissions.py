"""How a job begins: Core stores it, calls the provider, and forgets it when that fails.

facts 2021 §1.1; today §4, §5, §6.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from serai_devcore import licenses
from serai_devcore.applications import JobRequest
from serai_devcore.documents import job_document
from serai_devcore.jobs import Job
from serai_devcore.outcomes import BAD_GATEWAY, Outcome, created_ids, outcome, refused
from serai_devcore.provider import Answer, items_body
from serai_devcore.state import State
from serai_devcore.support import JOBS
from serai_devcore.wire import Generation, Json, JsonObject, as_object, dig, dig_text, parse, read_items


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a user's wish to start a job."""

    job_id: str
    answer: Answer
    """The provider's; status 0 when it was not asked."""
    outcome: Outcome
    """What the user sees."""

    @property
    def accepted(self) -> bool:
        return self.outcome.accepted


NOT_ASKED = Answer(0, None, b"", "Core refused it by itself; the provider was not asked")


class Submissions(State):
    """Starting jobs as users do, and as those who send the request by hand."""

    async def submit(self, request: JobRequest) -> Submission:
        """Start a job as a user does."""
        document = job_document(request, self.jobs.new_id(), self.clock.now_ms(), self.generation)
        if self.generation is Generation.G2026:
            status, product = as_object(document["status"], "status"), request.product
            status["resolvedSupport"] = self.support.resolved(*product.key, status["resolvedProduct"])
        declared = {dig_text(parameter, "name") for parameter in request.application.parameters}
        undeclared = set(request.parameters) - declared
        if undeclared and self.generation is Generation.G2026:
            refusal = await self._ask_for_parameters(document, undeclared)
            if refusal is not None:
                return Submission(dig_text(document, "id"), refusal.answer or NOT_ASKED, refusal)
        return await self.submit_document(document)

    async def submit_document(self, document: JsonObject) -> Submission:
        """As `submit`, with the job's JSON given."""
        return (await self._create([document], None, None))[0]

    async def submit_raw(self, body: bytes, headers: dict[str, str] | None = None) -> list[Submission]:
        """As `submit`, with the whole request body given, byte for byte (the seed's curl), and headers that replace Core's."""
        return await self._create(read_items(parse(body)), body, headers)

    def expect(self, documents: list[JsonObject]) -> list[str]:
        """Core knows these jobs from now on, without having called the provider: for those who send the create by hand."""
        jobs = [self.jobs.insert(document) for document in documents]
        for job in jobs:
            self.jobs.confirm(job.id)
        self.changed()
        return [job.id for job in jobs]

    async def dynamic_parameters(self, provider_id: str, document: JsonObject) -> Outcome:
        """2026: which parameters the provider adds to the job's application (today §5)."""
        self.only(Generation.G2026, "requestDynamicParameters")
        body: JsonObject = {"owner": document.get("owner"), "application": dig(document, "status", "resolvedApplication")}
        username = dig_text(document, "owner", "createdBy")
        answer = await self.client.call(self.provider_named(provider_id), "POST", "/jobs/requestDynamicParameters", body, username=username)
        ended = outcome(answer, self.generation)
        if ended.accepted and not isinstance(dig(answer.body, "parameters"), list):
            return Outcome(BAD_GATEWAY, answer=answer)
        return ended

    async def refusal_for(self, job: Job, flag: str) -> Outcome | None:
        """Core's own no where the provider does not declare `flag`; None = go on. 2021 asks the provider when it has not of late."""
        if not self.settings.check_support:
            return None
        if self.generation is Generation.G2021 and not self.support.fresh(job.provider):
            await self.retrieve_products(job.provider)
            if not self.support.fresh(job.provider):
                return refused(BAD_GATEWAY, "Bad reply from the provider")
        return self.support.refusal(job, flag)

    async def retrieve_products(self, provider_id: str, namespace: str = JOBS) -> Answer:
        """Ask what the provider supports, as Core does by itself from time to time; a good answer is believed."""
        answer = await self.client.call(self.provider_named(provider_id), "GET", f"/{namespace}/retrieveProducts")
        self.support.note(provider_id, namespace, answer)
        return answer

    async def _ask_for_parameters(self, document: JsonObject, undeclared: set[str]) -> Outcome | None:
        """today §5: any failure makes the submission a 502; a name that the provider does not add either is unknown."""
        ended = await self.dynamic_parameters(dig_text(document, "specification", "product", "provider"), document)
        if not ended.accepted:
            return Outcome(BAD_GATEWAY, answer=ended.answer)
        added = dig(ended.body, "parameters")
        names = {dig_text(parameter, "name") for parameter in added} if isinstance(added, list) else set[str]()
        unknown = sorted(undeclared - names)
        return refused(400, f"unknown parameter {unknown[0]}") if unknown else None

    async def _create(self, documents: list[JsonObject], raw: bytes | None, headers: dict[str, str] | None) -> list[Submission]:
        provider = self.provider_named(dig_text(documents[0], "specification", "product", "provider"))
        jobs = [self.jobs.insert(document) for document in documents]
        self.changed()
        try:
            refusal = await self.refusal_for(jobs[0], "enabled") or self._license_refusal(documents)
            if refusal is not None:
                return self._conclude(jobs, NOT_ASKED, refusal)
            body: Json | bytes = raw if raw is not None else items_body(*documents)
            answer = await self.client.call(provider, "POST", "/jobs", body, username=jobs[0].username, headers=headers)
        except BaseException:
            # Also when this call is cancelled: a Core that does not know the answer does not know the job.
            self._forget(jobs)
            raise
        return self._conclude(jobs, answer, outcome(answer, self.generation))

    def _conclude(self, jobs: list[Job], answer: Answer, ended: Outcome) -> list[Submission]:
        ids = created_ids(answer.body, len(jobs), self.generation) if ended.accepted else None
        if ids is None:
            self._forget(jobs)
            ended = Outcome(BAD_GATEWAY, answer=answer) if ended.accepted else ended
        else:
            for job, own_id in zip(jobs, ids, strict=True):
                self.jobs.confirm(job.id, own_id)
                self.resources.bind(job)
            self.changed()
        return [Submission(job.id, answer, ended) for job in jobs]

    def _license_refusal(self, documents: list[JsonObject]) -> Outcome | None:
        no = next((found for document in documents if (found := licenses.refusal(self, document)) is not None), None)
        return None if no is None else refused(*no)

    def _forget(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.jobs.forget(job.id)
        self.changed()
