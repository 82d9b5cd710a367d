"""One JSON line for each request and each WebSocket: method, path template, status, time, bytes. No bodies, no tokens, no user's path.

A log call in the usual way would cost more than the rest of a small request, so lines are gathered and written together, a quarter of a
second later at most. A kill loses those lines and nothing else.

Whoever comes without Core's token can come as often as they like, and would fill the disk: of those there are only so many lines a minute,
fewer of those who are refused, and the next one says how many were left out. They are all counted (docs/metrics.md).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from serai_telemetry.quiet import Quiet

from serai_gateway.clock import Clock
from serai_gateway.routes import ROUTES

_GATHER_S = 0.25
_GATHER_LINES = 2_000
_OTHERS = 300
"""Lines a minute of requests without Core's token that were not refused: pages, users, WebSockets, whoever asks for our health."""
_WITH_CORES_TOKEN = frozenset(route.path for route in ROUTES if route.ingoing and not route.open and not route.users)


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
    timestamp: str
    status: int
    ms: float
    method: str
    path: str
    level: str
    event: str
    error_id: str | None = None
    received_bytes: int | None = None
    """Of a WebSocket's messages."""
    sent_bytes: int | None = None
    left_out: int = 0
    """Requests of strangers before this one that have no line: of those who are refused when it is one, else of the others."""


class Answered(msgspec.Struct, gc=False, frozen=True):
    """A request that was answered, or a WebSocket that has ended. Each create makes one, so it is of the kind that costs least."""

    method: str
    """HTTP's, or "WEBSOCKET"."""
    path: str
    """The route's template, or a word for what has none."""
    status: int
    took_ns: int
    error_id: str | None = None
    """Under which our log has more; None = nothing failed."""
    carried: tuple[int, int] | None = None
    """Bytes that a WebSocket received and sent; None = it was none, or never opened."""
    reason: str = ""
    """Of the table of errors; empty = none."""


class Access(Protocol):
    """Whoever is told of each request: the log, and who counts them."""

    def add(self, answered: Answered) -> None: ...


def _write_stderr(lines: bytes) -> None:
    sys.stderr.write(lines.decode())
    sys.stderr.flush()


class AccessLog:
    """Gathers lines; `close` writes what is left."""

    def __init__(self, clock: Clock, *, write: Callable[[bytes], None] = _write_stderr, strangers: Quiet | None = None) -> None:
        """`write` takes whole lines of JSON, each with its end; `strangers`: how many of their refusals are told, None = as usual."""
        self._refused = strangers or Quiet()
        self._others = Quiet(_OTHERS)
        self._clock = clock
        self._write = write
        self._lines: list[tuple[int, Answered, int]] = []
        """Each with its time in ms and what was left out before it."""
        self._timer: asyncio.TimerHandle | None = None
        self._encoder = msgspec.json.Encoder()

    def add(self, answered: Answered) -> None:
        """A line has no reason of its own, for its status says what is wrong."""
        left_out = 0 if _is_cores(answered) else (self._refused if 400 <= answered.status < 500 else self._others).line()
        if left_out is None:
            return
        self._lines.append((self._clock.now_ms(), answered, left_out))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._flush)
        elif len(self._lines) >= _GATHER_LINES:
            self._flush()

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write(self._encode(lines))

    def _encode(self, lines: list[tuple[int, Answered, int]]) -> bytes:
        found: list[_Line] = []
        last_ms, timestamp = -1, ""
        for at_ms, of, left_out in lines:
            if at_ms != last_ms:  # many requests share a millisecond
                last_ms, timestamp = at_ms, datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
            level = "info" if of.status < 500 else "error"
            ms = of.took_ns // 1_000 / 1_000
            line = _Line(timestamp, of.status, ms, of.method, of.path, level, "request", of.error_id, left_out=left_out)
            if of.carried is not None:
                line.received_bytes, line.sent_bytes = of.carried
            found.append(line)
        return self._encoder.encode_lines(found)


def _is_cores(of: Answered) -> bool:
    """As far as can be seen: calls of Core that were refused for another reason than their token were Core's."""
    return of.status != 401 and of.path in _WITH_CORES_TOKEN
