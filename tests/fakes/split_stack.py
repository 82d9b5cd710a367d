"""A whole Serai with server and gateway as processes of their own, and a way between them that a test may cut."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.cutting_relay import CuttingRelay, cutting_relay
from fakes.stack import Stack, stack


class Split(Stack):
    """`process` is the gateway."""

    relay: CuttingRelay
    server: asyncio.subprocess.Process

    async def start(self, *, wait: bool = True) -> None:
        text = (self.folder / "serai.toml").read_text()
        gateway = self.folder / "gateway.toml"
        gateway.write_text(text.replace('socket = "s.sock"', 'socket = "r.sock"'))
        self.server = await self.spawn("server")
        self.process = await self.spawn_with("gateway", gateway)
        if wait:
            await self.until_ready()

    async def kill(self) -> None:
        await super().kill()
        if self.server.returncode is None:
            self.server.kill()
            await self.server.wait()

    async def restart_server(self, *, kill: bool) -> None:
        """By SIGKILL, or by SIGTERM as an upgrade does; returns when the new one is started, not when it is ready."""
        if kill:
            self.server.kill()
        else:
            self.server.terminate()
        await self.server.wait()
        self.server = await self.spawn("server")

    async def spawn_with(self, part: str, config: Path) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "serai_server.cli", "serve", part, "--config", str(config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip


@asynccontextmanager
async def split(folder: Path, *, generation: str = "2021", every_s: float = 0) -> AsyncGenerator[Split]:
    """`every_s`: time between two cuts; 0 = the test cuts."""
    async with (
        cutting_relay(folder / "r.sock", folder / "s.sock", every_s=every_s) as relay,
        stack(folder, generation=generation, kind=Split, started=False) as serai,
    ):
        serai.relay = relay
        await serai.start()
        yield serai
