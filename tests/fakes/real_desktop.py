"""A real desktop without a screen: Xvfb, one colour all over, and x11vnc at a port of this machine. Skips where Debian's packages lack."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

START_S = 30.0
PROGRAMS = ("Xvfb", "x11vnc", "xsetroot")


def need_desktop() -> None:
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@asynccontextmanager
async def _running(*argv: str, log: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    with log.open("ab") as err:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=err, limit=1 << 20
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def desktop(folder: Path, colour: str, *, width: int = 640, height: int = 480, password: str = "") -> AsyncGenerator[int]:
    """The port of a desktop in this colour ("#c02040"), with this password or none."""
    need_desktop()
    log = folder / "desktop.log"
    async with AsyncExitStack() as stack:
        screen = ["-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-noreset"]
        server = await stack.enter_async_context(_running("Xvfb", "-displayfd", "1", *screen, log=log))
        assert server.stdout is not None
        async with asyncio.timeout(START_S):
            display = f":{(await server.stdout.readline()).decode().strip()}"  # it writes its number when it is ready
        painted = await asyncio.create_subprocess_exec("xsetroot", "-display", display, "-solid", colour)
        assert await painted.wait() == 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        options = ["-display", display, "-rfbport", str(port), "-localhost", "-no6", "-forever", "-shared", "-noxdamage", "-nocursor"]
        options += ["-passwd", password] if password else ["-nopw"]
        await stack.enter_async_context(_running("x11vnc", *options, log=log))
        await _until_listening(port)
        yield port


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
