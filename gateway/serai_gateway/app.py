"""Core's and users' calls in: HTTP/JSON of UCloud to a call of the server and back.

One raw ASGI application without a framework, because a create has tens of microseconds (what they are spent on: `bench/gateway.py`). For
each request in this order: route, token, body within its limit, JSON to protobuf, the server, protobuf to JSON. So nobody without a token
makes us read a body, and nothing that the codec refuses reaches the server. A call is either Core's or users', never both: the token of
the one does not open what is the other's.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import structlog
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health_pb2 import HealthCheckResponse
from serai.core.v1 import errors_pb2
from serai.wire.v1 import options_pb2

from serai_gateway import errors
from serai_gateway.access import Access, Answered
from serai_gateway.answers import Answers, Handler
from serai_gateway.auth import AuthError, Check, read_username
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.diagnosis import check_count
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone, Headers, Receive, Scope, Send, read_body, send_json
from serai_gateway.openapi import Documents
from serai_gateway.routes import NoRoute, Route, WrongVerb
from serai_gateway.routes import match as match_route
from serai_gateway.settings import Generation, Settings
from serai_gateway.upstream import CALLER, USER, Upstream, UpstreamError
from serai_gateway.users import NOT_SERVED, UserCheck, metadata_of, project_of
from serai_gateway.web.addresses import METHOD as SESSIONS
from serai_gateway.web.addresses import Addresses

READY_METHOD = "/grpc.health.v1.Health/Check"
"""Knows whether the store answers and the reconciler works, and needs the server's whole chain."""
HEALTH_PATHS = frozenset(("/healthz", "/readyz"))
"""Questions of who watches over this process."""
SLICE_BYTES = 32 * 1024
"""Bodies of many items are read in slices of about this many bytes, with the loop's other work in between (facts on speed §9)."""
OPEN_BODY_LIMIT = 64 * 1024
"""Bytes of a body that comes without a token; Core's welcome has about 2 KiB."""
_READY_TIMEOUT_S = 2.0
_LONGEST_REMEMBERED = 64
_MOST_REMEMBERED = 256
_CORE: Mapping[str, str] = {CALLER: "core"}

_log = structlog.stdlib.get_logger("serai_gateway.app")


class _Bulk(msgspec.Struct):
    items: list[msgspec.Raw]


_bulk_decoder = msgspec.json.Decoder(_Bulk)


@dataclass(slots=True)
class _Endpoint:
    """A route with all that can be prepared before a request comes."""

    route: Route
    sliced: bool
    """A long body may be read in slices: the request is nothing but its items."""
    response: type[Message]
    answers: dict[bytes, bytes]
    """JSON of short answers by their wire bytes; most creates have the same one."""
    handler: Handler | None
    """Answers here; None = the server does."""
    finish: Callable[[bytes], bytes] | None
    """What is still done to the server's answer, which holds secrets then and is not remembered."""


class _Given(msgspec.Struct, gc=False):
    """What a call's headers say."""

    authorization: bytes | None = None
    user: bytes | None = None
    length: bytes | None = None
    projects: tuple[bytes, ...] = ()


def _given(headers: Headers) -> _Given:
    given = _Given()
    for name, value in headers:
        if name == b"authorization":
            # Two of them are an attempt to have one checked and another one used.
            given.authorization = value if given.authorization is None else b""
        elif name == b"ucloud-username":
            given.user = value
        elif name == b"content-length":
            given.length = value
        elif name == b"project":
            given.projects += (value,)
    return given


class _Outcome(msgspec.Struct, gc=False):
    """What became of a request, for the answer and for the log."""

    path: str
    """Template, or a word."""
    status: int
    body: bytes
    extra: tuple[tuple[bytes, bytes], ...] = ()
    error_id: str | None = None
    reason: str = ""
    """Of the table of errors; empty = none."""


