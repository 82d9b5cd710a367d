"""What comes out of a job's port through the local backend's relay, over the same program on this machine's loopback and nothing between.

The same sender and the same reader, each a process of its own, take turns with and without the relay, which runs on uvloop as in a server.
Printed, without a limit: the relay copies each byte twice in one Python process, and shares the cores with both ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import uvloop
from serai_backends.model import Stream

from bench.ratio import Ratio

if TYPE_CHECKING:
    from serai_backends.model import Endpoint

MIB = 512
ROUNDS = 5
CONNECTIONS = 200
SENDER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
data = bytes(1 << 20)
while True:
    peer = server.accept()[0]
    try:
        if peer.recv(1) == b"m":
            for _ in range(int(sys.argv[2])): peer.sendall(data)
    except OSError: pass
    peer.close()
"""
READER = """
import socket, sys, time
host, port, words, times = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
buffer, size, start = bytearray(1 << 20), 0, time.perf_counter()
for _ in range(times):
    s = socket.create_connection((host, port)); s.sendall(words)
    while count := s.recv_into(buffer): size += count
    s.close()
print(size, time.perf_counter() - start)
"""


def run() -> list[Ratio]:
    """MiB/s and ms for each connection, through the relay and past it."""
    # The tests' site opens the backend on scratch folders; it is not part of any package.
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    return uvloop.run(_measure())


async def _measure() -> list[Ratio]:
    from fakes.local_site import LocalSite  # noqa: PLC0415 - see run

    with tempfile.TemporaryDirectory() as folder:
        site = LocalSite(Path(folder))
        await site.open()
        direct = subprocess.Popen(["/usr/bin/python3", "-c", SENDER, "0", str(MIB)], stdout=subprocess.PIPE)  # noqa: ASYNC220 - read once
        try:
            await site.backend.submit(replace(site.spec("job", "/usr/bin/python3", "-c", SENDER, "80", str(MIB)), ports=(80,)))
            await site.running("job")
            async for _ in site.backend.logs("job", 0, Stream.STDOUT, follow=True):
                break
            assert direct.stdout is not None
            port = int(direct.stdout.readline())
            relayed = await site.backend.endpoint("job", 0, 80)
            return await _compare(relayed, replace(relayed, port=port))
        finally:
            direct.kill()
            direct.wait()
            await site.clear()


async def _compare(relayed: Endpoint, direct: Endpoint) -> list[Ratio]:
    rates: dict[str, list[float]] = {"relayed": [], "direct": []}
    for _ in range(ROUNDS):
        for name, where in (("relayed", relayed), ("direct", direct)):
            rates[name].append(MIB / await _read(where, "m", 1))
    share = median(one / floor for one, floor in zip(rates["relayed"], rates["direct"], strict=True))
    detail = f"{median(rates['relayed']):.0f} MiB/s; direct {median(rates['direct']):.0f} MiB/s ({ROUNDS} times {MIB} MiB)"
    start = time.process_time()
    through_ms = await _read(relayed, "x", CONNECTIONS) / CONNECTIONS * 1000
    cpu_ms = (time.process_time() - start) / CONNECTIONS * 1000
    past_ms = await _read(direct, "x", CONNECTIONS) / CONNECTIONS * 1000
    words = f"{through_ms:.2f} ms, {cpu_ms:.2f} ms of it CPU of the server; direct {past_ms:.2f} ms"
    return [
        Ratio("a job's port through the local relay, throughput over a direct connection", share, 0, "printed", "x", detail),
        Ratio("a job's port through the local relay, a new connection over a direct one", through_ms / past_ms, 0, "printed", "x", words),
    ]


async def _read(where: Endpoint, words: str, times: int) -> float:
    """Seconds."""
    arguments = [where.host, str(where.port), words, str(times)]
    reader = await asyncio.create_subprocess_exec("/usr/bin/python3", "-c", READER, *arguments, stdout=subprocess.PIPE)
    size, seconds = (await reader.communicate())[0].split()
    assert int(size) == (MIB << 20 if words == "m" else 0)
    return float(seconds)
