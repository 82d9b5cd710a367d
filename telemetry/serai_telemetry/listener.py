"""The small HTTP listener of metrics: GET /metrics and GET /healthz, on an address of its own, and nothing else.

It never shares Core's port, and it needs no web framework: one request for each connection, read within limits. Whoever connects and says
nothing keeps nobody out: they are given little time, and go at once when their place is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

MOST_HEAD_BYTES = 16 * 1024
"""Of a request's line and headers."""
MOST_CONNECTIONS = 32
"""At a time. When one more comes, the one goes that has waited longest for its client to say or to take something; where all are being
answered, the new one is closed."""
HEAD_S = 2.0
"""From a connection's begin to the end of its request's head, which clients send at once."""
REQUEST_S = 10.0
"""From there to the connection's end."""

_TEXT = "text/plain; charset=utf-8"
_log = structlog.get_logger("serai.metrics")

_Answer = tuple[HTTPStatus, str, bytes]


class Listener:
    def __init__(
        self,
        text: Callable[[], Awaitable[bytes]],
        down: Callable[[], Sequence[str]],
        *,
        head_s: float = HEAD_S,
        request_s: float = REQUEST_S,
    ) -> None:
        """`text`: the metrics. `down`: names of the process's parts that do not work now."""
        self._text = text
        self._down = down
        self._head_s = head_s
        self._request_s = request_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.StreamWriter, None] = {}
        """Connections whose client has to do something, the oldest first."""
        self._answering = 0
        """Connections whose answer is being made."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        if task is None or not self._has_room():
            writer.close()
            return
        self._tasks.add(task)
        self._waiting[writer] = None
        try:
            await self._exchange(reader, writer)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
            writer.transport.abort()
        except asyncio.CancelledError:
            # By `close`, and this is the whole task: asyncio's streams would print a cancelled one as an error.
            writer.transport.abort()
        finally:
            self._waiting.pop(writer, None)
            self._tasks.discard(task)

    def _has_room(self) -> bool:
        if len(self._waiting) + self._answering < MOST_CONNECTIONS:
            return True
        if not self._waiting:
            return False
        oldest = next(iter(self._waiting))
        del self._waiting[oldest]
        oldest.transport.abort()
        return True

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._head_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            await self._say(writer, "", _words(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            return
        if writer not in self._waiting:  # it had to go when its head had just come
            return
        async with asyncio.timeout(self._request_s):
            del self._waiting[writer]
            self._answering += 1
            try:
                method, answer = await self._answer(head)
            finally:
                self._answering -= 1
            self._waiting[writer] = None
            await self._say(writer, method, answer)

    async def _say(self, writer: asyncio.StreamWriter, method: str, answer: _Answer) -> None:
        status, kind, body = answer
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
            *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        ]
        writer.transport.set_write_buffer_limits(0)  # so that all of it has gone when `drain` is done
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body))
        await writer.drain()

    async def _answer(self, head: bytes) -> tuple[str, _Answer]:
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return "", _words(HTTPStatus.BAD_REQUEST)
        method, path = parts[0], parts[1].partition("?")[0]
        if path not in {"/metrics", "/healthz"}:
            return method, _words(HTTPStatus.NOT_FOUND, "there are /metrics and /healthz")
        if method not in {"GET", "HEAD"}:
            return method, _words(HTTPStatus.METHOD_NOT_ALLOWED)
        return method, await self._metrics() if path == "/metrics" else self._health()

    async def _metrics(self) -> _Answer:
        try:
            return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, await self._text()
        except Exception as error:
            _log.error("metrics.failed", exc_info=error)
            return _words(HTTPStatus.INTERNAL_SERVER_ERROR, "the metrics could not be read; the log says why")

    def _health(self) -> _Answer:
        down = self._down()
        return _words(HTTPStatus.SERVICE_UNAVAILABLE, f"down: {', '.join(down)}") if down else _words(HTTPStatus.OK, "ok")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _words(status: HTTPStatus, words: str = "") -> _Answer:
    return status, _TEXT, f"{words or status.phrase}\n".encode()


@asynccontextmanager
async def listening(host: str, port: int, listener: Listener) -> AsyncGenerator[str]:
    """Serves until the block ends; its address like "http://127.0.0.1:9464". `port` 0 = any free one. OSError with the address in its text
    when it cannot be had."""
    try:
        server = await asyncio.start_server(listener.serve, host, port, limit=MOST_HEAD_BYTES)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen for metrics on {host} port {port}: {error.strerror}") from error
    bound = int(server.sockets[0].getsockname()[1])
    try:
        yield f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
    finally:
        server.close()
        await listener.close()
        await server.wait_closed()