class App:
    """The ASGI application for HTTP; what else there is: `door`."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        upstream: Upstream,
        token_check: Check,
        access: Access | None,
        *,
        users: UserCheck | None = None,
        addresses: Addresses | None = None,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`access` None = nobody is told of requests; `users` None = calls of users are not served; `addresses` None = sessions have
        none. `ticks` gives ns for the time that requests take."""
        self._codec = codec
        self._upstream = upstream
        self._token_check = token_check
        self._access = access
        self._users = users
        self._addresses = addresses
        self._answers = Answers(settings)
        self._documents = Documents(settings)
        self._ticks = ticks
        self._providers = settings.provider.names
        self._generation: Generation = settings.core.generation
        self._limit = settings.gateway.body_limit_bytes
        self._timeout_s = settings.gateway.upstream_timeout_ms / 1_000
        self._endpoints: dict[tuple[str, str], _Endpoint] = {}
        self._metadata: dict[bytes, Mapping[str, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._ticks()
        method = scope.get("method", "")
        try:
            outcome = await self._answer(method, scope, receive)
        except ClientGone:
            return
        await send_json(send, outcome.status, outcome.body, *outcome.extra)
        if self._access is not None:
            self._access.add(
                Answered(method, outcome.path, outcome.status, self._ticks() - started, outcome.error_id, reason=outcome.reason)
            )

    async def _answer(self, method: str, scope: Scope, receive: Receive) -> _Outcome:
        path = scope.get("path", "")
        endpoint = self._endpoints.get((method, path))
        template = endpoint.route.path if endpoint is not None else "none"
        try:
            if endpoint is None:
                found = await self._open_page(method, path, scope)
                if found is not None:
                    return found
                endpoint = self._find(method, path)
                template = endpoint.route.path
            return _Outcome(template, 200, await self._call(endpoint, scope, receive))
        except ClientGone:
            raise
        except Exception as error:
            told = _told(error)
            return self._error(template, told) if told is not None else self._internal(template, error)

    def _error(self, template: str, error: GatewayError) -> _Outcome:
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, _WrongVerbError):
            extra = ((b"allow", error.allowed.encode()),)
        elif error.row.reason == errors_pb2.ERROR_REASON_TOO_LARGE:
            # What is left of the body is not read: the connection ends here.
            extra = ((b"connection", b"close"),)
        return _Outcome(
            template, error.row.http_status, self._codec.write(errors.message(error.row, error.why)), extra, None, error.row.name
        )

    def _internal(self, template: str, error: Exception) -> _Outcome:
        """Fixed text and an id; what happened is in our log under that id."""
        error_id = secrets.token_hex(6)
        _log.error("request failed", error_id=error_id, path=template, exc_info=error)
        row = errors.TABLE[errors_pb2.ERROR_REASON_UNSPECIFIED]
        body = self._codec.write(errors.message(row, f"Internal error of the provider, id {error_id}"))
        return _Outcome(template, row.http_status, body, error_id=error_id, reason=row.name)

    def _find(self, method: str, path: str) -> _Endpoint:
        found = match_route(method, path, self._providers)
        if isinstance(found, NoRoute):
            raise GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, "Not found: no call of this provider has this path")
        if isinstance(found, WrongVerb):
            raise _WrongVerbError(found.allowed)
        route = found.route
        sliced = route.bulk and _has_only_items(route)
        endpoint = _Endpoint(route, sliced, GetMessageClass(route.response), {}, self._answers.handler(route), self._finish(route))
        # Only paths of routes come here; the spellings of one (aliases, trailing slash) are few.
        if len(self._endpoints) < _MOST_REMEMBERED:
            self._endpoints[method, path] = endpoint
        return endpoint

    def _finish(self, route: Route) -> Callable[[bytes], bytes] | None:
        return self._addresses.fill_in if self._addresses is not None and route.method == SESSIONS else None

    async def _call(self, endpoint: _Endpoint, scope: Scope, receive: Receive) -> bytes:
        given = _given(scope.get("headers", ()))
        route = endpoint.route
        metadata = self._who(route, given)
        if route.verb == "GET":
            request = self._codec.read_query(route.request, scope.get("query_string", b"")) if route.request.fields else b""
        else:
            limit = min(self._limit, OPEN_BODY_LIMIT) if route.open else self._limit
            body = await read_body(receive, given.length, limit)
            if not body and not route.request.fields:
                request = b""  # UCloud's Unit: some clients send {}, some nothing
            elif endpoint.sliced and len(body) > SLICE_BYTES:
                request = await self._read_slices(route, body)
            else:
                request = self._codec.read(route.request, body)
        if endpoint.handler is not None:
            return self._write(endpoint, await endpoint.handler(request))
        answer = await self._upstream.unary(route.method, request, metadata, self._timeout_s)
        if endpoint.finish is not None:
            answer = endpoint.finish(answer)
        return self._write(endpoint, answer)

    def _who(self, route: Route, given: _Given) -> Mapping[str, str]:
        """What the server is told of the caller. AuthError for one who may not make this call."""
        if route.users:
            if self._users is None:
                raise GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, NOT_SERVED)
            return metadata_of(self._users.user(given.authorization, route), project_of(given.projects))
        if not route.open:
            self._token_check.check(given.authorization)
        return _CORE if given.user is None else self._metadata_of(given.user)

    async def _read_slices(self, route: Route, body: bytes) -> bytes:
        """The same as codec.read of the whole body, without holding the loop for all of it at once."""
        try:
            # Copies, because a Raw keeps the whole body alive.
            items = [bytes(item) for item in _bulk_decoder.decode(body).items]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            items = []
        if not items:
            return self._codec.read(route.request, body)  # says what is wrong, in its words
        check_count(len(items))
        wires: list[bytes] = []
        begin = 0
        while begin < len(items):
            end, size = begin, 0
            while end < len(items) and size < SLICE_BYTES:
                size += len(items[end])
                end += 1
            part = b'{"items":[' + b",".join(items[begin:end]) + b"]}"
            try:
                # Two wire messages, one after the other, are one message with the items of both.
                wires.append(self._codec.read(route.request, part))
            except WireError as error:
                raise WireError(shifted(error.path, begin), error.text) from error
            begin = end
            await asyncio.sleep(0)  # not a wait: lets the loop do its other work
        return b"".join(wires)

    def _write(self, endpoint: _Endpoint, answer: bytes) -> bytes:
        known = endpoint.answers.get(answer)
        if known is not None:
            return known
        message = endpoint.response.FromString(answer)
        route = endpoint.route
        text = self._codec.write_bulk(message, route.empty_element) if route.answers else self._codec.write(message)
        if len(answer) <= _LONGEST_REMEMBERED and endpoint.finish is None and len(endpoint.answers) < _MOST_REMEMBERED:
            endpoint.answers[answer] = text
        return text

    def _metadata_of(self, user: bytes) -> Mapping[str, str]:
        known = self._metadata.get(user)
        if known is not None:
            return known
        name = read_username(user, self._generation)
        # Metadata is printable ASCII on the wire; other characters travel as %XX of UTF-8.
        metadata = _CORE if name is None else {CALLER: "core", USER: quote(name, safe=_SAFE)}
        if len(self._metadata) >= _MOST_REMEMBERED:
            self._metadata.clear()
        self._metadata[user] = metadata
        return metadata

    async def _open_page(self, method: str, path: str, scope: Scope) -> _Outcome | None:
        """What anybody may ask: health, and the documents of the calls. None = neither."""
        is_health = path in HEALTH_PATHS
        document = None if is_health else self._documents.find(path)
        if not is_health and document is None:
            return None
        if method not in {"GET", "HEAD"}:
            raise _WrongVerbError(("GET", "HEAD"))
        if document is None:
            return await self._health(path)
        known = document.is_known(scope.get("headers", ()))
        return _Outcome(path, 304 if known else 200, b"" if known else document.body, document.extra())

    async def _health(self, path: str) -> _Outcome:
        if path == "/readyz":
            answer = await self._upstream.unary(READY_METHOD, b"", _CORE, _READY_TIMEOUT_S)
            if HealthCheckResponse.FromString(answer).status != HealthCheckResponse.SERVING:
                raise GatewayError(errors_pb2.ERROR_REASON_STORE_UNAVAILABLE, "The provider cannot take jobs on right now")
        return _Outcome(path, 200, b'{"status":"ok"}')


_ITEM = re.compile(r"items\[(\d+)\]")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _has_only_items(route: Route) -> bool:
    """The request on the wire is nothing but its items."""
    return [field.name for field in route.request.fields if not field.GetOptions().Extensions[options_pb2.field].internal] == ["items"]


class _WrongVerbError(GatewayError):
    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(errors_pb2.ERROR_REASON_WRONG_VERB, f"This path takes {self.allowed}")


def _told(error: Exception) -> GatewayError | None:
    """What may be told of an error; None = an internal one."""
    match error:
        case GatewayError():
            return error
        case AuthError():
            return GatewayError(errors_pb2.ERROR_REASON_UNAUTHENTICATED, str(error))
        case WireError():
            return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, str(error))
        case UpstreamError():
            return errors.from_status(error.status)
        case _:
            return None


def shifted(path: str, by: int) -> str:
    """The path of a slice's error in the whole body: "items[2].id" with 10 items before it is "items[12].id"."""
    found = _ITEM.match(path)
    return f"items[{int(found[1]) + by}]{path[found.end() :]}" if found is not None else path
