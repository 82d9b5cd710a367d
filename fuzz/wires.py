"""One connection with whatever bytes on it: write, see what comes, leave. For what no client library would say."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

QUIET_S = 0.08
"""After so long without a byte from the server it is taken to have said what it has to say."""
LEAVE_S = 30.0
"""Longest that the server may keep a connection that its client has left."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """What the server said."""

    content: bytes
    left: bool
    """The connection ended in time."""

    @property
    def statuses(self) -> list[int]:
        """Of all answers."""
        return [int(found) for found in _STATUS.findall(self.content)]


async def say(port: int, pieces: list[bytes], *, quiet_s: float = QUIET_S, cut: bool = False) -> Said:
    """`pieces` are sent one after the other, in reads of their own where the server is quick. `cut`: the connection is reset without a word
    when they are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_MOST_BYTES)
    try:
        writing = asyncio.create_task(_write(writer, pieces))
        content = b"" if cut else await _until_quiet(reader, writing, quiet_s)
        await _ended(writing)
        if cut:
            writer.transport.abort()
            return Said(b"", left=True)
        try:
            async with asyncio.timeout(LEAVE_S):
                content += await _rest(reader, writer)
        except TimeoutError:
            return Said(content, left=False)
        return Said(content, left=True)
    finally:
        writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # not a wait: gives the kernel a write of its own for each piece
    except OSError:
        return  # the server has ended it, as it may


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _until_quiet(reader: asyncio.StreamReader, writing: asyncio.Task[None], quiet_s: float) -> bytes:
    content = b""
    while len(content) < _MOST_BYTES:
        try:
            async with asyncio.timeout(quiet_s):
                data = await reader.read(65_536)
        except TimeoutError:
            if writing.done():
                break
            continue
        except OSError:
            break
        if not data:
            break
        content += data
    return content


async def _rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    content = b""
    try:
        if not writer.transport.is_closing():
            writer.write_eof()
        while data := await reader.read(65_536):
            content = (content + data)[-_MOST_BYTES:]
    except OSError:
        pass
    return content
