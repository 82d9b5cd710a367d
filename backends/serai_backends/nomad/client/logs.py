"""What Nomad has of a task's output. It may be less than was written: its copy of a container's output is lossy, a rotated file
is gone, and offsets count from the oldest file that is left (facts: nomad-tried §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.errors import JobNotThere
from serai_backends.model import LogChunk
from serai_backends.nomad.client.errors import Answered, Asked, unreachable
from serai_backends.nomad.client.streams import CHUNK_BYTES, FAILURES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from serai_backends.model import Stream
    from serai_backends.nomad.client.streams import Streams


async def read(streams: Streams, alloc_id: str, task: str, stream: Stream, offset: int) -> AsyncGenerator[LogChunk]:
    """See NomadClient.log."""
    params = {"task": task, "type": stream.value, "plain": "true", "origin": "start", "offset": str(offset), "follow": "false"}
    try:
        async with streams.get(f"client/fs/logs/{alloc_id}", list(params.items())) as response:
            while True:
                try:
                    data = await response.content.readany()
                except FAILURES as error:
                    raise unreachable(error, streams.access.address) from error
                if not data:
                    return
                for at in range(0, len(data), CHUNK_BYTES):
                    chunk = LogChunk(offset, data[at : at + CHUNK_BYTES])
                    offset += len(chunk.data)
                    yield chunk
    except Answered as answer:
        if answer.status == 404 and "not started yet" in answer.text:
            return
        if answer.says_missing or "unknown task name" in answer.text:
            raise JobNotThere(alloc_id) from None
        raise streams.trouble(answer, Asked(f"GET /v1/client/fs/logs/{alloc_id}", "read-logs")) from None
