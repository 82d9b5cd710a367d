"""The gateway's own way to applications, for machines without Envoy: requests and answers pass as streams, never whole in memory.

Each side is read only as fast as the other one takes it. What a session has under way is cut when the session or its job ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, cast

import aiohttp
import structlog
from multidict import CIMultiDict
from serai.sessions.v1 import sessions_service_pb2 as pb2
from yarl import URL

from serai_gateway.access import Access, Answered
from serai_gateway.http import ClientGone, Headers, Receive, Scope, Send
from serai_gateway.web import pages
from serai_gateway.web.connection import connection_of, target_of
from serai_gateway.web.decision import WEB, Asked, Decisions, Pass
from serai_gateway.web.headers import to_application, to_client
from serai_gateway.web.holds import Hold, Holds
from serai_gateway.web.names import Place
from serai_gateway.web.pages import Page
from serai_gateway.web.site import Site

READ_BYTES = 256 * 1024
"""Of an answer that are read ahead of a slow client; aiohttp keeps up to twice as many."""
LONGEST_HEADER = 64 * 1024
_NO_BODY = frozenset((204, 304))
_OWN_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
"""Those that aiohttp would add."""

_log = structlog.stdlib.get_logger("serai_gateway.web")


def not_yet(place: Place) -> str:
    """For a person, when nothing listens there, or what listens hangs up."""
    return f"The application of job {place.job_id}, rank {place.rank}, does not answer yet; it may still be starting"


def authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Proxy:
    """An ASGI application for HTTP on applications' names; use as `async with`."""

    def __init__(
        self,
        site: Site,
        decisions: Decisions,
        holds: Holds,
        access: Access | None,
        *,
        connect_timeout_s: float,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._site = site
        self._decisions = decisions
        self._holds = holds
        self._access = access
        self._ticks = ticks
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # A connection left idle must not be another job's later on the same port.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=5.0),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            skip_auto_headers=_OWN_HEADERS,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._ticks()
        exchange = _Exchange(scope, receive, send)
        try:
            async with AsyncExitStack() as stack:
                await self._answer(exchange, stack)
        except ClientGone:
            pass
        except Exception as error:
            _log.error("a page's request failed", exc_info=error)
            if not exchange.status:
                await exchange.answer(pages.told(500, "Internal error of the provider", html=False))
            else:
                await exchange.cut()
        if self._access is not None:
            self._access.add(Answered(exchange.method, "web", exchange.status, self._ticks() - started))

    async def _answer(self, exchange: _Exchange, stack: AsyncExitStack) -> None:
        held: list[Hold] = []

        async def enter(secret: str, place: Place) -> pb2.AuthorizeResponse:
            held.append(await stack.enter_async_context(self._holds.take(secret, WEB, place.job_id, place.rank)))
            return held[0].authorized

        asked = Asked.of(exchange.method, exchange.target, exchange.headers)
        if exchange.version != "1.1":
            # An answer of unknown length could not be told from one that broke off.
            await exchange.answer(pages.told(426, "Applications are reached by HTTP/1.1", html=asked.html))
            return
        outcome = await self._decisions.decide(asked, enter)
        if isinstance(outcome, Page):
            await exchange.answer(outcome)
            return
        stack.callback(held[0].when_over(exchange.connection.cut))
        await exchange.while_there(lambda: self._forward(exchange, outcome, asked))

    async def _forward(self, exchange: _Exchange, to: Pass, asked: Asked) -> None:
        headers = to_application(
            exchange.headers, host=to.host, cookie=to.cookie, client=exchange.client, scheme=self._site.scheme, prefix=to.prefix
        )
        url = URL(f"http://{authority(to.address, to.port)}{to.target.decode('ascii')}", encoded=True)
        if self._session is None:
            raise RuntimeError("the proxy is used outside of `async with`")
        try:
            response = await self._session.request(
                exchange.method,
                url,
                headers=CIMultiDict((name.decode("ascii"), _text(value)) for name, value in headers),
                data=exchange.body() if exchange.has_body else None,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            _log.info("web.no_answer", job=to.place.job_id, rank=to.place.rank, port=to.port, why=type(error).__name__)
            reload = exchange.method == "GET"
            await exchange.answer(pages.told(502, not_yet(to.place), html=asked.html, reload=reload))
            return
        async with response:
            await exchange.pass_on(response, shared_origin=self._site.by_path)


class _Exchange:
    """One request of a client, and what it is answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.connection = connection_of(scope)
        self.target = target_of(scope)
        self.version = scope.get("http_version", "1.1")
        self.method = scope.get("method", "")
        self.headers: Headers = tuple(scope.get("headers", ()))
        client = scope.get("client")
        self.client = client[0] if client else ""
        self.status = 0
        """Of the answer that was begun; 0 = none."""
        self._receive = receive
        self._send = send

    @property
    def has_body(self) -> bool:
        return any(name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in self.headers)

    async def body(self) -> AsyncGenerator[bytes]:
        """As it comes. The client is told to send it (100) when this is first read."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            more = bool(message.get("more_body"))
            if part := cast("bytes", message.get("body", b"")):
                yield part

    async def while_there(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does it until the client has left; then ClientGone."""
        if self.connection.gone:
            raise ClientGone  # nobody would say so a second time, and an answer may have no end
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("this needs a task")
        gone: list[bool] = []

        def leave() -> None:
            gone.append(True)
            task.cancel()

        self.connection.on_lost = leave
        try:
            await work()
        except asyncio.CancelledError as error:
            if not gone or task.uncancel() > 0:
                raise
            raise ClientGone from error
        finally:
            self.connection.on_lost = None

    async def answer(self, page: Page) -> None:
        """Ours, instead of the application's. What is left of a body is not read: the connection ends."""
        close = [(b"connection", b"close")] if self.has_body else []
        length = [] if any(name == "content-length" for name, _ in page.headers) else [(b"content-length", b"%d" % len(page.body))]
        headers = [(name.encode(), value.encode("latin-1")) for name, value in page.headers]
        self.status = page.status
        await self._send({"type": "http.response.start", "status": page.status, "headers": [*headers, *length, *close]})
        await self._send({"type": "http.response.body", "body": page.body})

    async def pass_on(self, response: aiohttp.ClientResponse, *, shared_origin: bool) -> None:
        """The application's answer. One that breaks off is cut, so that nobody takes it for whole."""
        has_body = response.status not in _NO_BODY
        headers = to_client(response.raw_headers, shared_origin=shared_origin, body=has_body)
        self.status = response.status
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        content = response.content
        try:
            while not content.at_eof():
                part = await content.readany()
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
        except (aiohttp.ClientError, OSError):
            await self.cut()
            raise ClientGone from None
        await self._send({"type": "http.response.body", "body": b""})

    async def cut(self) -> None:
        """Ends the connection; returns when the server knows."""
        self.connection.cut()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _text(value: bytes) -> str:
    """aiohttp writes headers as UTF-8; what is none was Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
