"""Where an application's page is found: host name or path to job and rank, and back.

One application has one origin. So a name means exactly one job and rank, and is the only spelling of it: a job whose id could not stand
in a host name (capitals, underscores, too long) gets no address rather than one that might be another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from serai_gateway.http import Headers

OPEN = "/.serai/open/"
"""On an application's own origin: where a session's address leads. Everything else below /.serai/ is ours too and does not exist."""
OURS = "/.serai/"
LONGEST_LABEL = 63
"""Bytes of one part of a host name (RFC 1035 §2.3.4)."""

_RANK = "0|[1-9][0-9]{0,5}"
_LABEL = re.compile(rf"app-([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-({_RANK})")
_PATH = re.compile(rf"/app/([A-Za-z0-9][A-Za-z0-9_-]{{0,63}})/({_RANK})/".encode())
_HOST = re.compile(r"([a-z0-9][a-z0-9.-]*?)\.?(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Place:
    """One rank of one job."""

    job_id: str
    rank: int


class NoAddress(Exception):
    """This job cannot have an address of this kind; the text says why, for the user."""


def label_of(place: Place) -> str:
    """The first part of its host name. NoAddress for ids that could not be told apart there."""
    label = f"app-{place.job_id}-{place.rank}"
    if len(label) > LONGEST_LABEL or _LABEL.fullmatch(label) is None:
        raise NoAddress(f"Web pages of jobs are reached by a host name here, and the id {place.job_id} cannot be part of one")
    return label


def plain_host(host: bytes) -> tuple[str, str]:
    """A Host header as name and port: lower case, without the dot that may end a name; the port with its colon. Both empty for none."""
    try:
        found = _HOST.fullmatch(host.decode("ascii").lower())
    except UnicodeDecodeError:
        return "", ""
    return (found[1], found[2] or "") if found is not None else ("", "")


def place_of_host(name: str, domain: str) -> Place | None:
    """The job and rank that a host name (from `plain_host`) means; None = it is none of ours."""
    found = _LABEL.fullmatch(name.removesuffix("." + domain)) if name.endswith("." + domain) else None
    return Place(found[1], int(found[2])) if found is not None else None


def place_of_path(target: bytes) -> tuple[Place, str] | None:
    """The job and rank that a request's target (as it came) means, and the part of it that says so, without the slash that ends it;
    None = it is none of ours."""
    found = _PATH.match(target)
    if found is None:
        return None
    return Place(found[1].decode(), int(found[2])), found[0][:-1].decode()


def hosts_of(headers: Headers | Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Each Host header; a good request has one."""
    return [value for name, value in headers if name == b"host"]
