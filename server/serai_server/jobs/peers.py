"""The other jobs that a job is connected to, each under a hostname that its user chose (facts 2021 §8.6 and §10.5).

Core verifies both that its user may edit the other job and that it is running: today's in jobValidateValue (core2/pkg/orchestrator/job.go:
ResourceRetrieveEx with PermissionEdit, "job with hostname '%s' is not valid"; then the state, "… is not running"), that of 2021 by the
same permission. A connection opens the other job's network, so Serai does not rely on that: `reachable` asks what it knows itself.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator

from serai.core.v1.resources_pb2 import PERMISSION_ADMIN, PERMISSION_EDIT
from serai.jobs.v1.application_pb2 import PeerValue
from serai.jobs.v1.job_pb2 import JobSpecification
from serai_backends.errors import SubmissionRefused
from serai_backends.model import Peer, Why

from serai_server.errors import InvalidRequest
from serai_server.jobs import notes
from serai_server.jobs.ids import is_job_id
from serai_server.jobs.parameters import Values, parameter_path
from serai_server.store.model import StoredJob

_LONGEST = 250
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_OURS = re.compile(r"localhost(?:\..*)?|node-\d+")
"""Names that every replica has already."""
_NUMBERED = re.compile(r"-(?:0|[1-9]\d*)$")


def peers_of(spec: JobSpecification, values: Values, job_id: str, path: str) -> tuple[Peer, ...]:
    """Those of parameters by the parameters' names, then those of resources in their order. `path` is where the specification stands.
    Raises InvalidRequest."""
    found: dict[str, Peer] = {}
    places: dict[str, str] = {}
    for where, value in _peers(spec, values, path):
        _check(value, job_id, where)
        name, peer = value.hostname.lower(), Peer(value.hostname, value.job_id)
        if found.setdefault(name, peer) != peer:
            raise InvalidRequest(f"another job is to be found as {value.hostname} too", field=f"{where}.hostname")
        places.setdefault(name, where)
    for name, peer in found.items():
        other = _NUMBERED.sub("", name)
        if other != name and other in found:
            words = f"{peer.hostname} is the name of a replica of {found[other].hostname}, which this job is connected to as well"
            raise InvalidRequest(words, field=f"{places[name]}.hostname")
    return tuple(found.values())


async def check_reachable(job: StoredJob, peers: Iterable[Peer], find: Callable[[str], Awaitable[StoredJob | None]]) -> None:
    """Raises SubmissionRefused for a peer that is over, that this server does not have or that the job may not reach: in the same words, so
    that nobody learns which ids of others there are."""
    for peer in peers:
        other = await find(peer.job_id)
        if other is None or other.state.final or not _may_reach(job, other):
            raise SubmissionRefused(peer.hostname, Why.PEER_GONE)


def _may_reach(job: StoredJob, other: StoredJob) -> bool:
    """A job of its own workspace, or one that its user was given permission to edit. Who is in a project's groups only Core knows."""
    if job.project == other.project and (job.project or job.owner == other.owner):
        return True
    if notes.read(job.notes).only_project:
        return False
    return any(
        entry.entity.user.username == job.owner and {PERMISSION_EDIT, PERMISSION_ADMIN} & set(entry.permissions)
        for entry in notes.read(other.notes).acl
        if entry.entity.WhichOneof("entity") == "user"
    )


def _peers(spec: JobSpecification, values: Values, path: str) -> Iterator[tuple[str, PeerValue]]:
    for name in sorted(n for n, given in values.items() if given.kind == "peer"):
        yield parameter_path(path, name), values[name].value.peer
    for index, value in enumerate(spec.resources):
        if value.WhichOneof("value") == "peer":
            yield f"{path}.resources[{index}]", value.peer


def _check(value: PeerValue, job_id: str, where: str) -> None:
    name = value.hostname
    if len(name) > _LONGEST or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        words = f"expected a hostname of at most {_LONGEST} characters: letters, digits, dots, and hyphens in between"
        raise InvalidRequest(words, field=f"{where}.hostname")
    if _OURS.fullmatch(name.lower()):
        raise InvalidRequest(f"{name} is what a replica calls itself or another one of its own job", field=f"{where}.hostname")
    if not is_job_id(value.job_id):
        raise InvalidRequest("expected the id of a job", field=f"{where}.jobId")
    if value.job_id == job_id:
        raise InvalidRequest("a job cannot be connected to itself", field=f"{where}.jobId")
