"""UCloud's calls as the descriptors tell them, and which of them a request means. No other file lists paths.

Source: the method option `serai.wire.v1.route` of every service below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, FileDescriptor
from serai.control.v1 import control_pb2
from serai.integration.v1 import integration_pb2
from serai.jobs.v1 import jobs_service_pb2
from serai.licenses.v1 import licenses_provider_service_pb2, licenses_service_pb2
from serai.wire.v1 import options_pb2

# Every file that may hold routes.
FILES: tuple[FileDescriptor, ...] = (
    jobs_service_pb2.DESCRIPTOR,
    licenses_provider_service_pb2.DESCRIPTOR,
    licenses_service_pb2.DESCRIPTOR,
    integration_pb2.DESCRIPTOR,
    control_pb2.DESCRIPTOR,
)

_PROVIDER = "{provider}"


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP call of UCloud's wire.

    `path` has `{provider}` where the provider's id stands; `direction` is a `serai.wire.v1.Direction`, `empty_element` a
    `serai.wire.v1.EmptyElement`; `method` is gRPC's path ("/serai.jobs.v1.JobsService/Create"); `call` is the full name on WebSockets,
    '' when the options name none; `open` = Core sends no token; `users` = users make this call, with tokens of their own.
    A call with several paths is one route for each.
    """

    verb: str
    path: str
    direction: int
    bulk: bool
    empty_element: int
    call: str
    method: str
    request: Descriptor = field(repr=False)
    response: Descriptor = field(repr=False)
    server_streaming: bool
    open: bool
    users: bool = False

    @property
    def answers(self) -> bool:
        """The answer has an element for each item of a bulk request."""
        return self.bulk and "responses" in self.response.fields_by_name

    @property
    def ingoing(self) -> bool:
        """UCloud/Core makes this call."""
        return self.direction == options_pb2.DIRECTION_INGOING


@dataclass(frozen=True, slots=True)
class Match:
    """The request means `route`. `provider` is the id in the path; '' for a path without one."""

    route: Route
    provider: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No call has this path, or its provider is none of ours."""


@dataclass(frozen=True, slots=True)
class WrongVerb:
    """The path is there with other verbs: `allowed`, sorted, as the header Allow wants them."""

    allowed: tuple[str, ...]


def routes_of(files: Iterable[FileDescriptor] = FILES) -> tuple[Route, ...]:
    """All routes, in the order of the files. Raises ValueError when two methods claim the same verb, path and direction."""
    found: dict[tuple[str, str, int], Route] = {}
    for file in files:
        for service in file.services_by_name.values():
            for method in service.methods:
                options = method.GetOptions()
                if not options.HasExtension(options_pb2.route):
                    continue
                form = options.Extensions[options_pb2.route]
                for path in (form.path, *form.also):
                    key = (form.verb, path, form.direction)
                    if key in found:
                        raise ValueError(f"{form.verb} {path} is claimed by {found[key].method} and by {method.full_name}")
                    found[key] = Route(
                        verb=form.verb,
                        path=path,
                        direction=form.direction,
                        bulk=form.bulk,
                        empty_element=form.empty_element,
                        call=form.call,
                        method=f"/{service.full_name}/{method.name}",
                        request=method.input_type,
                        response=method.output_type,
                        server_streaming=method.server_streaming,
                        open=form.open,
                        users=form.users,
                    )
    return tuple(found.values())


ROUTES: tuple[Route, ...] = routes_of()


class Router:
    """Finds the ingoing call of a request: one or two dict lookups, exact paths, one trailing slash forgiven."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        table: dict[str, dict[str, Route]] = {}
        for route in routes:
            if route.ingoing:
                table.setdefault(route.path, {})[route.verb] = route
        self._table: Mapping[str, Mapping[str, Route]] = table
        # Where the provider's id stands, counted in segments: one place for all calls of UCloud so far.
        self._places = sorted({path.split("/").index(_PROVIDER) for path in table if _PROVIDER in path.split("/")})

    def match(self, verb: str, path: str, providers: frozenset[str]) -> Match | NoRoute | WrongVerb:
        """`verb` in capitals, `path` without its query, `providers` the ids that this gateway answers for."""
        if len(path) > 1 and path.endswith("/"):
            path = path[:-1]
        verbs = self._table.get(path) if _PROVIDER not in path else None
        provider = ""
        if verbs is None:
            segments = path.split("/")
            for place in self._places:
                if place < len(segments) and segments[place] in providers:
                    provider = segments[place]
                    verbs = self._table.get("/".join([*segments[:place], _PROVIDER, *segments[place + 1 :]]))
                    if verbs is not None:
                        break
        if verbs is None:
            return NoRoute()
        route = verbs.get(verb)
        return WrongVerb(tuple(sorted(verbs))) if route is None else Match(route, provider)


_ROUTER = Router()


def match(verb: str, path: str, providers: frozenset[str]) -> Match | NoRoute | WrongVerb:
    """`Router.match` over all of Serai's routes."""
    return _ROUTER.match(verb, path, providers)
