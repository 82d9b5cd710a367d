"""A program beside a task's own, by Nomad's exec websocket: JSON frames with base64 in both directions.

Nomad neither ends the program when its connection is gone nor says at once that it has started (facts: nomad-tried §7). So it is started by
a line of shell that first says its own process id, and is ended by another exec that finds that process again, told from a later one
of the same id by its start time. `exited` is the end; the connection then closes without a word, and exit code 0 is left out.
"""

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
    from collections.abc import AsyncGenerator, Sequence

    from serai_backends.model import TerminalSize
    from serai_backends.nomad.client.streams import Streams

KEEP_ALIVE_S = 10.0
_NEED = "alloc-exec"
_START = """\
started() { shift 19; echo "serai-shell $$ $1"; }
read -r s </proc/$$/stat && started ${s##*) }
if [ $# -gt 0 ]; then exec "$@"; fi
if command -v bash >/dev/null; then exec bash; fi
exec sh"""
"""Field 22 of stat is the start time. Words after `)`, because the name of a program may have spaces."""
_END = """\
P=$1 S=$2
time() { shift 19; echo "$1"; }
there() { read -r s </proc/$P/stat && [ "$(time ${s##*) })" = "$S" ]; }
there 2>/dev/null || exit 0
kill -HUP -$P 2>/dev/null; kill -HUP $P
i=0
while there 2>/dev/null && [ $i -lt 10 ]; do i=$((i+1)); sleep 0.1 2>/dev/null || sleep 1; done
there 2>/dev/null && { kill -KILL -$P 2>/dev/null; kill -KILL $P; }
exit 0"""
_STARTED = re.compile(rb"serai-shell (\d+) (\d+)\r?")
_LONGEST = 16 * 1024
_GONE = re.compile(r"unknown allocation|not found|not running|not started yet|unknown task", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|token (not found|expired|is invalid)", re.IGNORECASE)


class _Data(msgspec.Struct):
    data: bytes = b""
    """msgspec reads base64 for bytes."""


class _Result(msgspec.Struct):
    exit_code: int = 0


class _Frame(msgspec.Struct):
    stdout: _Data | None = None
    stderr: _Data | None = None
    exited: bool = False
    result: _Result | None = None


_FRAME = msgspec.json.Decoder(_Frame)


class _Connection:
    """The frames of one exec."""

    def __init__(self, streams: Streams, socket: aiohttp.ClientWebSocketResponse, alloc_id: str) -> None:
        self._streams, self._socket, self._alloc_id = streams, socket, alloc_id
        self._beats = asyncio.create_task(self._beat())
        self.exit_code: int | None = None

    async def receive(self) -> tuple[bytes, bytes] | None:
        """What came on stdout and stderr, possibly nothing; None = the program has ended. Raises JobNotThere and BackendUnavailable."""
        try:
            message = await self._socket.receive()
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

    async def send(self, frame: dict[str, object]) -> None:
        try:
            await self._socket.send_str(msgspec.json.encode(frame).decode())
        except FAILURES as error:
            raise BackendUnavailable("the connection of the shell to its node is closed") from error

    async def close(self) -> None:
        await end(self._beats)
        with suppress(*FAILURES):
            await self._socket.close()

    def _closed(self, code: int, text: str) -> JobNotThere | BackendUnavailable:
        if _GONE.search(text):
            return JobNotThere(self._alloc_id)
        asked = Asked(f"exec in allocation {self._alloc_id}", _NEED)
        if _DENIED.search(text):
            return self._streams.trouble(Answered(403, text.encode()), asked)
        return BackendUnavailable(f"Nomad ended the shell ({code}{', ' + text if text else ''})")

    async def _beat(self) -> None:
        """Proxies cut connections on which nothing moves."""
        while True:
            await self._streams.clock.sleep(KEEP_ALIVE_S)
            await self.send({})


class NomadShell:
    """A Shell of serai_backends.api. Made by `start`."""

    def __init__(self, streams: Streams, connection: _Connection, where: tuple[str, str], process: tuple[str, str], first: bytes) -> None:
        self._streams, self._connection, self._first = streams, connection, first
        self._where, self._process = where, process

    @property
    def exit_code(self) -> int | None:
        return self._connection.exit_code

    async def output(self) -> AsyncGenerator[bytes]:
        first, self._first = self._first, b""
        if first:
            yield first
        while self.exit_code is None and (data := await self._connection.receive()) is not None:
            if any(data):
                yield b"".join(data)

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), CHUNK_BYTES):
            await self._connection.send({"stdin": {"data": data[at : at + CHUNK_BYTES]}})

    async def end_input(self) -> None:
        """Nothing more is written. Without a terminal this has to be said: until then Nomad does not tell the program's end either."""
        await self._connection.send({"stdin": {"close": True}})

    async def resize(self, size: TerminalSize) -> None:
        await self._connection.send(_size(size))

    async def close(self) -> None:
        try:
            if self.exit_code is None:
                with suppress(BackendUnavailable, JobNotThere, TimeoutError):
                    await _end(self._streams, self._where, self._process)
        finally:
            await self._connection.close()


async def start(streams: Streams, alloc_id: str, task: str, argv: Sequence[str], size: TerminalSize | None) -> NomadShell:
    """See NomadClient.exec."""
    connection = await _connect(streams, (alloc_id, task), ["/bin/sh", "-c", _START, "sh", *argv], tty=size is not None)
    said = b""
    beside = b""
    try:
        if size is not None:
            await connection.send(_size(size))
        async with asyncio.timeout(streams.timeout_s):
            while b"\n" not in said and len(said) < _LONGEST and (data := await connection.receive()) is not None:
                said += data[0]
                beside += data[1]  # the streams come in any order
        line, _, rest = said.partition(b"\n")
        return NomadShell(streams, connection, (alloc_id, task), _process(line, said + beside), beside + rest)
    except TimeoutError as error:
        await connection.close()
        raise BackendUnavailable("the shell did not start in time: has the replica /bin/sh?") from error
    except BaseException:
        await connection.close()
        raise


def _process(line: bytes, words: bytes) -> tuple[str, str]:
    """Id and start time of the program."""
    started = _STARTED.fullmatch(line)
    if started is None:
        said = words.decode("utf-8", "replace").strip() or "it ended without a word"
        raise BackendUnavailable(f"no shell can be started in the replica: {said}")
    return started[1].decode(), started[2].decode()


async def _end(streams: Streams, where: tuple[str, str], process: tuple[str, str]) -> None:
    async with asyncio.timeout(streams.timeout_s):
        connection = await _connect(streams, where, ["/bin/sh", "-c", _END, "sh", *process], tty=False)
        try:
            await connection.send({"stdin": {"close": True}})
            while await connection.receive() is not None:
                pass
        finally:
            await connection.close()


async def _connect(streams: Streams, where: tuple[str, str], argv: list[str], *, tty: bool) -> _Connection:
    alloc_id, task = where
    params = [("task", task), ("tty", "true" if tty else "false"), ("command", json.dumps(argv))]
    socket = await streams.websocket(f"client/allocation/{alloc_id}/exec", params, _NEED)
    return _Connection(streams, socket, alloc_id)


def _size(size: TerminalSize) -> dict[str, object]:
    return {"tty_size": {"height": size.rows, "width": size.columns}}
