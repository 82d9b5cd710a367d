"""The frames of one exec of Nomad: JSON with base64, in both directions, over a websocket (facts: nomad-tried §7)."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.nomad.client.errors import Answered, Asked, unreachable
from serai_backends.nomad.client.streams import CHUNK_BYTES, FAILURES, end

if TYPE_CHECKING:
    from serai_backends.model import TerminalSize
    from serai_backends.nomad.client.streams import Streams

KEEP_ALIVE_S = 10.0
CLOSE_S = 2.0
NEED = "alloc-exec"
_GONE = re.compile(r"unknown allocation|not found|not running|not started yet|unknown task", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|token (not found|expired|is invalid)", re.IGNORECASE)


class _Data(msgspec.Struct):
    data: bytes = b""
    """msgspec reads base64 for bytes."""


class _Result(msgspec.Struct):
    exit_code: int = 0
    """Left out by Nomad when it is 0."""


class _Frame(msgspec.Struct):
    stdout: _Data | None = None
    stderr: _Data | None = None
    exited: bool = False
    result: _Result | None = None


_FRAME = msgspec.json.Decoder(_Frame)


class Connection:
    """Made by `connect`. What is not received is not asked for either: the program then waits when it writes."""

    def __init__(self, streams: Streams, websocket: aiohttp.ClientWebSocketResponse, alloc_id: str) -> None:
        self._streams, self._websocket, self._alloc_id = streams, websocket, alloc_id
        self._beats = asyncio.create_task(self._beat())
        self.exit_code: int | None = None

    async def receive(self) -> tuple[bytes, bytes] | None:
        """What came on stdout and stderr, possibly nothing; None = the end. Raises JobNotThere and BackendUnavailable."""
        try:
            message = await self._websocket.receive()
        except FAILURES as error:
            raise unreachable(error, self._streams.access.address) from error
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise self._closed(int(message.data), str(message.extra or ""))
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            raise BackendUnavailable("the connection of the shell to its node broke")
        try:
            frame = _FRAME.decode(message.data)
        except msgspec.DecodeError as error:
            raise BackendUnavailable(f"the shell's connection to {self._streams.access.address} is not Nomad's: {error}") from error
        if frame.exited:
            self.exit_code = (frame.result or _Result()).exit_code
            return None
        return (frame.stdout or _Data()).data, (frame.stderr or _Data()).data

    async def write(self, data: bytes) -> None:
        """Returns when the connection has room for more."""
        for at in range(0, len(data), CHUNK_BYTES):
            await self._send({"stdin": {"data": data[at : at + CHUNK_BYTES]}})

    async def end_input(self) -> None:
        await self._send({"stdin": {"close": True}})

    async def resize(self, size: TerminalSize) -> None:
        await self._send({"tty_size": {"height": size.rows, "width": size.columns}})

    async def close(self) -> None:
        """Nomad ends nothing because of that."""
        await end(self._beats)
        with suppress(*FAILURES):
            # aiohttp reads until the other side has closed, which may have more to say for ever
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.close()

    async def _send(self, frame: dict[str, object]) -> None:
        try:
            await self._websocket.send_str(msgspec.json.encode(frame).decode())
        except FAILURES as error:
            raise BackendUnavailable("the connection of the shell to its node is closed") from error

    def _closed(self, code: int, text: str) -> JobNotThere | BackendUnavailable:
        if _GONE.search(text):
            return JobNotThere(self._alloc_id)
        asked = Asked(f"exec in allocation {self._alloc_id}", NEED)
        if _DENIED.search(text):
            return self._streams.trouble(Answered(403, text.encode()), asked)
        return BackendUnavailable(f"Nomad ended the shell ({code}{', ' + text if text else ''})")

    async def _beat(self) -> None:
        """Proxies cut connections on which nothing moves."""
        while True:
            await self._streams.clock.sleep(KEEP_ALIVE_S)
            await self._send({})


async def connect(streams: Streams, where: tuple[str, str], argv: list[str], *, tty: bool, lasting: bool = False) -> Connection:
    """`where`: allocation and task; `lasting`: see Streams.websocket. Raises BackendUnavailable; that there is no such
    allocation is told by the first `receive`."""
    alloc_id, task = where
    params = [("task", task), ("tty", "true" if tty else "false"), ("command", json.dumps(argv))]
    websocket = await streams.websocket(f"client/allocation/{alloc_id}/exec", params, NEED, lasting=lasting)
    return Connection(streams, websocket, alloc_id)
