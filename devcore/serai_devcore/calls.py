"""Core's calls to a provider for a job that exists, and for its user, as users and Core's own loops make them.

Each returns what the user would see. facts 2021 §1, §6.4; today §5, §6.
"""

from __future__ import annotations

from collections.abc import Sequence

from serai_devcore.jobs import Job
from serai_devcore.outcomes import Outcome, Wants, bad_response, outcome
from serai_devcore.ownership import G2021, G2026, VERIFY_AT_MOST, Ownership, changed_acl
from serai_devcore.provider import Answer, items_body
from serai_devcore.wire import Json, JsonObject, dig

SESSIONS = {"SHELL": "terminal", "WEB": "web", "VNC": "vnc"}
"""`sessionType` → the flag that 2026 wants to see declared."""


class Calls(Ownership):
    """By generation; a call that the generation does not have is a CoreError 404."""

    # --- the life of a job ------------------------------------------------------------------------------------------------------------

    async def terminate(self, *job_ids: str, username: str | None = None) -> Outcome:
        """Cancel as a user does. Core's own state stays until the provider reports another."""
        jobs = [self.known_job(job_id) for job_id in job_ids]
        return await self._bulk(jobs, "terminate", [self.document_of(job) for job in jobs], username=username)

    async def extend(self, job_id: str, *, hours: int = 0, minutes: int = 0, seconds: int = 0) -> Outcome:
        """Ask for so much time more. Core changes nothing until the provider says so, and in 2021 it never can."""
        job = self.known_job(job_id)
        refusal = await self.refusal_for(job, "timeExtension")
        if refusal is not None:
            return refusal
        more: JsonObject = {"hours": hours, "minutes": minutes, "seconds": seconds}
        return await self._bulk([job], "extend", [{"job": self.document_of(job), "requestedTime": more}])

    async def suspend(self, *job_ids: str) -> Outcome:
        """2021: bare jobs, the answer's body is not read; 2026: `{job}` items, and no flag gates it (today §4)."""
        jobs = [self.known_job(job_id) for job_id in job_ids]
        if self.generation is G2021:
            return await self._bulk(jobs, "suspend", [self.document_of(job) for job in jobs], Wants.NOTHING)
        return await self._bulk(jobs, "suspend", [{"job": self.document_of(job)} for job in jobs])

    async def unsuspend(self, *job_ids: str) -> Outcome:
        """2026 only."""
        self.only(G2026, "unsuspend")
        jobs = [self.known_job(job_id) for job_id in job_ids]
        return await self._bulk(jobs, "unsuspend", [{"job": self.document_of(job)} for job in jobs])

    async def verify(self, *job_ids: str, provider_id: str | None = None) -> Answer:
        """2021: tell the provider which of its jobs Core believes to be active; all of them, at most 100, when none is named. No user is
        behind it, and whatever comes back is only logged."""
        self.only(G2021, "verify")
        jobs = [self.known_job(job_id) for job_id in job_ids]
        name = provider_id or (jobs[0].provider if jobs else next(iter(self.providers), ""))
        if not job_ids:
            jobs = [job for job in self.jobs if job.provider == name and not job.final][:VERIFY_AT_MOST]
        return await self.client.call(
            self.provider_named(name), "POST", "/jobs/verify", items_body(*[self.document_of(job) for job in jobs])
        )

    # --- what a user changes about a job ----------------------------------------------------------------------------------------------

    async def update_acl(self, job_id: str, added: Sequence[JsonObject], deleted: Sequence[JsonObject] = ()) -> Outcome:
        """2021: who else may see or change a job. The provider sees the raw lists; an error of it rolls the change back (2021 §1.6)."""
        self.only(G2021, "updateAcl")
        job = self.known_job(job_id)
        item: JsonObject = {"resource": self.document_of(job), "added": list(added), "deleted": list(deleted)}
        ended = await self._bulk([job], "updateAcl", [item])
        if ended.accepted:
            job.others = changed_acl(job.others, added, deleted)
            self.changed()
        return ended

    async def update_labels(self, job_id: str, labels: JsonObject) -> Outcome:
        """2026: the job has new labels, and the provider is told; 404 = it does not care (today §5)."""
        self.only(G2026, "labels")
        job = self.known_job(job_id)
        job.labels = dict(labels)
        self.changed()
        return await self._bulk([job], "onUpdatedLabels", [self.document_of(job)], also_fine=(404,))

    async def attach_resource(self, job_id: str, resource: JsonObject) -> Outcome:
        """2026: no items; `{job, resource}`."""
        return await self._resource(job_id, "attachResource", resource)

    async def detach_resource(self, job_id: str, resource: JsonObject) -> Outcome:
        return await self._resource(job_id, "detachResource", resource)

    async def _resource(self, job_id: str, call: str, resource: JsonObject) -> Outcome:
        self.only(G2026, call)
        job = self.known_job(job_id)
        return await self._user_call(job, f"/jobs/{call}", {"job": self.document_of(job), "resource": resource})

    # --- looking at it ----------------------------------------------------------------------------------------------------------------

    async def open_session(self, job_id: str, session_type: str = "SHELL", *, rank: int = 0, target: str | None = None) -> Outcome:
        """A shell, a web application or a desktop. 2026: exactly one response, or 502; 2021 does not look at what is declared (2021 §1)."""
        job = self.known_job(job_id)
        item: JsonObject = {"job": self.document_of(job), "rank": rank, "sessionType": session_type}
        if self.generation is G2021:
            return await self._bulk([job], "interactiveSession", [item])
        refusal = await self.refusal_for(job, SESSIONS.get(session_type, ""))
        return refusal or self._counted(await self._bulk([job], "interactiveSession", [item | {"target": target}]), 1)

    async def open_terminal_in_folder(self, folder: str, *, provider_id: str = "example", username: str = "user") -> Outcome:
        """2026: a shell in a drive's folder, `/<drive>/path`."""
        self.only(G2026, "openTerminalInFolder")
        provider = self.provider_named(provider_id)
        body = items_body({"folder": folder})
        answer = await self.client.call(provider, "POST", "/jobs/openTerminalInFolder", body, username=username)
        return self._counted(outcome(answer, self.generation), 1)

    async def request_dynamic_parameters(self, job_id: str) -> Outcome:
        """2026: as the user interface does for the job's application."""
        job = self.known_job(job_id)
        return await self.dynamic_parameters(job.provider, job.document)

    async def retrieve_utilization(self, job_id: str) -> Outcome:
        """2021: how full the provider is; asked for on behalf of a user, whose name is not sent."""
        self.only(G2021, "retrieveUtilization")
        job = self.known_job(job_id)
        refusal = await self.refusal_for(job, "utilization")
        if refusal is not None:
            return refusal
        answer = await self.client.call(self.provider_named(job.provider), "GET", "/jobs/retrieveUtilization")
        ended = outcome(answer, self.generation)
        return ended if not ended.accepted or _is_utilization(answer.body) else Outcome(502, answer=answer)

    # --- users ------------------------------------------------------------------------------------------------------------------------

    async def init_user(self, username: str = "user", *, provider_id: str = "example") -> Outcome:
        """`integration/init`; the answer's body is ignored."""
        return await self._integration("init", username, provider_id, named=self.generation is G2026, wants=Wants.NOTHING)

    async def connect_user(self, username: str = "user", *, provider_id: str = "example") -> Outcome:
        """`integration/connect`: the user is sent to `redirectTo`. No Ucloud-Username (today §3)."""
        ended = await self._integration("connect", username, provider_id, named=False, wants=Wants.OBJECT)
        return ended if not ended.accepted or isinstance(dig(ended.body, "redirectTo"), str) else Outcome(502, answer=ended.answer)

    async def unlink_user(self, username: str = "user", *, provider_id: str = "example") -> Outcome:
        """2026: `integration/unlinked`."""
        self.only(G2026, "integration/unlinked")
        return await self._integration("unlinked", username, provider_id, named=True, wants=Wants.OBJECT)

    async def _integration(self, call: str, username: str, provider_id: str, *, named: bool, wants: Wants) -> Outcome:
        provider = self.provider_named(provider_id)
        answer = await self.client.call_once(
            provider, "POST", f"/integration/{call}", {"username": username}, username=username if named else None
        )
        return outcome(answer, self.generation, wants)

    async def upload_ssh_key(self, title: str, public_key: str, *, username: str = "user", provider_id: str = "example") -> Outcome:
        """2026: Core has a new key of a user and tells the provider; whatever it answers, the user has the key (today §5)."""
        self.only(G2026, "ssh/keyUploaded")
        key: JsonObject = {
            "id": self.jobs.new_id(),
            "owner": username,
            "createdAt": self.clock.now_ms(),
            "fingerprint": "",
            "specification": {"title": title, "key": public_key},
        }
        body: JsonObject = {"username": username, "allKeys": [key]}
        answer = await self.client.call(self.provider_named(provider_id), "POST", "/ssh/keyUploaded", body, username=username)
        return Outcome(200, body={"id": key["id"]}, answer=answer)

    # --- sending ----------------------------------------------------------------------------------------------------------------------

    async def _bulk(
        self,
        jobs: Sequence[Job],
        call: str,
        items: list[JsonObject],
        wants: Wants | None = None,
        *,
        username: str | None = None,
        also_fine: Sequence[int] = (),
    ) -> Outcome:
        """A user's call for jobs of one provider."""
        provider = self.provider_named(jobs[0].provider)
        body = items_body(*items)
        answer = await self.client.call(provider, "POST", f"/jobs/{call}", body, username=username or jobs[0].username)
        return outcome(answer, self.generation, wants or self._bulk_wants, also_fine=also_fine)

    async def _user_call(self, job: Job, path: str, body: JsonObject) -> Outcome:
        answer = await self.client.call(self.provider_named(job.provider), "POST", path, body, username=job.username)
        return outcome(answer, self.generation)

    def _counted(self, ended: Outcome, count: int) -> Outcome:
        """today §5: exactly as many responses as items."""
        if not ended.accepted or ended.answer is None:
            return ended
        responses = dig(ended.body, "responses")
        return ended if isinstance(responses, list) and len(responses) == count else bad_response(ended.answer)


def _is_utilization(body: Json) -> bool:
    """2021 §8.2."""
    numbers = [dig(body, block, key) for block in ("capacity", "usedCapacity") for key in ("cpu", "memory")]
    numbers += [dig(body, "queueStatus", key) for key in ("running", "pending")]
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
