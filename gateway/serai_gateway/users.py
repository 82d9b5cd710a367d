"""Users who call by themselves: their tokens, the project in which they work, and what the server is told of both.

Core signs its users' tokens with one key of its own, which is another one than that with which it calls us. Today's Core writes into
each token in which projects the user has which role, and of which groups of which projects they are a member (core2's claims `membership`,
project to role, and `groups`, group to project); a change there shows in the next token, ten minutes later at most. Core of 2021 writes
neither: its users have their personal workspace here and no project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

import msgspec
from serai.core.v1 import errors_pb2

from serai_gateway.auth import AuthError, PublicKeyFile, TokenReader, check_times, scopes
from serai_gateway.clock import Clock
from serai_gateway.errors import GatewayError
from serai_gateway.routes import Route
from serai_gateway.upstream import CALLER, GROUPS, PROJECT, ROLE, USER

SETTING = "gateway.users.public_key_file"
NOT_SERVED = f"Not found: calls of users are not served here; the setting {SETTING} turns them on"
ROLES = frozenset({"USER", "ADMIN"})
PROJECT_ROLES = frozenset({"PI", "ADMIN", "USER"})
REMEMBERED = 4_096
"""Tokens of users who called of late."""
LONGEST_TOKEN = 48 * 1024
"""Bytes: several hundred projects and groups. A request's whole head may have 64 KiB."""
LONGEST_NAME = 250
_NOT_USERS = ("#P_",)
"""Providers; services are told by their role as well."""
_CORE = "_ucloud"
_READS = frozenset({"Browse", "Retrieve", "RetrieveProducts", "Search"})
"""Methods that change nothing (facts 2021 §6.1: the access that a call asks of a scope)."""


class User(msgspec.Struct, frozen=True):
    """Who a token's owner is."""

    name: str
    scopes: tuple[str, ...]
    membership: Mapping[str, str]
    """Role by project."""
    groups: Mapping[str, str]
    """Project by group."""


class UserCheck:
    """Reads tokens of users."""

    def __init__(self, key: PublicKeyFile, clock: Clock, issuer: str) -> None:
        self._issuer = issuer
        self._tokens = TokenReader(key, clock, self._read, whose=f"the key in {SETTING}", most_remembered=REMEMBERED, longest=LONGEST_TOKEN)

    def user(self, authorization: bytes | None, route: Route) -> User:
        """AuthError unless this header's value is a user's token, and one for this call."""
        found = self._tokens.owner(authorization)
        if not may_call(found.scopes, route):
            raise AuthError("Unauthorized: the token's audience does not hold this call")
        return found

    def _read(self, claims: Mapping[str, object], now_ms: int) -> tuple[User, int]:
        if claims.get("iss") != self._issuer:
            raise AuthError(f"Unauthorized: the token's issuer is not {self._issuer}")
        role = claims.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise AuthError("Unauthorized: the token's role is neither USER nor ADMIN")
        user = User(
            _name(claims.get("sub")),
            scopes(claims),
            {project: role for project, role in _texts(claims.get("membership")).items() if role in PROJECT_ROLES},
            _texts(claims.get("groups")),
        )
        return user, check_times(claims, now_ms)


def _name(subject: object) -> str:
    if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_NAME or not subject.isprintable():
        raise AuthError(f"Unauthorized: the token's subject is not a username of 1 to {LONGEST_NAME} characters")
    if subject.lower() == _CORE or subject.startswith(_NOT_USERS):
        raise AuthError("Unauthorized: the token's subject is not a user")
    return subject


def _texts(claim: object) -> dict[str, str]:
    """A claim that maps texts to texts; what is none is left out."""
    if not isinstance(claim, dict):
        return {}
    entries = cast("Mapping[object, object]", claim).items()
    return {key: value for key, value in entries if key and isinstance(key, str) and isinstance(value, str)}


def may_call(held: tuple[str, ...], route: Route) -> bool:
    """Whether scopes cover a call: `licenses.browse:read` is covered by itself, by what stands before any of its dots (`licenses:read`),
    by `all:read`, and by the same with `write` (facts 2021 §6.1). What changes something needs `write`."""
    service, _, method = route.method.rpartition("/")
    namespace = service.split(".")[1]  # "/serai.licenses.v1.LicensesService"
    names = {"all", namespace, f"{namespace}.{method[0].lower()}{method[1:]}"}
    accesses = {"read", "write"} if method in _READS else {"write"}
    return any(name in names and access in accesses for name, _, access in (scope.rpartition(":") for scope in held))


def metadata_of(user: User, project: str) -> Mapping[str, str]:
    """What the server is told of the call. GatewayError (403) for a project that the user is no member of."""
    metadata = {CALLER: "user", USER: quote(user.name, safe="")}
    if not project:
        return metadata
    role = user.membership.get(project)
    if role is None:
        raise GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, "Your token does not say that you are in this project")
    groups = [group for group, its_project in user.groups.items() if its_project == project]
    metadata |= {PROJECT: quote(project, safe=""), ROLE: role}
    if groups:
        metadata[GROUPS] = ",".join(quote(group, safe="") for group in groups)
    return metadata


def project_of(headers: tuple[bytes, ...]) -> str:
    """The workspace of a call from its `Project` headers; '' = the personal one. GatewayError (400) for two of them."""
    if len(headers) > 1:
        # Two of them are an attempt to have one checked and another one used.
        raise GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, "The header Project stands there twice; a call works in one project")
    return headers[0].decode("utf-8", "replace").strip() if headers else ""
