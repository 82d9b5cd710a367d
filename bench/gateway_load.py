"""The load generator of bench/gateway.py, in a process of its own: keep-alive connections over raw sockets, one request in flight on each.

Reads one JSON line per measurement from its input and answers with one. Every answer of a measurement has the same length, so answers are
counted by bytes and the generator is never the limit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import TypedDict

import uvloop


class Plan(TypedDict):
    port: int
    host: str
    """As the request says it; no more than a name."""
    token: str
    path: str
    bodies: list[str]
    """Sent in turn."""
    connections: int
    seconds: float
    probe: bool
    """Also ask for another call, one after the other, and time each."""
    counts_cpu: bool
    """The server tells its CPU time at /cpu."""


class Found(TypedDict):
    requests: int
    seconds: float
    server_cpu_ns: int
    """0 where it was not asked."""
    probe_ms: list[float]
    answer: str
    """The first one's body."""


def request(verb: str, path: str, token: str, body: bytes, host: str = "bench") -> bytes:
    head = f"{verb} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nUCloud-Username: user\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete."""

    def __init__(self, requests: Iterator[bytes], length: int, until: float, ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._length = length
        self._until = until
        self._ended = ended
        self._got = 0
        self.answers = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        self._next()

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if self._got >= self._length:
            if self._got > self._length:  # the first answer's length is right, so another one is another answer
                self._ended.set_exception(RuntimeError(f"unexpected answer: {data[:300]!r}"))
                return
            self._got = 0
            self.answers += 1
            if time.perf_counter() < self._until:
                self._next()
            elif not self._ended.done():
                self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        if self._transport is not None:
            self._transport.write(next(self._requests))


async def ask(port: int, content: bytes) -> bytes:
    """One request on a connection of its own; the whole answer, head included."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await exchange(reader, writer, content)
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> bytes:
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def cpu_ns(port: int) -> int:
    return int((await ask(port, request("GET", "/cpu", "", b"")))[-20:])


async def probe(port: int, token: str, until: float) -> list[float]:
    """ms that another call takes meanwhile."""
    content = request("GET", "/ucloud/example/jobs/retrieveProducts", token, b"")
    found: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        await exchange(reader, writer, content)
        found.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.002)
    writer.close()
    return found


async def measure(plan: Plan) -> Found:
    port, token = plan["port"], plan["token"]
    requests = itertools.cycle([request("POST", plan["path"], token, body.encode(), plan["host"]) for body in plan["bodies"]])
    first = await ask(port, next(requests))
    if not first.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer: {first[:300]!r}")
    length = len(first)
    loop = asyncio.get_running_loop()
    cpu_before = await cpu_ns(port) if plan["counts_cpu"] else 0
    began = time.perf_counter()
    until = began + plan["seconds"]
    connections: list[Connection] = []
    ended: list[asyncio.Future[None]] = []
    probing = asyncio.create_task(probe(port, token, until)) if plan["probe"] else None
    for _ in range(plan["connections"]):
        done: asyncio.Future[None] = loop.create_future()
        ended.append(done)
        _, connection = await loop.create_connection(lambda done=done: Connection(requests, length, until, done), "127.0.0.1", port)
        connections.append(connection)
    await asyncio.gather(*ended)
    seconds = time.perf_counter() - began
    return {
        "requests": sum(connection.answers for connection in connections),
        "seconds": seconds,
        "server_cpu_ns": await cpu_ns(port) - cpu_before if plan["counts_cpu"] else 0,
        "probe_ms": await probing if probing is not None else [],
        "answer": first.partition(b"\r\n\r\n")[2].decode(),
    }


def main() -> None:
    for line in sys.stdin:
        plan: Plan = json.loads(line)
        print(json.dumps(uvloop.run(measure(plan))), flush=True)


if __name__ == "__main__":
    main()
