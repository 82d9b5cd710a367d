"""The clients for bench/follow.py, in a process of their own: they read frames and no JSON, so what they cost is little.

Reads plans as lines of JSON, answers each with a line: seconds, bytes of output, the server's CPU time, round trips.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TypedDict

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Plan(TypedDict):
    port: int
    pid: int
    """Of the server."""
    path: str
    headers: str
    """Lines of the handshake's head."""
    first: str
    """The message that begins it; empty = none."""
    skip: int
    """Messages that come before what is measured."""
    read_bytes: int
    """Log: payloads to read in all; 0 = a measurement of echoes."""
    echoes: list[str]
    """Messages to send, one after the other, each when `answers` messages have come back for the one before."""
    answers: int


class Found(TypedDict):
    seconds: float
    server_cpu_s: float
    bytes: int
    echo_us: list[float]


class Client:
    """A WebSocket over a blocking socket."""

    def __init__(self, port: int, path: str, headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ht25O0QA2jc+1yBnSqxHHg==\r\n"
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}{headers}\r\n".encode())
        self._file = self._socket.makefile("rb", buffering=1 << 20)
        status = self._file.readline()
        if b" 101 " not in status:
            raise RuntimeError(status.decode())
        while self._file.readline() != b"\r\n":
            pass

    def send(self, text: str) -> None:
        data = text.encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack("!H", len(data))
        self._socket.sendall(b"\x81" + size + b"\0\0\0\0" + data)  # a mask of zeros changes nothing

    def read(self) -> int:
        """Bytes of the next frame."""
        head = self._file.read(2)
        size = head[1]
        if size == 126:
            (size,) = struct.unpack("!H", self._file.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._file.read(8))
        if len(self._file.read(size)) < size:
            raise RuntimeError("the server has closed")
        return size

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def cpu_s(pid: int) -> float:
    """CPU time of a process with all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def measure(plan: Plan) -> Found:
    client = Client(plan["port"], plan["path"], plan["headers"])
    try:
        before_s, started = cpu_s(plan["pid"]), time.perf_counter()
        if plan["first"]:
            client.send(plan["first"])
        for _ in range(plan["skip"]):
            client.read()
        total = 0
        while total < plan["read_bytes"]:
            total += client.read()
        echo_us: list[float] = []
        for message in plan["echoes"]:
            sent = time.perf_counter_ns()
            client.send(message)
            for _ in range(plan["answers"]):
                client.read()
            echo_us.append((time.perf_counter_ns() - sent) / 1_000)
        return Found(seconds=time.perf_counter() - started, server_cpu_s=cpu_s(plan["pid"]) - before_s, bytes=total, echo_us=echo_us)
    finally:
        client.close()


def main() -> None:
    for line in sys.stdin:
        plan: Plan = json.loads(line)
        print(json.dumps(measure(plan)), flush=True)


if __name__ == "__main__":
    main()
