"""Who may pass to which application: one decision for both data paths, Envoy's and the gateway's own.

In this order: exactly one good Host, a name of ours, the page's own requests only, an address that opens a session, the session's cookie.
Refusals are logged with their cause, never with a secret, some of them a minute; the client learns less: guessed, expired and foreign read
alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_telemetry.quiet import Quiet

from serai_gateway.errors import GatewayError
from serai_gateway.http import Headers
from serai_gateway.web import pages
from serai_gateway.web.cookies import Cookies, is_secret, set_cookie, take_apart
from serai_gateway.web.names import OPEN, OURS, Place, place_of_host, place_of_path, plain_host
from serai_gateway.web.pages import Page
from serai_gateway.web.sessions import Sessions, unknown
from serai_gateway.web.site import Site

WEB = pb2.SESSION_KIND_WEB

_log = structlog.stdlib.get_logger("serai_gateway.web")
_NO_COOKIE = "Open the application from UCloud: this page is for whoever started the job"
_FOREIGN = "Another page asked for this one. Open the application from UCloud"
_NO_PAGE = "No application has its page at this address"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it is decided on."""

    method: str
    target: bytes = field(repr=False)
    """Path and query as they came."""
    hosts: tuple[bytes, ...]
    cookies: tuple[bytes, ...] = field(repr=False)
    accept: bytes
    origins: tuple[bytes, ...]
    fetch_site: bytes
    """Sec-Fetch-Site, -Mode and -Dest, by which a browser says whose page asks and what for; empty = it does not say."""
    fetch_mode: bytes
    fetch_dest: bytes
    upgrade: bool
    """A WebSocket's handshake."""

    @classmethod
    def of(cls, method: str, target: bytes, headers: Headers) -> Asked:
        """`headers` with names in lower case."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name, []).append(value)

        def last(name: bytes) -> bytes:
            return found.get(name, [b""])[-1].strip().lower()

        return cls(
            method=method,
            target=target,
            hosts=tuple(found.get(b"host", ())),
            cookies=tuple(found.get(b"cookie", ())),
            accept=last(b"accept"),
            origins=tuple(found.get(b"origin", ())),
            fetch_site=last(b"sec-fetch-site"),
            fetch_mode=last(b"sec-fetch-mode"),
            fetch_dest=last(b"sec-fetch-dest"),
            upgrade=last(b"upgrade") == b"websocket",
        )

    @property
    def html(self) -> bool:
        return pages.wants_html(self.accept)


@dataclass(frozen=True, slots=True)
class Pass:
    """It may go on to the application."""

    place: Place
    address: str
    """IP address."""
    port: int
    host: str
    """The Host that the application sees: that of the browser's address, which it may compare with Origin."""
    target: bytes = field(repr=False)
    """Path and query as the application sees them."""
    prefix: str
    """What was cut off the path; empty by host name."""
    cookie: bytes | None = field(repr=False)
    """The application's own cookies; None = it has none."""


Enter = Callable[[str, Place], Awaitable[pb2.AuthorizeResponse]]
"""From a cookie's secret to where it leads. Raises GatewayError."""


@dataclass(frozen=True, slots=True)
class _At:
    """Where a request wants to go."""

    place: Place
    host: str
    prefix: str
    target: bytes


class _Refusal(Exception):
    def __init__(self, error: GatewayError, cause: str) -> None:
        super().__init__(cause)
        self.error = error
        self.cause = cause


