"""The listener of metrics, over real sockets: two paths, and nothing that a stranger sends costs more than a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from fakes.raw_http import RawAnswer, request, say
from serai_telemetry.listener import MOST_CONNECTIONS, MOST_HEAD_BYTES, Listener, listening


class Metrics:
    def __init__(self) -> None:
        self.down: tuple[str, ...] = ()
        self.asked = 0
        self.go_on: asyncio.Event | None = None
        """None = it answers at once."""
        self.error: Exception | None = None

    async def text(self) -> bytes:
        self.asked += 1
        if self.go_on is not None:
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return b"a 1\n"


@asynccontextmanager
async def served(metrics: Metrics, host: str = "127.0.0.1", head_s: float = 10.0, request_s: float = 10.0) -> AsyncGenerator[int]:
    async with listening(host, 0, Listener(metrics.text, lambda: metrics.down, head_s=head_s, request_s=request_s)) as url:
        assert url.startswith("http://[::1]:" if ":" in host else f"http://{host}:")
        yield int(url.rpartition(":")[2])


async def ask(port: int, verb: str, path: str) -> RawAnswer:
    return await say(port, request(verb, path))


async def test_metrics_and_health() -> None:
    """Health names what is down."""
    metrics = Metrics()
    async with served(metrics) as port:
        answer = await ask(port, "GET", "/metrics?x=1")
        assert (answer.status, answer.body) == (200, b"a 1\n")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await ask(port, "GET", "/healthz")).status == 200
        metrics.down = ("store", "reconciler")
        answer = await ask(port, "GET", "/healthz")
        assert (answer.status, answer.body) == (503, b"down: store, reconciler\n")
        assert (await ask(port, "GET", "/metrics")).status == 200


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 405), ("DELETE", "/healthz", 405), ("GET", "/../metrics", 404)],
)
async def test_there_is_nothing_else(verb: str, path: str, status: int) -> None:
    """Each with words, and for a wrong method with the right ones."""
    async with served(Metrics()) as port:
        answer = await ask(port, verb, path)
        assert answer.status == status
        assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics SSH/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * MOST_HEAD_BYTES * 2 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused(sent: bytes, status: int) -> None:
    """And the next one is served."""
    async with served(Metrics()) as port:
        assert (await say(port, sent)).status == status
        assert (await ask(port, "GET", "/metrics")).status == 200


async def test_an_error_is_in_the_log_and_not_in_the_answer() -> None:
    """What is wrong inside is nobody's business outside."""
    metrics = Metrics()
    metrics.error = ValueError("secret")
    async with served(metrics) as port:
        answer = await ask(port, "GET", "/metrics")
        assert answer.status == 500
        assert b"secret" not in answer.body


async def test_who_says_nothing_is_put_out() -> None:
    """Within its time; and others are served meanwhile, as far as there is room."""
    async with served(Metrics(), head_s=0.3) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS - 1)]
        assert (await ask(port, "GET", "/metrics")).status == 200
        async with asyncio.timeout(20):
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()


async def test_nobody_is_kept_out_by_those_who_say_nothing() -> None:
    """However many they are, and however often they come: the oldest goes for each new one, and the others stay."""
    async with served(Metrics(), head_s=600) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
        for path in ("/metrics", "/healthz"):
            assert (await ask(port, "GET", path)).status == 200
        async with asyncio.timeout(20):
            assert await silent[0][0].read() == b""
        last_reader, last_writer = silent[-1]
        last_writer.write(request("GET", "/healthz"))
        async with asyncio.timeout(20):
            assert (await last_reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in silent:
            writer.close()


async def test_who_is_being_answered_does_not_go() -> None:
    """Nor more than the limit are answered at once: the next one is closed."""
    metrics = Metrics()
    metrics.go_on = asyncio.Event()
    async with served(metrics, request_s=600) as port:
        asking = [asyncio.create_task(ask(port, "GET", "/metrics")) for _ in range(MOST_CONNECTIONS)]
        async with asyncio.timeout(20):
            while metrics.asked < MOST_CONNECTIONS:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()
            metrics.go_on.set()
            assert {answer.status for answer in await asyncio.gather(*asking)} == {200}


@pytest.mark.parametrize("path", ["", "/metrics"])
async def test_a_stop_waits_for_nobody(path: str) -> None:
    """A connection that is open when it stops is closed, also while it is answered; and none of it is an error for the log."""
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    metrics = Metrics()
    metrics.go_on = asyncio.Event()
    async with served(metrics, head_s=600, request_s=600) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if path:
            writer.write(request("GET", path))
        async with asyncio.timeout(20):
            while metrics.asked < bool(path):
                await asyncio.sleep(0)
        assert (await ask(port, "GET", "/healthz")).status == 200
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await asyncio.sleep(0)
    assert told == []


async def test_a_taken_port_is_named() -> None:
    """So that whoever starts it knows which setting to change."""
    async with served(Metrics()) as port:
        with pytest.raises(OSError, match=f"cannot listen for metrics on 127.0.0.1 port {port}"):
            async with listening("127.0.0.1", port, Listener(Metrics().text, tuple)):
                pass
