"""The console's way in: its pages, its login, its JSON API. (Its WebSockets: `live`.)

An address of login holds once and for a minute, because addresses stay in histories; what it is swapped for is a cookie that no script
can read, and that goes to `/console` only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog
from serai.core.v1 import errors_pb2

from serai_gateway import errors
from serai_gateway.access import Access, Answered
from serai_gateway.clock import Clock
from serai_gateway.codec import Codec
from serai_gateway.console.calls import Calls, CloseBody, NoBody, OpenBody, Query, WebAddress, invalid
from serai_gateway.console.files import File, Files
from serai_gateway.console.guard import Guard, check_source, header, set_cookie
from serai_gateway.console.live import Live
from serai_gateway.errors import GatewayError
from serai_gateway.http import ClientGone, Headers, Receive, Scope, Send, read_body
from serai_gateway.settings import Settings
from serai_gateway.upstream import Upstream
from serai_gateway.ws.paths import SocketPath

OPEN = "/console/open/"
API = "/console/api/"
_MOST_BODY = 16 * 1024
_JSON = b"application/json"
_SAFE: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_STORE = (b"cache-control", b"no-store")

_log = structlog.stdlib.get_logger("serai_gateway.console")

Body = TypeVar("Body", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What goes back, and how the access log names what was asked."""

    template: str
    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    error_id: str | None = None


