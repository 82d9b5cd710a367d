"""WebSockets to the provider: everything that comes is kept, and waited for with a limit.

The library is `websockets` because it can send one message in several frames, as today's Core does (today §8).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from serai_conformance import tls
from serai_conformance.model import Broken
from serai_conformance.wire import Json, JsonObject, NotJson, dig, dump, kind_of, parse, shown, text_at

FRAME = 4096
"""Bytes of the first frame of today's Core."""


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the WebSocket was refused with {status} ({shown(body)})")
        self.status = status


@dataclass(slots=True)
class Wire:
    """One WebSocket, with all that has come."""

    connection: ClientConnection
    frames: list[Json] = field(default_factory=list[Json])
    """Text messages, parsed; one that is no JSON is kept as a text."""
    closed: bool = False
    """The provider ended it, or it broke."""
    binary: int = 0
    """Messages that were no text."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.connection:
                if isinstance(message, bytes):
                    self.binary += 1
                    continue
                try:
                    self.frames.append(parse(message))
                except NotJson:
                    self.frames.append(message)
                self._changed.set()
        self.closed = True
        self._changed.set()

    async def send(self, frame: Json, *, pieces: bool = False) -> None:
        """As one text message; `pieces`: in several frames. A connection that is gone is not this call's trouble."""
        raw = dump(frame)
        cut = [raw[at : at + FRAME] for at in range(0, len(raw), FRAME)] if pieces else raw
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(cut, text=True)

    async def send_text(self, text: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(text, text=True)

    async def until(self, found: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came to that in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not found():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def of_stream(self, stream_id: str) -> list[JsonObject]:
        """Frames of one stream."""
        return [frame for frame in self.frames if isinstance(frame, dict) and frame.get("streamId") == stream_id]

    def last_word(self, stream_id: str) -> JsonObject | None:
        """The frame that ended a stream."""
        return next((frame for frame in self.of_stream(stream_id) if frame.get("type") == "response"), None)

    async def answered(self, stream_id: str, timeout_s: float) -> JsonObject | None:
        """The last word of a stream; None = none came in time."""
        await self.until(lambda: self.last_word(stream_id) is not None or self.closed, timeout_s)
        return self.last_word(stream_id)


class _Once(connect):
    """A handshake with the provider under test and nobody else: where it sends us elsewhere, that is its answer."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@contextlib.asynccontextmanager
async def wire(
    url: str, headers: dict[str, str], *, todays: bool, timeout_s: float, trust: ssl.SSLContext | None = None
) -> AsyncGenerator[Wire]:
    """A WebSocket while the context lasts. Refused; Broken when nobody answers the handshake."""
    try:
        connection = await _Once(
            url,
            additional_headers=headers,
            user_agent_header="Go-http-client/1.1" if todays else None,
            compression=None,
            proxy=None,
            ssl=trust if url.startswith("wss:") else None,
            ping_interval=None,
            open_timeout=timeout_s,
            close_timeout=1,
            max_size=1 << 24,
        )
    except InvalidStatus as error:
        raise Refused(error.response.status_code, bytes(error.response.body or b"")) from error
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise Broken(f"the WebSocket {url.partition('?')[0]} could not be opened: {tls.words_of(error) or error}") from error
    found = Wire(connection)
    reading = asyncio.create_task(found.read())
    try:
        yield found
    finally:
        await connection.close()
        await asyncio.wait({reading})


@dataclass(slots=True)
class Follow:
    """One stream of a job's output."""

    wire: Wire
    stream_id: str
    todays: bool

    def payloads(self) -> list[JsonObject]:
        """Of its messages, in order. Frames without a payload that is an object, such as pings, are none."""
        frames = [f for f in self.wire.frames if isinstance(f, dict)] if self.todays else self.wire.of_stream(self.stream_id)
        found = [frame.get("payload") for frame in frames if self.todays or frame.get("type") != "response"]
        return [payload for payload in found if isinstance(payload, dict)]

    def text(self, rank: int, *streams: str) -> str:
        """What came of a rank's streams (`stdout`, `stderr`; none named = both)."""
        texts: list[str] = []
        for payload in self.payloads():
            if payload.get("rank") == rank:
                texts += [text_at(payload, name) for name in streams or ("stdout", "stderr")]
        return "".join(texts)

    @property
    def ended(self) -> bool:
        """The provider has said its last word: a response in 2021, the end of the connection today."""
        return self.wire.closed or (not self.todays and self.wire.last_word(self.stream_id) is not None)

    async def until_text(self, rank: int, words: str, timeout_s: float) -> None:
        """Broken when the rank does not say that in time."""
        if not await self.wire.until(lambda: words in self.text(rank) or self.ended, timeout_s) or words not in self.text(rank):
            how = "the follow ended" if self.ended else f"{timeout_s:g} s"
            heard = shown(self.text(rank).encode()) or "nothing"
            raise Broken(f"rank {rank} wrote {words!r}, and until {how} the follow showed of it: {heard}{self._last()}")

    async def until_ended(self, timeout_s: float) -> bool:
        return await self.wire.until(lambda: self.ended, timeout_s)

    def _last(self) -> str:
        word = None if self.todays else self.wire.last_word(self.stream_id)
        return "" if word is None else f" (its last word: {word.get('status')} {text_at(word, 'payload', 'why')})"


def must_have(payload: Json, keys: Sequence[tuple[str, type | tuple[type, ...]]], where: str) -> None:
    """Broken unless the object has each key with a value of the kind."""
    for key, kind in keys:
        value = dig(payload, key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise Broken(f"{where}: {key} is {kind_of(value)}")
