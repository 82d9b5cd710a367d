"""Who may pass, as Envoy asks it (ext_authz over HTTP): the same decision as the gateway's own way, in the words of its filter.

`{method} /authz{path as it came}` with the request's Host, cookies and origin, no body. 200 = go on, with the target as `x-serai-target`
and the Host for the application as `x-serai-host`, which Envoy takes into its metadata and never into the request (facts on Envoy §3).
What is not 200 goes to the client as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serai_gateway.access import Access, Answered
from serai_gateway.http import Receive, Scope, Send
from serai_gateway.web.decision import Asked, Decisions
from serai_gateway.web.pages import Page
from serai_gateway.web.proxy import authority

PREFIX = b"/authz"


class Authz:
    """An ASGI application, for a Unix socket that Envoy alone can open."""

    def __init__(self, decisions: Decisions, access: Access | None, ticks: Callable[[], int] = time.perf_counter_ns) -> None:
        self._decisions = decisions
        self._access = access
        self._ticks = ticks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"connections of type {scope['type']} are not served")
        started = self._ticks()
        method = scope.get("method", "")
        query = scope.get("query_string", b"")
        path = scope.get("raw_path", b"").removeprefix(PREFIX)
        outcome = await self._decisions.decide(Asked.of(method, path + (b"?" + query if query else b""), scope.get("headers", ())))
        if isinstance(outcome, Page):
            status, body = outcome.status, outcome.body
            headers = [(name.encode(), value.encode("latin-1")) for name, value in outcome.headers if name != "content-length"]
        else:
            status, body = 200, b""
            headers = [
                (b"x-serai-target", authority(outcome.address, outcome.port).encode()),
                (b"x-serai-host", outcome.host.encode()),
                (b"x-serai-place", f"job {outcome.place.job_id}, rank {outcome.place.rank}".encode()),
                # With nothing left Envoy must be told to take the header away.
                (b"cookie", outcome.cookie) if outcome.cookie is not None else (b"x-envoy-auth-headers-to-remove", b"cookie"),
            ]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        if self._access is not None:
            self._access.add(Answered(method, "authz", status, self._ticks() - started))
