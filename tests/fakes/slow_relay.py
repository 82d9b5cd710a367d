"""A Unix socket in front of another one that takes its time with each connection: a busy machine, or one that is far away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def slow_relay(socket: Path, behind: Path, wait_s: float) -> AsyncGenerator[None]:
    """Whoever connects hears nothing for `wait_s`, and then all."""
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        await asyncio.sleep(wait_s)
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_unix_connection(str(behind))
            open_now.add(to_server)
            await asyncio.gather(_pass(reader, to_server), _pass(from_server, writer))

    server = await asyncio.start_unix_server(serve, str(socket))
    try:
        yield
    finally:
        server.close()
        for writer in open_now:
            writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
