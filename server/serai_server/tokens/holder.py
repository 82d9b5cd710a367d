"""Whoever was let in at the tools' door: what they may do, and the streams that end when they no longer may."""

from __future__ import annotations

import asyncio

from serai_server.store.token_model import Role


class Holder:
    """Of a token, or of a client certificate. One for all calls that it makes."""

    def __init__(self, who: str, role: Role, project: str, expires_at_ms: int = 0) -> None:
        self.who = who
        """For logs and for `created_by`: the token's id, or `certificate {name}`."""
        self.role = role
        self.project = project
        """Empty = not limited to one."""
        self.expires_at_ms = expires_at_ms
        """0 = it does not."""
        self.over = ""
        """Why it is refused, in words for people; empty = it is not."""
        self.streams: set[asyncio.Task[object]] = set()
        """Tasks that answer a stream of its own."""

    def end(self, why: str) -> None:
        """From now on refused; its streams are cancelled. The first reason stays."""
        if not self.over:
            self.over = why
            for task in self.streams:
                task.cancel()
