"""Many requests on one connection, one behind the other, without waiting for answers: a hundred thousand inputs in a minute.

What is sent here is good HTTP, whatever its body is; so every request gets an answer, and they come in order. A connection that the server
ends (after a 413) takes the requests behind with it: these are sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httptools

ANSWER_S = 60.0
"""Longest without any answer, on a machine that does other things too; then it hangs."""
_READ_BYTES = 1 << 18


class Hangs(Exception):
    """No answer came."""


class _Answers:
    """Of one connection: statuses in the order in which they came. httptools calls its methods."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.wrong: list[bytes] = []
        """Bodies of answers with a status of 500 or more."""
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self.statuses.append(status)
        if status >= 500:
            self.wrong.append(self._body)


async def send_all(port: int, requests: Sequence[bytes]) -> list[int]:
    """The status of each, 0 = the connection ended twice without an answer to it. Hangs."""
    statuses: list[int] = []
    stuck = 0
    while len(statuses) < len(requests):
        found = await _one_connection(port, requests[len(statuses) :])
        if not found:
            stuck += 1
            if stuck > 1:
                found, stuck = [0], 0
        statuses += found
    return statuses


async def _one_connection(port: int, requests: Sequence[bytes]) -> list[int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = _Answers()
    writing = asyncio.create_task(_write(writer, requests))
    try:
        while len(answers.statuses) < len(requests):
            try:
                async with asyncio.timeout(ANSWER_S):
                    data = await reader.read(_READ_BYTES)
            except TimeoutError as error:
                raise Hangs(f"no answer within {ANSWER_S:g} s, after {len(answers.statuses)} of {len(requests)}") from error
            except OSError:
                break
            if not data:
                break
            answers.feed(data)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
        writer.close()
    return answers.statuses[: len(requests)]


async def _write(writer: asyncio.StreamWriter, requests: Sequence[bytes]) -> None:
    try:
        for request in requests:
            writer.write(request)
            await writer.drain()
    except OSError:
        return
