"""WebSocket connections with bounds of their own: size of a message, pieces of a message, and what is said of them in logs.

uvicorn speaks the protocol (RFC 6455); it has one set of limits for all paths, and it logs addresses with their query, which here may be
secrets. A client that has shown no token must not be able to keep memory either, so each path says how long a message may be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from serai_gateway.http import Headers

MOST_PIECES = 4_096
"""Frames of one message: empty ones cost memory and do not count for its size. Core of 2026 sends 4 KiB in each (facts today §8)."""
PING_EVERY_S = 10.0
"""A client that is gone without a word (a laptop that was shut) keeps its user out of their own shell until it is noticed. Also keeps
proxies in between from taking a silent connection for a dead one."""
ANSWER_WITHIN_S = 20.0
"""The ping waits behind what is under way; on a slow line that is up to some MiB in the buffers of kernels and proxies."""
STOP_S = 2.0
"""After a stop of ours, or when the client broke the rules: what has not gone out then is dropped with the connection."""
LAST_WORDS_S = 60.0
"""After a close: a slow client may still read what was sent before it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the connections of a path."""

    most_bytes: int
    """Bytes of one message from the client; a longer one ends the connection (1009)."""
    answers_pings: bool = True
    """Its clients answer a ping, so one that does not is gone. Core of 2021 does not answer: it reads the frames raw (facts 2021 §3.2)."""


Find = Callable[[str, Headers], Rules | None]
"""Path (percent-decoded) and headers (names in lower case) of a handshake to its rules; None = nothing here takes it."""

# Errors only: the lower levels write whole addresses.
_quiet = logging.getLogger("uvicorn.error.sockets")
_quiet.setLevel(logging.ERROR)
# uvicorn's words for a handshake that was refused with an answer of its own, which the access log has, and for a client's broken text,
# which the client is told with the close: anybody could fill the log with them.
_UNSAID = ("without completing handshake", "Invalid UTF-8 sequence")
_quiet.addFilter(lambda record: not any(words in str(record.msg) for words in _UNSAID))


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection. uvicorn makes it; `rules` is set before the handshake is handed to it."""

    rules = Rules(most_bytes=64 * 1024)
    _drop: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.logger = _quiet
        self.conn.logger, self.conn.debug = _quiet, False
        self.conn.max_message_size = self.rules.most_bytes
        self.ping_interval = PING_EVERY_S
        self.ping_timeout = ANSWER_WITHIN_S if self.rules.answers_pings else None
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._drop is not None:
            self._drop.cancel()
        super().connection_lost(exc)

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > MOST_PIECES and not self.close_sent:
            self.frames = []
            self.conn.fail(1009, "message in too many pieces")
            self.handle_parser_exception()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            self._drop_after(self.close_timeout + LAST_WORDS_S)

    def shutdown(self) -> None:
        super().shutdown()
        self._drop_after(STOP_S)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._drop_after(STOP_S)

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:
            # The handshake is not answered yet, so there is no WebSocket on which a close frame could go, and nobody to accept or refuse
            # any more: the marks that uvicorn sets when a connection is lost, which it hears of only in the loop's next round.
            self.disconnected = self.handshake_complete = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1002})
            self.transport.close()
        else:
            super().handle_parser_exception()
        self._drop_after(STOP_S)

    def _drop_after(self, seconds: float) -> None:
        """uvicorn closes softly: a client that does not read what is under way would keep its connection for ever."""
        if self._drop is None:
            self._drop = self.loop.call_later(seconds, self.transport.abort)
        elif self._drop.when() > self.loop.time() + seconds:
            self._drop.cancel()
            self._drop = self.loop.call_later(seconds, self.transport.abort)
