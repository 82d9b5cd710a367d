"""Serai as `serai serve` runs it, but for one part: jobs run in memory (`python -m fuzz.server FILE`), because some of the inputs are good
jobs, and a hundred thousand sandboxes would be a test of the machine.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import uvloop
from fakes.desktops import rfb_server
from fakes.instant import InstantMachine
from fakes.reachable import FakeShell, ReachableBackend
from serai_backends.clock import open_clock, wall_ms
from serai_backends.model import Endpoint, TerminalSize
from serai_gateway.gateway import Gateway
from serai_gateway.upstream import InProcessUpstream
from serai_server.cli.config import load
from serai_server.cli.log_setup import set_up_logging
from serai_server.cli.plan import plan_of, tools_place
from serai_server.main import running_server

_SHELLS = 32
"""Of which the backend still knows; the fake itself keeps all."""


class _Echo(FakeShell):
    """What is typed comes back and is not kept."""

    async def write(self, data: bytes) -> None:
        self.say(data)


class PassingBackend(ReachableBackend):
    """Keeps nothing of what is over, where the tests' own keeps everything: memory is judged here. Every desktop is at one port."""

    def __init__(self, desktop_port: int) -> None:
        ticks = cast("itertools.count[int]", iter(wall_ms, None))  # limits of time are kept by it
        super().__init__(InstantMachine(ticks=ticks))
        self._desktop_port = desktop_port

    async def forget(self, job_id: str) -> None:
        await super().forget(job_id)
        self.machine.folders.clear()
        self.machine.starts.clear()

    async def open_shell(self, job_id: str, rank: int, argv: tuple[str, ...], size: TerminalSize) -> FakeShell:
        self.shells = [known for known in self.shells[-_SHELLS:] if not known[2].closed]
        shell = _Echo(argv, size)
        self._check_reachable()
        self._address(job_id, rank)
        self.shells.append((job_id, rank, shell))
        return shell

    async def endpoint(self, job_id: str, rank: int, port: int) -> Endpoint:
        found = await super().endpoint(job_id, rank, port)
        self.asked.clear()
        return replace(found, host="127.0.0.1", port=self._desktop_port)


async def serve(file: Path) -> None:
    settings = load(file)
    set_up_logging(settings.server.log_level)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop, plan, grace_ms = asyncio.Event(), plan_of(settings), settings.server.stop_grace_ms
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clock = open_clock(settings.state_dir)
    async with (
        rfb_server() as desktop,
        running_server(plan, PassingBackend(desktop.port), clock, settings.socket, grace_ms, tools=tools_place(settings)) as server,
        Gateway(settings.for_gateway(), InProcessUpstream(server.dispatcher)),
    ):
        gc.collect()
        gc.freeze()  # as `serai serve` does once it has started
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
