"""One call, as its handler may know it: on whose behalf, and with which rights."""

from __future__ import annotations

from enum import Enum

import msgspec

from serai_server.store.token_model import Role


class Caller(Enum):
    """On whose behalf a call is made."""

    CORE = "core"
    """The gateway, for UCloud/Core."""
    USER = "user"
    """The gateway, for a user with a token of their own."""
    SESSION = "session"
    """The gateway, for whoever holds a session's secret."""
    CONSOLE = "console"
    """The gateway, for an operator at Serai's own page."""
    TOOL = "tool"
    """A program: of the operator on the server's own socket, or of whoever was let in at the tools' door."""


class Call(msgspec.Struct, gc=False):
    """What a handler may know of the call that it answers."""

    method: str
    """"/serai.jobs.v1.JobsService/Create"."""
    request_id: str
    caller: Caller = Caller.TOOL
    user: str = ""
    """UCloud username; empty = not told."""
    project: str = ""
    """Of a user's call: the project in which they work; empty = their personal workspace."""
    role: str = ""
    """Of a user's call: what they are in that project, "PI", "ADMIN" or "USER"; empty = no member of it."""
    groups: tuple[str, ...] = ()
    """Of a user's call: the groups of that project that they are in."""
    tool: str = ""
    """Who was let in at the tools' door (Holder.who); empty = the call came another way."""
    tool_role: Role | None = None
    """What they may; None = the call came another way."""
    only_project: str = ""
    """The one project whose jobs this call may see and touch; empty = it is not limited."""
    peer: str = ""
    """Of a call at the tools' door: its connection's other end, as gRPC writes it. For the log."""
