"""Who may call a method: the rule that stands in its proto, read once at start, and the one check that is made of it.

A method without a rule is for nobody, so that one which is added and forgotten does not stand open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from serai.access.v1 import access_pb2

from serai_server.errors import Forbidden
from serai_server.rpc.call import Call, Caller
from serai_server.store.token_model import Role

_CALLERS: Mapping[int, Caller] = {
    access_pb2.CALLER_CORE: Caller.CORE,
    access_pb2.CALLER_USER: Caller.USER,
    access_pb2.CALLER_SESSION: Caller.SESSION,
    access_pb2.CALLER_CONSOLE: Caller.CONSOLE,
}
_NAMES: Mapping[Caller, str] = {
    Caller.CORE: "UCloud/Core",
    Caller.USER: "users",
    Caller.SESSION: "holders of a session",
    Caller.CONSOLE: "the console",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """See serai.access.v1.Access."""

    role: Role | None = None
    """The least that a tool must be; None = no tool may, but for those on the server's own socket."""
    of_project: bool = False
    """Also tools that are limited to one project."""
    callers: frozenset[Caller] = frozenset()
    """Those for whom the gateway may."""
    known: bool = True
    """False = there is no rule, so nobody may."""
    open: bool = False
    """Anybody may, without saying who they are."""

    def check(self, call: Call) -> None:
        """Raises Forbidden."""
        if not self.known:
            raise Forbidden("this call is for nobody")
        if call.caller is not Caller.TOOL:
            if call.caller not in self.callers:
                raise Forbidden(f"this call is not for {_NAMES[call.caller]}")
        elif call.tool_role is not None:
            self._check_tool(call, call.tool_role)

    def _check_tool(self, call: Call, role: Role) -> None:
        if self.role is None:
            raise Forbidden("this call is for UCloud's and Serai's own parts and not for tools")
        if role < self.role:
            raise Forbidden(f"this call needs the role {self.role.name}; yours is {role.name}")
        if call.only_project and not self.of_project:
            raise Forbidden(f"this call is about more than one project, and you are limited to {call.only_project!r}")


NOBODY = Rule(known=False)
OPEN = Rule(open=True)
"""Of grpc.health.v1.Health but Watch: who asks whether the server works has no token to say who they are."""
ANY_IDENTITY = Rule(role=Role.VIEWER, of_project=True)
"""Of reflection, which tells what is in the public protos, and of health's Watch, which never ends: any tool,
nobody for whom the gateway calls."""


def rule_of(descriptor: MethodDescriptor) -> Rule:
    """The rule in the method's option; NOBODY when there is none."""
    options = descriptor.GetOptions()
    if not options.HasExtension(access_pb2.access):
        return NOBODY
    access = options.Extensions[access_pb2.access]
    return Rule(
        role=Role(access.role) if access.role else None,
        of_project=access.of_project,
        callers=frozenset(_CALLERS[caller] for caller in access.callers),
    )
