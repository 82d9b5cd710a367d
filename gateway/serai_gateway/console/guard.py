"""Who may use the console: the holder of a console session's cookie, from our own pages only.

Applications' pages may be of the same site as ours (`app-1-0.apps.example.org` beside `provider.example.org`), so a browser sends our
cookie when one of them asks, and SameSite alone is no wall. What browsers say of the asking page, Origin and Sec-Fetch-Site, is one: a
page can neither set them nor leave them out.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from serai.core.v1 import errors_pb2
from serai.sessions.v1 import sessions_service_pb2 as pb2

from serai_gateway import errors
from serai_gateway.errors import GatewayError
from serai_gateway.http import Headers
from serai_gateway.upstream import CALLER, HOLDER, SESSIONS, Upstream, UpstreamError
from serai_gateway.web.cookies import take_apart

COOKIE = "serai-console"
OPERATOR = {CALLER: "console"}
"""Metadata of calls for an operator who is logged in."""
LOG_IN = "You are not logged in here, or no longer. Run serai console on the provider's machine and open the address that it prints"
_FOREIGN = "This call is for the console's own pages; it came from another page"
_UNSAID = "Your browser does not say which page makes this call, so it is not done. Use a newer browser"


def header(headers: Headers, name: bytes) -> str | None:
    """Its value; None = not there, or there more than once, or no ASCII."""
    found = [value for given, value in headers if given == name]
    if len(found) != 1:
        return None
    return found[0].decode("ascii", "replace")


def check_source(headers: Headers, *, changing: bool) -> None:
    """GatewayError unless the asking page is one of ours. `changing`: it must also say so, as all browsers do for such a call."""
    origins = [value for name, value in headers if name == b"origin"]
    site = header(headers, b"sec-fetch-site")
    if origins and not _is_here(header(headers, b"origin"), header(headers, b"host")):
        raise GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _FOREIGN)
    # "none": typed by the person.
    if site not in (None, "same-origin") and not (site == "none" and not changing):
        raise GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _FOREIGN)
    if changing and not origins and site is None:
        raise GatewayError(errors_pb2.ERROR_REASON_FORBIDDEN, _UNSAID)


def _is_here(origin: str | None, host: str | None) -> bool:
    if not origin or not host:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def cookie_of(headers: Headers) -> str | None:
    """The console's own cookie; None = there is none, or something that is none."""
    found = take_apart((value for name, value in headers if name == b"cookie"), COOKIE).session
    # Two of them: a page of this site put one beside ours.
    return found[0].decode("latin-1") if len(found) == 1 else None


def set_cookie(secret: str, *, secure: bool) -> bytes:
    """The header's value; an empty secret takes the cookie away."""
    made = SimpleCookie()
    try:
        made[COOKIE] = secret
    except CookieError as error:
        raise ValueError("a cookie cannot hold this secret") from error
    morsel = made[COOKIE]
    morsel["path"], morsel["httponly"], morsel["samesite"], morsel["secure"] = "/console", True, "Strict", secure
    if not secret:
        morsel["max-age"] = "0"
    return morsel.OutputString().encode("ascii")


class Guard:
    """Asks the server, at each call, whether the cookie's session goes on."""

    def __init__(self, upstream: Upstream, timeout_s: float) -> None:
        self._upstream = upstream
        self._timeout_s = timeout_s

    async def redeem(self, secret: str) -> str:
        """The cookie for an address that `serai console` printed. GatewayError when it does not hold."""
        request = pb2.RedeemRequest(secret=secret, kind=pb2.SESSION_KIND_CONSOLE)
        answer = await self._ask("Redeem", request.SerializeToString())
        return pb2.RedeemResponse.FromString(answer).cookie_secret

    async def authorize(self, headers: Headers) -> pb2.Session:
        """The operator's session. GatewayError for anybody else."""
        request = pb2.AuthorizeRequest(secret=self.secret(headers), kind=pb2.SESSION_KIND_CONSOLE)
        answer = await self._ask("Authorize", request.SerializeToString())
        return pb2.AuthorizeResponse.FromString(answer).session

    def secret(self, headers: Headers) -> str:
        """That of the cookie. GatewayError when there is none."""
        secret = cookie_of(headers)
        if not secret:
            raise GatewayError(errors_pb2.ERROR_REASON_UNAUTHENTICATED, LOG_IN)
        return secret

    async def _ask(self, method: str, request: bytes) -> bytes:
        try:
            return await self._upstream.unary(SESSIONS + method, request, HOLDER, self._timeout_s)
        except UpstreamError as error:
            raise in_words(error) from error


def in_words(error: UpstreamError) -> Exception:
    """The server's refusal for a person at the console; what may not be told stays the error that it is."""
    told = errors.from_status(error.status)
    if told is None:
        return error
    if told.row.reason == errors_pb2.ERROR_REASON_SESSION_UNKNOWN:
        return GatewayError(errors_pb2.ERROR_REASON_SESSION_UNKNOWN, LOG_IN)
    return told
