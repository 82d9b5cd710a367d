"""A client's connection, as far as ASGI does not tell: the target as it came, its loss at once, and how to cut it.

The HTTP protocol (`serai_gateway.protocol`) makes one for each connection on which an application's page is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from uvicorn.server import ServerState

from serai_gateway.http import Headers, Scope

_CONNECTION = "serai.connection"
_TARGET = "serai.target"


class Connection:
    """One connection; requests on it come one after the other."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.gone = False
        """The client has left, or was cut off."""
        self.on_lost: Callable[[], None] | None = None
        """Called once when that happens."""

    def cut(self) -> None:
        """Ends it at once, whatever is under way."""
        self._transport.abort()

    def lost(self) -> None:
        """The protocol says that it has ended."""
        self.gone = True
        if self.on_lost is not None:
            self.on_lost()

    def put_into(self, scope: Scope, target: bytes) -> None:
        """Marks a request as one for a page; `target` as it came."""
        scope["extensions"] = {_CONNECTION: self, _TARGET: target}


def is_for_page(scope: Scope) -> bool:
    """Whether the protocol has marked the request."""
    extensions = scope.get("extensions")
    return extensions is not None and _CONNECTION in extensions


def connection_of(scope: Scope) -> Connection:
    return cast("Connection", (scope.get("extensions") or {})[_CONNECTION])


def target_of(scope: Scope) -> bytes:
    """Path and query as they came."""
    return cast("bytes", (scope.get("extensions") or {})[_TARGET])


class Pages(Protocol):
    """Who serves applications' pages, as the HTTP protocol sees it."""

    def wants(self, path: str, headers: Headers) -> bool:
        """Whether it is a request for an application's page. `path` percent-decoded, headers' names in lower case; must be quick."""
        ...

    def tunnel(self, transport: asyncio.Transport, target: bytes, headers: Headers, state: ServerState) -> None:
        """Takes over the connection of a WebSocket's handshake, which is good as such. `target` as it came."""
        ...
