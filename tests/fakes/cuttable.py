"""A way over TCP that can be cut and mended, for what people do when a connection breaks under them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Cuttable:
    """Listens on a port of its own and passes everything on to another one, until it is cut."""

    def __init__(self, port: int) -> None:
        """`port`: where it leads to, on this machine."""
        self.port = 0
        """Its own."""
        self.refused = 0
        """Connections that came while it was cut."""
        self._to = port
        self._cut = False
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Every connection breaks, and new ones break at once."""
        self._cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            there, to = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()  # nobody is there, so nobody is here
            return
        both = {writer, to}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, to))
                group.create_task(_pass_on(there, writer))
        finally:
            self._open -= both
            for end in both:
                end.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


@asynccontextmanager
async def cuttable(port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Cuttable]:
    """`tls`: it is spoken up to here, and no further; None = not at all."""
    way = Cuttable(port)
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(way.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
