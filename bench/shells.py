"""A keystroke and its echo: what Serai adds to the terminal in the sandbox that it leads to.

The same program (`cat` at a raw terminal in a sandbox of the local backend) is typed into in several ways, in turn, one key at a time, each
sent when the echo of the one before has come. The floor is the backend's own terminal, read and written by the process that types. What
Serai adds is the rest: chain, hub and gRPC over the Unix socket, with a real `serai serve` at the other end.

Another way, as by the gateway's WebSocket, is another `Way` in `ways`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import uvloop
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai.sessions.v1.sessions_service_pb2_grpc import SessionsServiceStub
from serai_backends.model import TerminalSize
from serai_devcore.applications import shell_request

from bench.ratio import Ratio

if TYPE_CHECKING:
    from fakes.stack import Stack

ROUNDS = 5
KEYS = 400
"""In each round, by each way."""
FLOOR = "the terminal itself"
PROGRAM = ("sh", "-c", "stty raw -echo; printf ready; exec cat")
SIZE = TerminalSize(columns=80, rows=24)


@dataclass(frozen=True, slots=True)
class Keyboard:
    """An open shell that runs PROGRAM."""

    type: Callable[[bytes], Awaitable[None]]
    shown: AsyncIterator[bytes]
    """What comes, in pieces of any size, none of them empty."""


Way = Callable[["Stack", str], AbstractAsyncContextManager[Keyboard]]
"""Opens PROGRAM in rank 0 of the job of that id."""


def run() -> list[Ratio]:
    """p50 and p99 of each way: ms added to the floor's, and as a multiple of it."""
    # The tests' stack runs Serai as an operator does; it is not part of any package.
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    found = uvloop.run(_measure({"SessionsService.Shell": _served}))
    rows: list[Ratio] = []
    for name, times in found.items():
        for word, share in (("p50", 0.5), ("p99", 0.99)):
            if name != FLOOR:
                one, floor = _share(times, share), _share(found[FLOOR], share)
                detail = f"{one:.2f} ms by {name}, {floor:.2f} ms at {FLOOR}; {ROUNDS * KEYS} keys each"
                rows.append(Ratio(f"keystroke and echo, added by {name}, {word}", one - floor, 0, "printed", "ms", detail))
                rows.append(Ratio(f"keystroke and echo by {name}, over {FLOOR}, {word}", one / floor, 0, "printed", "x", detail))
    return rows


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def _measure(ways: Mapping[str, Way]) -> dict[str, list[float]]:
    """ms of each key, by way."""
    from fakes.stack import stack  # noqa: PLC0415 - see run()

    found: dict[str, list[float]] = {name: [] for name in (FLOOR, *ways)}
    async with AsyncExitStack() as everything:
        folder = Path(everything.enter_context(tempfile.TemporaryDirectory(prefix="serai-bench-")))
        for part in (folder / "served", folder / "bare"):
            part.mkdir()
        for part in (folder, folder / "bare"):
            part.chmod(0o755)  # a job's own user id must reach its drive
        running = await everything.enter_async_context(stack(folder / "served"))
        sent = await running.core.submit(shell_request("sleep 3600"))
        if not sent.accepted:
            raise RuntimeError(f"the job was refused: {sent.answer.why}")
        await running.core.until(lambda: running.core.jobs[sent.job_id].state == "RUNNING")
        keyboards = {FLOOR: await everything.enter_async_context(_bare(folder / "bare"))}
        for name, way in ways.items():
            keyboards[name] = await everything.enter_async_context(way(running, sent.job_id))
        for keyboard in keyboards.values():
            await _until(keyboard, b"ready")
            await _keys(keyboard, KEYS // 4)
        for _ in range(ROUNDS):
            for name, keyboard in keyboards.items():
                found[name] += await _keys(keyboard, KEYS)
    return found


async def _until(keyboard: Keyboard, words: bytes) -> None:
    seen = b""
    while words not in seen:
        seen += await anext(keyboard.shown)


async def _keys(keyboard: Keyboard, number: int) -> list[float]:
    times: list[float] = []
    for _ in range(number):
        began = time.perf_counter()
        await keyboard.type(b"x")
        await _until(keyboard, b"x")
        times.append((time.perf_counter() - began) * 1e3)
    return times


@asynccontextmanager
async def _bare(folder: Path) -> AsyncGenerator[Keyboard]:
    """A sandbox of this process's own backend, and its terminal without anything in between."""
    from fakes.local_site import LocalSite  # noqa: PLC0415 - see run()

    site = LocalSite(folder)
    backend = await site.open()
    try:
        await backend.submit(site.spec("bare", "sleep", "3600"))
        await site.running("bare")
        shell = await backend.open_shell("bare", 0, PROGRAM, SIZE)
        async with aclosing(shell.output()) as shown:
            yield Keyboard(shell.write, shown)
        await shell.close()
    finally:
        await site.clear()


@asynccontextmanager
async def _served(running: Stack, job_id: str) -> AsyncGenerator[Keyboard]:
    """As an operator's tool does it, over the Unix socket."""
    async with grpc.aio.insecure_channel(f"unix:{running.socket}") as channel:
        call = SessionsServiceStub(channel).Shell()
        opening = pb.ShellOpen(program=pb.ShellProgram(job_id=job_id, argv=PROGRAM))
        await call.write(pb.ShellRequest(open=opening))

        async def type_(data: bytes) -> None:
            await call.write(pb.ShellRequest(input=data))

        async def shown() -> AsyncGenerator[bytes]:
            async for answer in call:
                if answer.HasField("output"):
                    yield answer.output

        try:
            async with aclosing(shown()) as pieces:
                yield Keyboard(type_, pieces)
        finally:
            call.cancel()
