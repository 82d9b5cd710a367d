"""HTTP over a bare socket: says exactly what a test wants to say, also what no client library would."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import cast

ANSWER_S = 30.0
"""Longest that an answer may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer; `status` 0 = the connection ended without one."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def document(self) -> dict[str, object]:
        """The body as a JSON object."""
        return cast("dict[str, object]", json.loads(self.body))

    @property
    def why(self) -> str:
        return str(self.document["why"])


def request(verb: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", *, version: str = "1.1") -> bytes:
    """A request with Host and Content-Length added when `headers` has none of them nor Transfer-Encoding."""
    given = dict(headers or {})
    names = {name.lower() for name in given}
    if "host" not in names:
        given["Host"] = "provider"
    if body and not names & {"content-length", "transfer-encoding"}:
        given["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{verb} {path} HTTP/{version}\r\n{head}\r\n".encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


async def say(port: int, content: bytes, *, timeout_s: float = ANSWER_S, end: bool = False) -> RawAnswer:
    """Write it on a connection of its own and read one answer. `end` = nothing more will come from us (half-close)."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        try:
            # The server may answer and close before it has read everything; its answer counts all the same.
            sending = asyncio.create_task(_send(writer, content, end=end))
            try:
                return await answer(reader)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending
        finally:
            writer.close()


async def _send(writer: asyncio.StreamWriter, content: bytes, *, end: bool) -> None:
    with contextlib.suppress(OSError):
        writer.write(content)
        await writer.drain()
        if end:
            writer.write_eof()


async def answer(reader: asyncio.StreamReader) -> RawAnswer:
    """The next answer of a connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, OSError):
        return RawAnswer(0, {}, b"")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    length = headers.get("content-length")
    body = await reader.readexactly(int(length)) if length is not None else await reader.read()
    return RawAnswer(int(first.split(" ")[1]), headers, body)
