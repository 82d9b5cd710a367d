"""Calls the gateway's ASGI application without a network in between."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from serai_gateway.app import App


class Client:
    """Calls the app as an ASGI server does."""

    def __init__(self, app: App, token: bytes) -> None:
        self._app = app
        self._token = token
        self.headers: dict[bytes, bytes] = {}
        self.received = 0

    async def call(
        self,
        method: str,
        path: str,
        *chunks: bytes,
        headers: dict[bytes, bytes] | None = None,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> tuple[int, Any]:
        """Status and decoded body; `path` may have a query, `chunks` are the body as it comes in, `more` are further headers."""
        given = {b"authorization": self._token} if headers is None else headers
        path, _, query = path.partition("?")
        parts = list(chunks) or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            self.received += 1
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": [*given.items(), *more]}
        await self._app(scope, receive, send)  # pyright: ignore[reportArgumentType]
        start, body = sent
        self.headers = dict(start["headers"])
        assert self.headers[b"content-type"] == b"application/json"
        assert int(self.headers[b"content-length"]) == len(body["body"])
        return start["status"], json.loads(body["body"])
