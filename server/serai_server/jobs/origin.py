"""Jobs that a tool makes at its door, and not UCloud/Core: the site's own."""

from __future__ import annotations

from dataclasses import dataclass

from serai.jobs.v1.job_pb2 import Job

from serai_server.errors import Forbidden, InvalidRequest
from serai_server.own_jobs import PREFIX, is_own


@dataclass(frozen=True, slots=True)
class Tool:
    """Who makes a job."""

    who: str
    """The id of a token, or `certificate {name}`."""
    only_project: str
    """The one project whose jobs it may make; empty = it is not limited."""

    def check(self, job: Job, at: str) -> None:
        """`at` is the job's path. Raises InvalidRequest, Forbidden."""
        if not is_own(job.id):
            raise InvalidRequest(f"expected an id that begins with {PREFIX}: other ids are for UCloud's jobs", field=f"{at}.id")
        if self.only_project and job.owner.project != self.only_project:
            words = f"you are limited to project {self.only_project!r}; no job of another one can be made"
            raise Forbidden(words, field=f"{at}.owner.project")
