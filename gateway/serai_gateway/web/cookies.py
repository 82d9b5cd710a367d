"""The session's cookie among an application's own: found, taken out, and made.

The application must never see ours, and must find its own byte for byte as the browser sent them. Names that begin with `serai-`, with or
without a browser's prefix, are ours; an application can neither read nor set them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_OURS = re.compile(rb"\s*(?:__(?:host|secure)-)?serai-", re.IGNORECASE)
_SECRET = re.compile(rb"[A-Za-z0-9_-]{32,128}")


@dataclass(frozen=True, slots=True)
class Cookies:
    """A request's cookies, taken apart."""

    session: tuple[bytes, ...] = field(repr=False)
    """Values of the session's cookie; a good request has one."""
    rest: bytes | None = field(repr=False)
    """What the application gets; None = nothing is left."""


def name_of(*, secure: bool, whole_host: bool) -> str:
    """The session cookie's name. `whole_host`: its path is `/`; then browsers keep sibling hosts from planting one (`__Host-`)."""
    if not secure:
        return "serai-session"
    return "__Host-serai-session" if whole_host else "__Secure-serai-session"


def take_apart(headers: Iterable[bytes], name: str) -> Cookies:
    """`headers`: each Cookie header; HTTP/2 sends several. `name` is case-sensitive, as browsers have it."""
    wanted = name.encode()
    session: list[bytes] = []
    rest: list[bytes] = []
    for header in headers:
        kept: list[bytes] = []
        for pair in header.split(b";"):
            if _OURS.match(pair) is None:
                kept.append(pair)
                continue
            key, _, value = pair.partition(b"=")
            if key.strip() == wanted:
                session.append(value.strip())
        if any(pair.strip() for pair in kept):
            rest.append(b";".join(kept).lstrip() if len(kept) < header.count(b";") + 1 else header)
    return Cookies(tuple(session), b"; ".join(rest) if rest else None)


def is_secret(value: bytes) -> bool:
    """Whether a session's secret could look like this; what cannot is refused without asking."""
    return _SECRET.fullmatch(value) is not None


def set_cookie(name: str, secret: str, path: str) -> str:
    """The header that gives a browser its session, until it is closed: how long it is good the server knows."""
    secure = "; Secure" if name.startswith("__") else ""
    return f"{name}={secret}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def sets_ours(set_cookie_header: bytes) -> bool:
    """Whether an application's Set-Cookie would set, or end, a cookie of ours."""
    return _OURS.match(set_cookie_header) is not None
