"""What no backend runs: submissions that are wrong in themselves."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from serai_backends.common import files, secrets
from serai_backends.errors import SubmissionRefused

if TYPE_CHECKING:
    from serai_backends.model import Mount, Peer, ReplicaSpec

WORK = "/work/"
_JOB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_OWN_NAMES = re.compile(r"localhost|node-[0-9]+")
_LARGEST_PORT = 0xFFFF
_SCRIPTS_BYTES = 16 << 20


def is_job_id(text: str) -> bool:
    """Whether it can be the name of a folder (and so the id of a job)."""
    return _JOB_ID.fullmatch(text) is not None


def check(spec: ReplicaSpec) -> None:
    """Raises SubmissionRefused."""
    if not is_job_id(spec.job_id):
        raise SubmissionRefused("the job id cannot be the name of a folder")
    if spec.replicas < 1 or not spec.argv or spec.resources.cpu < 1 or spec.resources.memory_bytes < 0:
        raise SubmissionRefused("a job needs a program, one replica or more and one core or more")
    words = [*spec.argv, *(word for pair in spec.environment for word in pair)]
    if any("\0" in word for word in words) or any("=" in name or not name for name, _ in spec.environment):
        raise SubmissionRefused("arguments and environment must not contain NUL, and names of variables no '='")
    texts = [spec.output_folder, *words, *spec.scripts, *(text for pair in spec.files for text in pair)]
    texts += [text for mount in spec.mounts for text in (mount.source, mount.target)] + [peer.hostname for peer in spec.peers]
    if not all(_is_text(text) for text in texts):
        raise SubmissionRefused("a word of the job cannot be written as UTF-8 (half of a surrogate pair)")
    if not _is_path(spec.output_folder):
        raise SubmissionRefused("the output folder is not a path below the drives")
    _check_mounts(spec.mounts)
    _check_peers(spec)
    secrets.check_names(spec.secrets)
    if any(not 0 < port <= _LARGEST_PORT for port in spec.ports):
        raise SubmissionRefused("a port of a job is a number from 1 to 65535")
    if any("/" in name or not _is_path(name) for name, _ in spec.files):
        raise SubmissionRefused("a file for the job's folder has a name that is none")
    if len(spec.scripts) not in {0, 1, spec.replicas} or sum(len(text) for text in spec.scripts) > _SCRIPTS_BYTES:
        raise SubmissionRefused("a job has one script, or one for each rank, of 16 MiB in all at most")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_path(path: str) -> bool:
    try:
        files.components(path)
    except files.UnsafePath:
        return False
    return True


def _check_mounts(mounts: tuple[Mount, ...]) -> None:
    targets: list[str] = []
    for mount in mounts:
        if not mount.target.startswith(WORK) or not _is_path(mount.target.removeprefix(WORK)):
            raise SubmissionRefused(f"an input can be mounted below /work only, not at {mount.target!r}")
        if "\0" in mount.source:
            raise SubmissionRefused("the path of an input must not contain NUL")
        targets.append(mount.target + "/")
    targets.sort()
    if any(later.startswith(earlier) for earlier, later in pairwise(targets)):
        raise SubmissionRefused("two inputs are mounted at the same place, or one inside the other")


def _check_peers(spec: ReplicaSpec) -> None:
    names: set[str] = set()
    for peer in spec.peers:
        if not _usable(peer) or peer.hostname in names or peer.job_id == spec.job_id:
            raise SubmissionRefused(f"{peer.hostname!r} cannot be the hostname of another job")
        names.add(peer.hostname)


def _usable(peer: Peer) -> bool:
    return bool(_HOSTNAME.fullmatch(peer.hostname)) and not _OWN_NAMES.fullmatch(peer.hostname) and is_job_id(peer.job_id)
