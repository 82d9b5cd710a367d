"""The marks by which the gateway says for whom it calls. They count on the server's own socket and inside the process, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from serai_server.errors import Unauthenticated
from serai_server.rpc.call import Call, Caller

PREFIX = "serai-"
"""Of all metadata that is a mark."""
CALLER = "serai-caller"
"""Metadata: a value of `Caller`, for whom the gateway calls; absent for tools."""
USER = "serai-user"
"""Metadata: the UCloud username, %XX for what is not printable ASCII; absent = not known."""
PROJECT = "serai-project"
"""Metadata of a user's call: the project's id, written as the username; absent = their personal workspace."""
ROLE = "serai-role"
"""Metadata of a user's call: "PI", "ADMIN" or "USER"; absent = no member of that project."""
GROUPS = "serai-groups"
"""Metadata of a user's call: ids of the project's groups that the user is in, each written as the username, with commas between them."""
REQUEST_ID = "serai-request-id"
"""Metadata: an id of the caller's, to find a call again in the log; absent or odd = the server makes one."""

_FOR: Mapping[str, Caller] = {caller.value: caller for caller in Caller if caller is not Caller.TOOL}


def by_marks(call: Call, metadata: Mapping[str, str]) -> None:
    """Whoever reaches the socket is the operator or the gateway, and says which. Raises Unauthenticated for anybody else."""
    given = metadata.get(CALLER)
    if given is None:
        return
    caller = _FOR.get(given)
    if caller is None:
        raise Unauthenticated(f"{CALLER} is one of {', '.join(_FOR)} or left out")
    call.caller = caller
    call.user = unquote(metadata.get(USER, ""))
    if caller is Caller.USER:
        _identify_user(call, metadata)


def _identify_user(call: Call, metadata: Mapping[str, str]) -> None:
    """Raises Unauthenticated for a user without a name."""
    if not call.user:
        raise Unauthenticated(f"{USER} is missing")
    call.project = unquote(metadata.get(PROJECT, ""))
    call.role = metadata.get(ROLE, "")
    call.groups = tuple(unquote(group) for group in metadata.get(GROUPS, "").split(",") if group)
