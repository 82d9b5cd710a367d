"""What runs a task: a process of this machine, or nothing but the test's word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal as signals
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast


@dataclass(frozen=True)
class Exit:
    code: int = 0
    signal: int = 0
    oom: bool = False

    @property
    def well(self) -> bool:
        return self.code == 0 and self.signal == 0 and not self.oom


class DriverFailure(Exception):
    """The task cannot be started; the text is Nomad's DriverError."""


@dataclass(frozen=True)
class Order:
    """A task, ready to be started."""

    driver: str
    command: str
    args: tuple[str, ...]
    env: dict[str, str]
    folder: Path
    user: str
    stdout: Path | None
    stderr: Path | None


class Running(Protocol):
    async def wait(self) -> Exit: ...

    async def kill(self, signal: str, timeout_s: float) -> None:
        """The signal, and SIGKILL when that did not end it in time."""
        ...

    def send(self, signal: str) -> None: ...


class Process:
    """raw_exec: a process of this machine with a session of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ended = asyncio.ensure_future(self._end())

    @classmethod
    async def start(cls, order: Order) -> Process:
        command = order.command
        if "/" not in command:
            found = [p for p in (Path(d) / command for d in order.env.get("PATH", os.defpath).split(":")) if os.access(p, os.X_OK)]
            command = str(found[0]) if found else command
        if not await asyncio.to_thread(os.access, command, os.X_OK):
            raise DriverFailure(
                f'failed to launch command with executor: rpc error: code = Unknown desc = binary "{command}" could not be found'
            )
        user: int | None = None
        if order.user and order.user != pwd.getpwuid(os.getuid()).pw_name:
            try:
                user = pwd.getpwnam(order.user).pw_uid
            except KeyError:
                raise DriverFailure(f'failed to launch command with executor: failed to identify user "{order.user}"') from None
        out = (order.stdout or Path("/dev/null")).open("ab")
        err = (order.stderr or Path("/dev/null")).open("ab")
        try:
            made = await asyncio.create_subprocess_exec(
                command,
                *order.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=order.folder,
                env=order.env,
                start_new_session=True,
                user=user,
            )
        except OSError as failure:
            raise DriverFailure(f"failed to launch command with executor: {failure.strerror}: {command}") from failure
        finally:
            out.close()
            err.close()
        return cls(made)

    async def _end(self) -> Exit:
        code = await self._process.wait()
        self._signal_all(signals.SIGKILL)  # what the task left behind ends with it, as its cgroup does
        return Exit(128 - code, -code) if code < 0 else Exit(code)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def kill(self, signal: str, timeout_s: float) -> None:
        self.send(signal)
        done, _ = await asyncio.wait([self._ended], timeout=timeout_s)
        if not done:
            self._signal_all(signals.SIGKILL)
            await asyncio.wait([self._ended])

    def send(self, signal: str) -> None:
        if self._process.returncode is None:
            self._process.send_signal(getattr(signals, signal))

    @property
    def pid(self) -> int:
        return self._process.pid

    def _signal_all(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Played:
    """A task without a process: it runs until the test says how it ended, or it is killed."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.deaf = False
        """Does not end by its signal, only by SIGKILL after the kill time-out."""
        self.signals: list[str] = []

    def finish(self, how: Exit) -> None:
        if not self._exit.done():
            self._exit.set_result(how)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def kill(self, signal: str, timeout_s: float) -> None:
        self.send(signal)
        if self.deaf:
            await asyncio.wait([self._exit], timeout=timeout_s)
        number = int(signals.SIGKILL if self.deaf else getattr(signals, signal))
        self.finish(self.died_of(number))

    def died_of(self, number: int) -> Exit:
        """docker tells a death by signal only in the code."""
        return Exit(128 + number, 0 if self._driver in {"docker", "podman"} else number)

    def send(self, signal: str) -> None:
        self.signals.append(signal)


def order_of(driver: str, config: dict[str, object], interpolate: Callable[[str], str]) -> tuple[str, tuple[str, ...]]:
    """The command line that the task's config asks for."""
    command = config.get("command")
    args = [str(a) for a in cast("list[object]", config.get("args") or [])]
    return interpolate(str(command or "")), tuple(interpolate(a) for a in args)
