"""How a caller hears that the server holds their stream before its first answer, which may be hours away.

Metadata is sent when a stream was neither answered nor refused for a moment. Not at once: an error that comes right away is then sent
without metadata before it, and Envoy can still make an HTTP status of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc.aio

OPEN = (("serai-stream", "open"),)
"""grpc's client for Python does not tell of metadata that has no word of the server's own, hence this one."""

AFTER_S = 1.0
"""Longest time that an error may take to be an HTTP status."""


class Opening:
    """Of one stream; made in the task that answers it."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes], after_s: float = AFTER_S) -> None:
        self._context = context
        self._timer = asyncio.get_running_loop().call_later(after_s, self._begin)
        self._sending: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """To be awaited before anything else is sent: grpc takes one thing at a time."""
        self._timer.cancel()
        if self._sending is not None:
            await asyncio.wait((self._sending,))

    def leave(self) -> None:
        """The stream has ended, however it did."""
        self._timer.cancel()

    def _begin(self) -> None:
        self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        # A caller who has left meanwhile is told of by the end of the call.
        with suppress(grpc.aio.InternalError):
            await self._context.send_initial_metadata(OPEN)
