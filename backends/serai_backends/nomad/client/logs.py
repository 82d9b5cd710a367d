"""What Nomad has of a task's output. It may be less than was written: its copy of a container's output is lossy, a rotated file
is gone, and offsets count from the oldest file that is left (facts: nomad-tried §6)."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import LogChunk
from serai_backends.nomad.client.errors import Answered, Asked, unreachable
from serai_backends.nomad.client.streams import CHUNK_BYTES, FAILURES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from serai_backends.model import Stream
    from serai_backends.nomad.client.streams import Streams


_FRAME_END = b"}"
"""Frames come one after the other with nothing between them, and no value in one has a brace."""


class _Frame(msgspec.Struct, frozen=True, rename="pascal"):
    file: str = ""
    """`alloc/logs/{task}.{stream}.{number}`, the number 0 until a file was full; empty = a sign of life."""
    offset: int = 0
    """In this file, after the frame's last byte."""


_FRAME = msgspec.json.Decoder(_Frame)


async def read(streams: Streams, alloc_id: str, task: str, stream: Stream, offset: int) -> AsyncGenerator[LogChunk]:
    """See NomadClient.log."""
    params = {"task": task, "type": stream.value, "plain": "true", "origin": "start", "offset": str(offset), "follow": "false"}
    async with aclosing(_answer(streams, alloc_id, params)) as parts:
        async for data in parts:
            for at in range(0, len(data), CHUNK_BYTES):
                chunk = LogChunk(offset, data[at : at + CHUNK_BYTES])
                offset += len(chunk.data)
                yield chunk


async def size(streams: Streams, alloc_id: str, task: str, stream: Stream) -> int:
    """See NomadClient.log_size. Told by the frame of the last byte. Nomad does not tell the sizes of full files to who may read logs
    only, so a log of several is read through (it has a bound, see LogConfig in jobfile/job.py)."""
    last = await _frame_of_last_byte(streams, alloc_id, task, stream)
    if last is None:
        return 0
    if last.file.endswith(".0"):
        return last.offset
    found = 0
    async with aclosing(read(streams, alloc_id, task, stream, 0)) as chunks:
        async for chunk in chunks:
            found += len(chunk.data)
    return found


async def _frame_of_last_byte(streams: Streams, alloc_id: str, task: str, stream: Stream) -> _Frame | None:
    """None = there is no byte."""
    params = {"task": task, "type": stream.value, "origin": "end", "offset": "1", "follow": "false"}
    begun = b""
    async with aclosing(_answer(streams, alloc_id, params)) as parts:
        async for data in parts:
            *frames, begun = (begun + data).split(_FRAME_END)
            for text in frames:
                frame = _decoded(streams, alloc_id, text + _FRAME_END)
                if frame.file:
                    return frame
    return None


def _decoded(streams: Streams, alloc_id: str, text: bytes) -> _Frame:
    try:
        return _FRAME.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendUnavailable(f"the answer of {streams.access.address} to {_asked(alloc_id).what} is not Nomad's") from error


def _asked(alloc_id: str) -> Asked:
    return Asked(f"GET /v1/client/fs/logs/{alloc_id}", "read-logs")


async def _answer(streams: Streams, alloc_id: str, params: dict[str, str]) -> AsyncGenerator[bytes]:
    """The body as it comes; nothing when the task has not started. Raises JobNotThere when Nomad has no such log (any longer)."""
    try:
        async with streams.get(f"client/fs/logs/{alloc_id}", list(params.items())) as response:
            while True:
                try:
                    data = await response.content.readany()
                except FAILURES as error:
                    raise unreachable(error, streams.access.address) from error
                if not data:
                    return
                yield data
    except Answered as answer:
        if answer.status == 404 and "not started yet" in answer.text:
            return
        if answer.says_missing or "unknown task name" in answer.text:
            raise JobNotThere(alloc_id) from None
        raise streams.trouble(answer, _asked(alloc_id)) from None
