"""The decision by https, as in production: what tests of the whole way by plain http do not reach."""

from __future__ import annotations

from fakes.gateway_sessions import FakeSessions
from serai.sessions.v1 import sessions_service_pb2 as pb2
from serai_gateway.web.decision import Asked, Decisions, Pass
from serai_gateway.web.pages import Page
from serai_gateway.web.sessions import Sessions
from serai_gateway.web.site import Site
from serai_telemetry.quiet import Quiet
from structlog.testing import capture_logs

HOST = b"app-1-0.apps.example.org"


async def test_by_https_the_cookie_is_the_whole_hosts_and_a_plain_one_does_not_count() -> None:
    """`__Host-`: no other host can have planted it. The same secret under the name for http opens nothing."""
    sessions = FakeSessions()
    sessions.run("1", web=("10.0.0.7", 80))
    decisions = Decisions(Site("https", "apps.example.org", "", 443), Sessions(sessions, timeout_s=1.0))
    held = sessions.open(pb2.SESSION_KIND_WEB, "1")
    opened = await decisions.decide(_get(f"/.serai/open/{held.secret}"))
    assert isinstance(opened, Page)
    cookie = dict(opened.headers)["set-cookie"]
    assert cookie == f"__Host-serai-session={held.cookie}; Path=/; HttpOnly; SameSite=Lax; Secure"
    passed = await decisions.decide(_get("/x", f"__Host-serai-session={held.cookie}; serai-session={held.cookie}"))
    assert isinstance(passed, Pass)
    assert (passed.address, passed.port, passed.host, passed.cookie) == ("10.0.0.7", 80, HOST.decode(), None)
    assert held.cookie not in repr(passed)
    refused = await decisions.decide(_get("/x", f"serai-session={held.cookie}"))
    assert isinstance(refused, Page)
    assert refused.status == 401


async def test_only_https_pages_are_the_same_origin() -> None:
    """What a page by http of the same name starts is another page's."""
    sessions = FakeSessions()
    sessions.run("1", web=("10.0.0.7", 80))
    decisions = Decisions(Site("https", "apps.example.org", "", 443), Sessions(sessions, timeout_s=1.0))
    held = sessions.open(pb2.SESSION_KIND_WEB, "1")
    await decisions.decide(_get(f"/.serai/open/{held.secret}"))
    cookie = f"__Host-serai-session={held.cookie}"
    for origin, passes in ((b"https://" + HOST, True), (b"http://" + HOST, False), (b"https://" + HOST + b":444", False)):
        asked = Asked.of("GET", b"/x", [(b"host", HOST), (b"cookie", cookie.encode()), (b"origin", origin)])
        assert isinstance(await decisions.decide(asked), Pass) is passes


async def test_refusals_do_not_fill_the_log() -> None:
    """Anybody may ask for any page without end: some lines a minute say so, the next of them how many were left out."""
    now_s = [0.0]
    site, sessions = Site("https", "apps.example.org", "", 443), Sessions(FakeSessions(), timeout_s=1.0)
    decisions = Decisions(site, sessions, strangers=Quiet(2, 60.0, lambda: now_s[0]))
    with capture_logs() as lines:
        for _ in range(10):
            await decisions.decide(_get("/x"))
        now_s[0] = 60.0
        await decisions.decide(_get("/x"))
    assert [(line["why"], line.get("left_out")) for line in lines] == [("no_cookie", None), ("no_cookie", None), ("no_cookie", 8)]


def _get(target: str, cookie: str = "") -> Asked:
    headers = [(b"host", HOST), *([(b"cookie", cookie.encode())] if cookie else [])]
    return Asked.of("GET", target.encode(), headers)
