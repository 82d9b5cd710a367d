"""Nomad's event stream: one JSON object a line, `{}` as heartbeat at once and then each 30 s.

Lines are cut here, not by aiohttp, whose longest line is too short: above 512 KiB were seen (facts: nomad-tried §0.6). One index may come
as two lines. The end of the stream is never told from a lost connection, and Nomad says nothing of what it no longer has: whoever reads
this has to list everything after each connect.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from serai_backends.errors import BackendUnavailable
from serai_backends.nomad import wire
from serai_backends.nomad.client.errors import Answered, Asked, unreachable
from serai_backends.nomad.client.streams import FAILURES, end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from serai_backends.nomad.client.streams import Clock, Streams

TOPICS = ("Allocation", "Evaluation", "Job", "Node")
LONGEST_LINE = 64 << 20
_NEED = 'read-job in the namespace and node { policy = "read" }'


@dataclass(frozen=True, slots=True)
class Event:
    topic: str
    """Allocation, Evaluation, Job, Node."""
    type: str
    """Such as AllocationUpdated, PlanResult, JobDeregistered, NodeDrain."""
    key: str
    """Id of the thing."""
    index: int
    allocation: wire.Allocation | None = None
    evaluation: wire.Evaluation | None = None
    job: wire.Job | None = None
    node: wire.Node | None = None


@dataclass(frozen=True, slots=True)
class EventBatch:
    """One line."""

    index: int
    """0 = a heartbeat."""
    events: tuple[Event, ...] = ()


class _Payload(msgspec.Struct, rename="pascal"):
    allocation: wire.Allocation | None = None
    evaluation: wire.Evaluation | None = None
    job: wire.Job | None = None
    node: wire.Node | None = None


class _Event(msgspec.Struct, rename="pascal"):
    topic: str = ""
    type: str = ""
    key: str = ""
    index: int = 0
    payload: _Payload | None = None


class _Line(msgspec.Struct, rename="pascal"):
    index: int = 0
    events: list[_Event] | None = None


_LINE = msgspec.json.Decoder(_Line)


class Lines:
    """Cuts chunks of bytes, wherever they end, into lines."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._held: list[bytes] = []
        self._size, self._longest = 0, longest

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends; empty ones are left out. Raises ValueError for one that is too long."""
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._held, whole[0]))
            self._held, self._size = [], 0
        self._held.append(rest)
        self._size += len(rest)
        if self._size > self._longest:
            raise ValueError("a line is too long")
        return [line for line in whole if line.strip()]


async def follow(streams: Streams, index: int, silence_ms: int) -> AsyncGenerator[EventBatch]:
    """See NomadClient.events."""
    params = [("index", str(index)), *(("topic", topic) for topic in TOPICS)]
    try:
        async with streams.get("event/stream", params, events=True) as response:
            silence = _Silence(response, streams.clock, int(streams.timeout_s * 1000))
            try:
                async for batch in _batches(streams, response, silence, silence_ms):
                    yield batch
            finally:
                await silence.end()
    except Answered as answer:
        raise streams.trouble(answer, Asked("GET /v1/event/stream", _NEED)) from None


async def _batches(streams: Streams, response: aiohttp.ClientResponse, silence: _Silence, silence_ms: int) -> AsyncGenerator[EventBatch]:
    lines, anything = Lines(), False
    while True:
        try:
            silence.begin()
            chunk = await response.content.readany()
            silence.pause()
        except FAILURES as error:
            if silence.over and not anything:
                break
            if silence.over:
                raise BackendUnavailable(f"Nomad's event stream was silent for {silence.ms // 1000} s") from None
            raise unreachable(error, streams.access.address) from error
        if not chunk:
            break
        anything, silence.ms = True, silence_ms
        try:
            for line in lines.feed(chunk):
                yield _batch(line)
        except (ValueError, msgspec.DecodeError) as error:
            raise BackendUnavailable(f"the event stream of {streams.access.address} is not Nomad's: {error}") from error
    if anything:
        raise BackendUnavailable("Nomad's event stream ended")
    # with ACLs on, Nomad answers 200 and nothing more to those who may not read it; to others the first heartbeat comes at once
    token = streams.access.token.source
    have = (
        f"the token of {token} needs {_NEED}" if token else f"are its ACLs on? Then set token_file or NOMAD_TOKEN to a token with {_NEED}"
    )
    raise BackendUnavailable(f"Nomad opened the event stream and said nothing on it: {have}")


def _batch(line: bytes) -> EventBatch:
    read = _LINE.decode(line)
    return EventBatch(read.index, tuple(_event(event) for event in read.events or ()))


def _event(read: _Event) -> Event:
    payload = read.payload or _Payload()
    return Event(read.topic, read.type, read.key, read.index, payload.allocation, payload.evaluation, payload.job, payload.node)


class _Silence:
    """Closes a connection on which nothing came for `ms` while somebody waited for it."""

    def __init__(self, response: aiohttp.ClientResponse, clock: Clock, ms: int) -> None:
        self._response, self._clock, self.ms = response, clock, ms
        self._since: int | None = None
        self.over = False
        self._task = asyncio.create_task(self._watch())

    def begin(self) -> None:
        self._since = self._clock.now_ms()

    def pause(self) -> None:
        self._since = None

    async def end(self) -> None:
        await end(self._task)

    async def _watch(self) -> None:
        while True:
            left = self.ms if self._since is None else self._since + self.ms - self._clock.now_ms()
            if left <= 0:
                self.over = True
                self._response.close()
                return
            await self._clock.sleep(left / 1000)
