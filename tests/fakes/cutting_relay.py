"""A Unix socket in front of another one that cuts every connection from time to time: the way from gateway to server on a bad day."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


class CuttingRelay:
    def __init__(self, behind: Path | int) -> None:
        """`behind`: the other Unix socket, or a port of this machine."""
        self._behind = behind
        self._open: set[asyncio.StreamWriter] = set()
        self._work: set[asyncio.Task[None]] = set()
        self.cuts = 0
        """Times at which something was cut."""
        self.cut_bytes = 0
        """That had passed when they were cut, of all connections."""
        self._passed = 0

    @property
    def passed(self) -> int:
        """Bytes from the server."""
        return self._passed

    def cut(self) -> None:
        """Every connection, at once and in the middle of whatever passes."""
        if self._open:
            self.cuts += 1
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._work.add(task)
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.close()
            self._work.discard(task)
            return
        pair = {writer, server_writer}
        self._open |= pair
        try:
            await asyncio.gather(self._pass(reader, server_writer, 0), self._pass(server_reader, writer, 1))
        finally:
            self._open -= pair
            for end in pair:
                end.transport.abort()
            self._work.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._behind, int):
            return await asyncio.open_connection("127.0.0.1", self._behind)
        return await asyncio.open_unix_connection(str(self._behind))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: int) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self._passed += counted * len(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def stop(self) -> None:
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)


@asynccontextmanager
async def cutting_relay(at: Path, behind: Path, *, every_s: float = 0) -> AsyncGenerator[CuttingRelay]:
    """Listens at `at`; cuts by itself each `every_s` seconds, or only when told to when that is 0."""
    relay = CuttingRelay(behind)
    server = await asyncio.start_unix_server(relay.serve, str(at))

    async def cutting() -> None:
        while True:
            await asyncio.sleep(every_s)
            relay.cut()

    task = asyncio.create_task(cutting()) if every_s else None
    try:
        yield relay
    finally:
        if task is not None:
            task.cancel()
        server.close()
        await relay.stop()
