"""Sockets over which Core of 2021 follows jobs: one for each provider and user, with all of that user's follows on it.

facts 2021 §3: the token is in each frame, the user in a header as plain text; frames of unknown streams and without a payload that is an
object are dropped, and so are pings; a socket that is lost answers every open stream with 499; nobody cancels a stream, the whole socket
is closed instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import dataclass, field
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from serai_devcore.wire import Json, JsonObject

LOST = 499
"""What a stream gets when its socket ends."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame of the provider."""

    payload: Json
    status: int | None = None
    """None = a message, of which more may follow; else the stream's last word."""


@dataclass(slots=True)
class FollowSocket:
    """One of the pool."""

    connection: ClientConnection
    streams: dict[str, asyncio.Queue[Heard]] = field(default_factory=dict[str, "asyncio.Queue[Heard]"])
    reading: asyncio.Task[None] | None = None
    lost: bool = False

    async def read(self) -> None:
        """Gives each frame to its stream, until the socket ends."""
        with contextlib.suppress(ConnectionClosed):
            async for message in self.connection:
                frame = _object(message)
                stream = self.streams.get(str(frame.get("streamId"))) if frame is not None else None
                if frame is not None and stream is not None and isinstance(frame.get("payload"), dict):
                    stream.put_nowait(_heard(frame))
        self.lost = True
        for stream in self.streams.values():
            stream.put_nowait(Heard({"why": "the connection is closed", "errorCode": None}, LOST))

    async def close(self) -> None:
        """The end of every follow on it."""
        self.lost = True
        await self.connection.close()
        if self.reading is not None:
            await asyncio.wait({self.reading})


class FollowSockets:
    """The pool."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, str], FollowSocket] = {}
        self._turn = asyncio.Lock()
        self._ids = itertools.count()

    def new_id(self) -> str:
        """Of a stream: counted from 0 for the whole process."""
        return str(next(self._ids))

    async def get(self, url: str, username: str, *, timeout_s: float) -> FollowSocket:
        """The user's socket at this provider, a new one when there is none or it was lost. Raises what `connect` does."""
        async with self._turn:
            known = self._sockets.get((url, username))
            if known is not None and not known.lost:
                return known
            connection = await connect(
                url,
                additional_headers={"UCloud-Username": username},
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=timeout_s,
                close_timeout=1,
                max_size=1 << 24,
            )
            made = self._sockets[url, username] = FollowSocket(connection)
            made.reading = asyncio.create_task(made.read(), name="devcore-follow")
            return made

    async def close(self) -> None:
        for socket in self._sockets.values():
            await socket.close()
        self._sockets.clear()


def _object(message: str | bytes) -> JsonObject | None:
    try:
        value: object = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        return None
    return cast("JsonObject", value) if isinstance(value, dict) else None


def _heard(frame: JsonObject) -> Heard:
    if frame.get("type") != "response":
        return Heard(frame["payload"])
    status = frame.get("status")
    return Heard(frame["payload"], status if isinstance(status, int) else 500)