class Console:
    """Takes HTTP requests to /console and below; `sockets` are its WebSockets."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        upstream: Upstream,
        access: Access | None,
        clock: Clock,
        *,
        web_address: WebAddress | None = None,
        files: Files | None = None,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`access` None = no access log; `web_address` None = jobs' web pages are not served; `ticks` gives ns."""
        timeout_s = settings.gateway.upstream_timeout_ms / 1_000
        self._settings = settings
        self._codec = codec
        self._access = access
        self._files = files or Files()
        self._guard = Guard(upstream, timeout_s)
        self._calls = Calls(upstream, timeout_s, web_address)
        self._live = Live(upstream, self._guard, self._calls, clock)
        self._web = web_address is not None
        self._ticks = ticks
        self._reads = {
            "jobs": self._calls.jobs,
            "job": self._calls.job,
            "utilization": self._calls.utilization,
            "sessions": self._calls.sessions,
        }
        self._changes = {"open": self._open_session, "close": self._close_session, "logout": self._log_out}

    def sockets(self) -> Iterable[SocketPath]:
        return self._live.paths()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._ticks()
        method, path = scope.get("method", ""), scope.get("path", "")
        try:
            answer = await self._answer(method, path, scope, receive)
        except ClientGone:
            return
        head = [*_SAFE, (b"content-length", b"%d" % len(answer.body)), *answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
        if self._access is not None:
            self._access.add(Answered(method, answer.template, answer.status, self._ticks() - started, answer.error_id))

    async def _answer(self, method: str, path: str, scope: Scope, receive: Receive) -> _Answer:
        headers: Headers = scope.get("headers", ())
        template = _template(path)
        try:
            if path.startswith(API):
                return await self._api(method, path.removeprefix(API), scope, receive)
            if path.startswith(OPEN):
                _check_verb(method, "GET")
                return await self._log_in(path.removeprefix(OPEN), scope, headers)
            _check_verb(method, "GET", "HEAD")
            return self._page(path, headers)
        except ClientGone:
            raise
        except GatewayError as error:
            if error.row.http_status in (401, 403):
                _log.warning("console refused", path=template, reason=error.row.name, why=error.why)
            return self._error(template, error)
        except Exception as error:
            error_id = secrets.token_hex(6)
            _log.error("request failed", error_id=error_id, path=template, exc_info=error)
            why = f"Internal error of the provider, id {error_id}"
            return self._error(template, GatewayError(errors_pb2.ERROR_REASON_UNSPECIFIED, why), error_id)

    def _error(self, template: str, error: GatewayError, error_id: str | None = None) -> _Answer:
        body = self._codec.write(errors.message(error.row, error.words))
        return _Answer(template, error.row.http_status, body, ((b"content-type", _JSON), _NO_STORE), error_id)

    def _page(self, path: str, headers: Headers) -> _Answer:
        if path == "/console":
            return _Answer("/console", 308, headers=((b"location", b"/console/"),))
        file = self._files.find(path)
        if file is None:
            raise GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, "Not found: the console has no such page")
        if header(headers, b"if-none-match") == file.tag.decode():
            return _Answer(_template(path), 304, headers=_of_file(file))
        return _Answer(_template(path), 200, file.content, _of_file(file))

    async def _log_in(self, secret: str, scope: Scope, headers: Headers) -> _Answer:
        template = OPEN + "{secret}"
        try:
            cookie = set_cookie(await self._guard.redeem(secret), secure=self._is_secure(scope, headers))
        except GatewayError as error:
            _log.warning("console refused", path=template, reason=error.row.name, why="the address of login does not hold")
            file = self._files.refused()
            kind = ((b"content-type", file.kind), (b"content-security-policy", file.policy), _NO_STORE)
            return _Answer(template, error.row.http_status, file.content, kind)
        _log.info("console opened")
        return _Answer(template, 302, headers=((b"location", b"/console/"), (b"set-cookie", cookie), _NO_STORE))

    def _is_secure(self, scope: Scope, headers: Headers) -> bool:
        """The browser's connection is HTTPS, as far as we can see: what stands in front of us says it, or the settings do."""
        if header(headers, b"x-forwarded-proto") == "https":
            return True
        public = urlsplit(self._settings.gateway.public_url)
        return public.scheme == "https" and public.netloc.lower() == (header(headers, b"host") or "").lower()

    async def _api(self, method: str, name: str, scope: Scope, receive: Receive) -> _Answer:
        headers: Headers = tuple(scope.get("headers", ()))
        changes = name in self._changes
        if name != "site" and not changes and name not in self._reads:
            raise GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, "Not found: the console has no such call")
        _check_verb(method, "POST" if changes else "GET")
        check_source(headers, changing=changes)
        if name == "site":
            return _json(name, self._site())
        if changes:
            # Looked at before who asks is: a page of another site can send neither without the browser's leave.
            if (header(headers, b"content-type") or "").partition(";")[0].strip().lower() != "application/json":
                raise invalid("Content-Type: expected application/json")
            return await self._changes[name](headers, receive)
        await self._guard.authorize(headers)
        return _json(name, await self._reads[name](Query(scope.get("query_string", b""))))

    def _site(self) -> dict[str, object]:
        """For every page, also without a login: nothing that is not on the provider's card anyway."""
        provider = self._settings.provider
        return {"provider": provider.id, "title": provider.title or provider.id, "web": self._web, **self._files.brought}

    async def _open_session(self, headers: Headers, receive: Receive) -> _Answer:
        await self._guard.authorize(headers)
        return _json("open", await self._calls.open(await _read(headers, receive, OpenBody)))

    async def _close_session(self, headers: Headers, receive: Receive) -> _Answer:
        await self._guard.authorize(headers)
        await self._calls.close((await _read(headers, receive, CloseBody)).session)
        return _json("close", {})

    async def _log_out(self, headers: Headers, receive: Receive) -> _Answer:
        await _read(headers, receive, NoBody)
        session = await self._guard.authorize(headers)
        await self._calls.close(session.id)
        return _json("logout", {}, (b"set-cookie", set_cookie("", secure=False)))


def _check_verb(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise GatewayError(errors_pb2.ERROR_REASON_WRONG_VERB, f"This path takes {', '.join(allowed)}")


def _template(path: str) -> str:
    """What the access log writes: no secret, no file's name."""
    for prefix in (OPEN, API, "/console/static/", "/console/vendor/"):
        if path.startswith(prefix):
            return prefix + ("{secret}" if prefix == OPEN else "{name}")
    return path if path in ("/console", "/console/", "/console/job", "/console/sessions", "/console/session") else "/console/{name}"


def _of_file(file: File) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"content-type", file.kind),
        (b"content-security-policy", file.policy),
        (b"cache-control", b"no-cache"),
        (b"etag", file.tag),
    )


def _json(name: str, document: object, *more: tuple[bytes, bytes]) -> _Answer:
    return _Answer(API + name, 200, msgspec.json.encode(document), ((b"content-type", _JSON), _NO_STORE, *more))


async def _read(headers: Headers, receive: Receive, kind: type[Body]) -> Body:
    """GatewayError for a body that is no such thing."""
    length = header(headers, b"content-length")
    body = await read_body(receive, None if length is None else length.encode(), _MOST_BODY)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(str(error)) from error
