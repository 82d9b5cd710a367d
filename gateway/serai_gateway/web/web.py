"""Applications' pages as one object: what the door, the HTTP protocol and Envoy's questions need of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from uvicorn.server import ServerState

from serai_gateway.access import Access
from serai_gateway.http import Headers, Receive, Scope, Send
from serai_gateway.web.authz import Authz
from serai_gateway.web.decision import Decisions
from serai_gateway.web.holds import Holds
from serai_gateway.web.proxy import Proxy
from serai_gateway.web.sessions import Sessions
from serai_gateway.web.site import Site
from serai_gateway.web.tunnel import Tunnels


class Web:
    """Made by `open_web`."""

    def __init__(self, site: Site, proxy: Proxy, tunnels: Tunnels, authz: Authz) -> None:
        self._suffix = f".{site.domain}".encode()
        self._by_path = site.by_path
        self._proxy = proxy
        self._tunnels = tunnels
        self.authz = authz
        """The ASGI application that answers Envoy."""

    def wants(self, path: str, headers: Headers) -> bool:
        if self._by_path:
            return path.startswith("/app/")
        # Any Host counts, and in any place of it: what is strange about it is refused by the decision, and served by nobody else.
        return any(name == b"host" and self._suffix in value.lower() for name, value in headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._proxy(scope, receive, send)

    def tunnel(self, transport: asyncio.Transport, target: bytes, headers: Headers, state: ServerState) -> None:
        self._tunnels.start(transport, target, headers, state)


@asynccontextmanager
async def open_web(site: Site, sessions: Sessions, holds: Holds, access: Access | None, connect_timeout_s: float) -> AsyncGenerator[Web]:
    """Everything for `site`, in working order until the block ends."""
    decisions = Decisions(site, sessions)
    async with Proxy(site, decisions, holds, access, connect_timeout_s=connect_timeout_s) as proxy:
        tunnels = Tunnels(site, decisions, holds, access, connect_timeout_s=connect_timeout_s)
        yield Web(site, proxy, tunnels, Authz(decisions, access))
