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
        self.check_project(job.owner.project, f"{at}.owner.project")

    def check_project(self, project: str, at: str) -> None:
        """Raises Forbidden for another one than the tool is limited to. `at`: the path."""
        if self.only_project and project != self.only_project:
            raise Forbidden(f"you are limited to project {self.only_project!r}; no job of another one can be made", field=at)
