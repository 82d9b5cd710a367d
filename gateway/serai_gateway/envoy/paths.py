"""Which paths Envoy lets through by rules of their own. From the descriptors and the provider's names, so that no list is written twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from serai_gateway.routes import ROUTES
from serai_gateway.web.addresses import DESKTOP
from serai_gateway.ws.paths import FOLLOW, SHELL

_SERVICES = r"(serai\.[a-z]+\.v1\.[A-Za-z]+|grpc\.health\.v1\.Health|grpc\.reflection\.v1(alpha)?\.ServerReflection)"
GRPC = rf"/{_SERVICES}/[A-Za-z]+"
"""Of the tools' gRPC. What else is served at the tools' door is reached from nowhere."""
HEALTH = r"/grpc\.health\.v1\.Health/(Check|List)"
"""Of gRPC too, and for everybody."""
TOOLS_TOKEN = "(?i:bearer) +serai_[A-Za-z0-9_-]+"  # noqa: S105 - a pattern
"""What looks like a tool's token; whether it is one the server knows."""
TOOLS = rf"({GRPC}|/v1/.*)"
LONG = "/v1/jobs(:submit)?"
"""Calls of /v1 whose bodies may be long, because they hold whole jobs."""
_SEGMENT = "[A-Za-z0-9_-]+"


@dataclass(frozen=True, slots=True)
class Socket:
    """Paths of WebSockets. `match` is YAML; `token`: they are below Core's paths, where else its token is asked for."""

    name: str
    match: str
    token: bool = True


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call of Core that comes without its token. `path` is YAML."""

    verb: str
    path: str


def sockets(names: Iterable[str]) -> list[Socket]:
    """All WebSockets of the gateway, for each name of the provider."""
    found: list[Socket] = []
    for name in sorted(names):
        found += [
            Socket("follow", f"path: {_path(FOLLOW, name)}"),
            Socket("shell", f"path: {_path(SHELL, name)}"),
            Socket("desktop", f"safe_regex: {{ regex: {_pattern(DESKTOP, name)} }}"),
        ]
    return [*found, Socket("console-socket", "prefix: /console/", token=False)]


def open_calls(names: Iterable[str]) -> list[OpenCall]:
    """Calls whose route says `open`."""
    return [
        OpenCall(route.verb, _path(route.path, name))
        for name in sorted(names)
        for route in ROUTES
        if route.ingoing and route.open and not route.users
    ]


def users_prefixes() -> list[str]:
    """What stands before the paths of users' own calls, with the slash after it: `/api/licenses/`."""
    users = {"/".join(route.path.split("/")[:3]) + "/" for route in ROUTES if route.ingoing and route.users}
    return sorted(users)


def streams(descriptors: bytes) -> str:
    """A pattern of the paths of /v1 whose answers are streams, and so have no end of their own."""
    methods = [
        method
        for file in FileDescriptorSet.FromString(descriptors).file
        for service in file.service
        for method in service.method
        if method.server_streaming
    ]
    http = cast("Any", annotations_pb2.http)  # googleapis' stubs know extensions as plain fields
    rules = [cast("http_pb2.HttpRule", method.options.Extensions[http]) for method in methods]
    found = {path for whole in rules for rule in (whole, *whole.additional_bindings) if (path := rule.get or rule.post)}
    return "|".join("[^/]+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", path)) for path in sorted(found))


def _path(template: str, name: str) -> str:
    return json.dumps(template.replace("{provider}", quote(name)))


def _pattern(template: str, name: str) -> str:
    before, _, after = re.sub(r"\{secret\}", "\0", template.replace("{provider}", quote(name))).partition("\0")
    return json.dumps(f"{re.escape(before)}{_SEGMENT}{re.escape(after)}")
