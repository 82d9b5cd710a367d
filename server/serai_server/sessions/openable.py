"""Whether a session of a kind can be opened at a rank, and what it then opens: the application's own ports and nothing else.

Ports come from the application that is stored with the job. What a caller names may be that port or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from serai.jobs.v1.job_pb2 import Job

from serai_server.errors import InvalidRequest, Unsupported, WrongState
from serai_server.jobs.applications import App, app_of
from serai_server.jobs.products import Catalog, Feature
from serai_server.jobs.spec import encoded_application
from serai_server.store.model import State, StoredJob
from serai_server.store.session_model import SessionKind

_FEATURE: Mapping[SessionKind, Feature] = {SessionKind.SHELL: "terminal", SessionKind.WEB: "web", SessionKind.VNC: "vnc"}
_OPENS: Mapping[SessionKind, str] = {
    SessionKind.SHELL: "shells in jobs",
    SessionKind.WEB: "web pages of jobs",
    SessionKind.VNC: "desktops of jobs",
}
_NO_RUN: Mapping[State, str] = {
    State.IN_QUEUE: "does not run yet: wait until it does",
    State.SUSPENDED: "is suspended: resume it first",
    State.CANCELING: "is being ended",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks to be opened."""

    kind: SessionKind
    job_id: str = ""
    rank: int = 0
    target: str = ""
    """Generation 2026: empty = what the application has."""
    at: str = ""
    """Path of the item in a request of Core's ("items[0]"); empty = the request is an operator's."""

    def field(self, name: str) -> str:
        """Path of one of its fields, for errors."""
        of_core = {"job_id": "job.id", "kind": "sessionType"}
        return f"{self.at}.{of_core.get(name, name)}" if self.at else name


@dataclass(frozen=True, slots=True)
class Opens:
    port: int = 0
    """WEB and VNC."""
    password: str | None = field(default=None, repr=False)
    """VNC: None = the desktop has none."""


def openable(wanted: Wanted, job: StoredJob, catalog: Catalog, ended: Collection[int]) -> Opens:
    """`ended`: ranks that have. Raises Unsupported, WrongState, InvalidRequest."""
    if not catalog.able(job.product, _FEATURE[wanted.kind]):
        raise Unsupported(f"this provider does not open {_OPENS[wanted.kind]}", field=wanted.field("kind"))
    if not 0 <= wanted.rank < job.replicas:
        there = "only rank 0" if job.replicas == 1 else f"ranks 0 to {job.replicas - 1}"
        raise InvalidRequest(f"rank {wanted.rank}: this job has {there}", field=wanted.field("rank"))
    if job.state is not State.RUNNING:
        raise WrongState(f"job {job.id} {_NO_RUN.get(job.state, 'is over')}", field=wanted.field("job_id"))
    if wanted.rank in ended:
        raise WrongState(f"rank {wanted.rank} of job {job.id} has ended", field=wanted.field("rank"))
    opens = _opens(wanted, job)
    if wanted.target and wanted.target != str(opens.port):
        words = "a session opens what the application says, and nothing else: leave the target out"
        raise InvalidRequest(words, field=wanted.field("target"))
    return opens


def _opens(wanted: Wanted, job: StoredJob) -> Opens:
    if wanted.kind is SessionKind.SHELL:
        return Opens()
    app: App = app_of(encoded_application(Job.FromString(job.body)))
    if wanted.kind is SessionKind.WEB and app.web_port is not None:
        return Opens(app.web_port)
    if wanted.kind is SessionKind.VNC and app.vnc_port is not None:
        return Opens(app.vnc_port, app.vnc_password)
    what = "web page" if wanted.kind is SessionKind.WEB else "desktop"
    raise Unsupported(f"the application of job {job.id} has no {what}", field=wanted.field("kind"))
