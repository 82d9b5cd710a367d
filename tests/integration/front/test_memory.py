"""What strangers can make Envoy hold: Core's calls go through meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest
from aiohttp import web
from fakes.gateway_tokens import claims, sign
from fakes.upstreams import upstreams

from .conftest import TOOL, Another, Front

JOBS = "/ucloud/example/jobs"
HEAP, MANY = 192 << 20, 100_000
"""Little memory, and no limit of the rate, so that little traffic does what a longer attack does."""
HEADERS, END_STREAM, END_HEADERS = 1, 1, 4


def core() -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {sign(claims(int(time.time() * 1_000)))}"


def literal(name: bytes, value: bytes, *, kept: bool = False) -> bytes:
    """A header as HPACK has it; `kept`: the first of the table from now on."""
    return (b"\x40" if kept else b"\x00") + length(name) + name + length(value) + value


def length(text: bytes) -> bytes:
    rest = len(text) - 127
    if rest < 0:
        return bytes([len(text)])
    digits = b"\x7f"
    while rest >= 128:
        digits, rest = digits + bytes([rest % 128 | 128]), rest // 128
    return digits + bytes([rest])


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def taking_nothing(path: str, streams: int) -> bytes:
    """A connection of HTTP/2 with so many requests of 60 KB of headers each, written in some bytes, and no room for any answer."""
    no_window = struct.pack(">HI", 4, 0)
    head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, no_window) + frame(4, 1, 0, b"")
    named = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"localhost")]
    first = b"".join(literal(*pair) for pair in named)
    long = literal(b"x-a", b"a" * 3_900, kept=True)
    flags = END_STREAM | END_HEADERS
    return head + b"".join(
        frame(HEADERS, flags, 1 + 2 * number, first + (b"\xbe" if number else long) + b"\xbe" * 14) for number in range(streams)
    )


@contextmanager
def held(front: Front) -> Generator[Callable[[bytes], None]]:
    """Opens connections that send something short and then are silent, until the end of the block."""
    with ExitStack() as stack:

        def hold(sent: bytes) -> None:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", front.envoy.port), 10))
            connection.sendall(sent)

        yield hold


@pytest.mark.parametrize("path", ["/console/xterm.mjs", "/nothing"])
async def test_a_stranger_who_takes_no_answer_costs_core_nothing(another: Another, path: str) -> None:
    """Requests with long headers for a long page, or for what Envoy answers itself, and none of it is taken: few are at the gateway at a
    time, and all are given up before memory is short."""
    front = another(heap_bytes=HEAP, rate=MANY, flood_rate=MANY, open_calls=50)

    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"{}" if request.path == JOBS else b"x" * 300_000)

    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock") as there:
        there.answer = page
        statuses: list[int] = []
        with held(front) as hold:
            for _ in range(30):
                for _ in range(3):
                    hold(taking_nothing(path, 95))
                statuses.append((await front.door.curl(JOBS, *core(), body=b"{}")).status)
                await asyncio.sleep(0.1)
        assert statuses == [200] * 30


async def test_bodies_that_never_end_cost_core_nothing(another: Another) -> None:
    """JSON for a long job, from many at once: those that hold most are cut."""
    front = another(
        lambda settings: msgspec.structs.replace(settings, body_limit_bytes=16 << 20), heap_bytes=HEAP, rate=MANY, flood_rate=MANY
    )
    lines = ("POST /v1/jobs HTTP/1.1", "Host: localhost", ": ".join(TOOL), f"Content-Length: {4 << 20}", "", '{"owner":"')

    async def unfinished() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", front.envoy.port)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            writer.write("\r\n".join(lines).encode())
            for _ in range(63):
                writer.write(b"a" * 65_536)
                await writer.drain()
                await asyncio.sleep(0.01)
            await asyncio.Event().wait()

    async with upstreams(front.envoy.settings, front.envoy.folder / "tools.sock"):
        strangers = [asyncio.create_task(unfinished()) for _ in range(64)]
        statuses: list[int] = []
        for _ in range(30):
            statuses.append((await front.door.curl(JOBS, *core(), body=b"{}")).status)
            await asyncio.sleep(0.1)
        for task in strangers:
            task.cancel()
        await asyncio.wait(strangers)
        assert statuses == [200] * 30