class Decisions:
    """Decides on requests for applications' pages."""

    def __init__(self, site: Site, sessions: Sessions, *, strangers: Quiet | None = None) -> None:
        """`strangers`: how many refusals are logged, None = as usual."""
        self._site = site
        self._sessions = sessions
        self._strangers = strangers or Quiet()

    async def decide(self, asked: Asked, enter: Enter | None = None) -> Pass | Page:
        """`enter` None = by Authorize."""
        at: _At | None = None
        try:
            at = self._at(asked)
            self._check_origin(asked, at)
            cookies = take_apart(asked.cookies, self._site.cookie)
            if at.target.startswith(OURS.encode()):
                return await self._open(asked, at, cookies)
            answer = await (enter or self._authorize)(_secret_of(cookies), at.place)
            return Pass(at.place, answer.host, answer.port, at.host, at.target, at.prefix, cookies.rest)
        except _Refusal as refusal:
            return self._refused(asked, at, refusal.error, refusal.cause)
        except GatewayError as error:
            return self._refused(asked, at, error, error.row.name.lower())

    def _refused(self, asked: Asked, at: _At | None, error: GatewayError, cause: str) -> Page:
        place = at.place if at is not None else None
        left_out = self._strangers.line()
        if left_out is not None:
            _log.warning(
                "web.refused",
                why=cause,
                job=place.job_id if place is not None else None,
                rank=place.rank if place is not None else None,
                method=asked.method,
                websocket=asked.upgrade,
                **({"left_out": left_out} if left_out else {}),
            )
        # What is not known now may be known soon: a 502, because Core and others repeat calls that were answered 503.
        status = error.row.http_status if error.row.http_status < 500 else 502
        return pages.told(status, error.why, html=asked.html, reload=status == 502 and asked.method == "GET")

    def _at(self, asked: Asked) -> _At:
        if len(asked.hosts) != 1:
            raise _bad("The request needs exactly one Host", "hosts")
        name, port = plain_host(asked.hosts[0])
        # An absolute target would say a second time which host is meant.
        if not name or not asked.target.startswith(b"/") or b"#" in asked.target or not asked.target.isascii():
            raise _bad("The request's address cannot be read", "address")
        if not self._site.by_path:
            place = place_of_host(name, self._site.domain)
            if place is None:
                raise _no_page()
            return _At(place, name + port, "", asked.target)
        found = place_of_path(asked.target)
        if found is None:
            raise _no_page()
        place, prefix = found
        return _At(place, name + port, prefix, asked.target[len(prefix) :])

    def _check_origin(self, asked: Asked, at: _At) -> None:
        """Only the page itself may send its session along: to a browser sibling pages are the same site, so their requests have our cookie.

        A link that is followed is no danger; whatever else another page starts is, and so is a page in another one's frame. Browsers of
        today say who asks; of older ones, and of WebSockets, the Origin is all there is.
        """
        at_top = asked.fetch_mode == b"navigate" and asked.fetch_dest in {b"document", b""}
        followed = at_top and asked.method in {"GET", "HEAD"} and not asked.upgrade
        if asked.fetch_site in {b"same-site", b"cross-site"} and not followed:
            raise _Refusal(GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _FOREIGN), "foreign_page")
        if asked.fetch_site and not asked.upgrade:
            return
        own = f"{self._site.scheme}://{at.host}".encode()
        if any(origin.strip().lower() != own for origin in asked.origins):
            raise _Refusal(GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _FOREIGN), "foreign_origin")

    async def _open(self, asked: Asked, at: _At, cookies: Cookies) -> Page:
        """The address that UCloud sends a user to: swapped for a cookie once, and then only good with that cookie."""
        secret = at.target.removeprefix(OPEN.encode()).partition(b"?")[0]
        if not at.target.startswith(OPEN.encode()) or not is_secret(secret):
            raise _no_page()
        if asked.method != "GET" or asked.upgrade:
            # A look at the address (HEAD) must not use it up.
            raise _Refusal(GatewayError(errors_pb2.ERROR_REASON_WRONG_VERB, "This address takes GET"), "verb")
        home = f"{at.prefix}/"
        try:
            redeemed = await self._sessions.redeem(secret.decode(), WEB, at.place.job_id, at.place.rank)
        except GatewayError as error:
            if error.row.reason != errors_pb2.ERROR_REASON_SESSION_UNKNOWN or not cookies.session:
                raise
            await self._authorize(_secret_of(cookies), at.place)
            return pages.redirect(home, None)
        _log.info("web.opened", job=at.place.job_id, rank=at.place.rank, session=redeemed.session.id)
        return pages.redirect(home, set_cookie(self._site.cookie, redeemed.cookie_secret, home))

    async def _authorize(self, secret: str, place: Place) -> pb2.AuthorizeResponse:
        return await self._sessions.authorize(secret, WEB, place.job_id, place.rank)


def _secret_of(cookies: Cookies) -> str:
    if len(cookies.session) == 0:
        raise _Refusal(GatewayError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, _NO_COOKIE), "no_cookie")
    if len(cookies.session) > 1:
        # One was planted by somebody; which one nobody can tell.
        raise _Refusal(unknown(), "several_cookies")
    found = cookies.session[0]
    if not is_secret(found):
        raise _Refusal(unknown(), "no_secret")
    return found.decode()


def _bad(why: str, cause: str) -> _Refusal:
    return _Refusal(GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, why), cause)


def _no_page() -> _Refusal:
    return _Refusal(GatewayError(errors_pb2.ERROR_REASON_NO_ROUTE, _NO_PAGE), "no_page")
