"""A person at a terminal: a program with a real pty of its own, typed into, read, and looked at for the state in which it leaves it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fakes.ptys import set_size

DEADLINE_S = 60.0
_SHELL = '"$@"; echo "[ended $?]"; read -r _'
"""The person's own shell: it waits for the program, and keeps the terminal after it."""


class Person:
    """Runs `argv` in the foreground of a terminal; use as a context."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (90, 20)) -> None:
        self.master, self._slave = os.openpty()
        set_size(self.master, *size)
        self._unread = b""
        self._before = termios.tcgetattr(self._slave)
        command = ["setsid", "--ctty", "--wait", "sh", "-c", _SHELL, "sh", *argv]
        self._shell = subprocess.Popen(command, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=dict(environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pid in (*self._programs(), self._shell.pid):
            os.kill(pid, signal.SIGKILL)
        self._shell.wait()
        for fd in (self.master, self._slave):
            os.close(fd)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self._slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._slave) == self._before

    def put_back(self) -> None:
        """As a shell does when the program was stopped."""
        termios.tcsetattr(self._slave, termios.TCSANOW, self._before)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def resize(self, columns: int, rows: int) -> None:
        set_size(self.master, columns, rows)

    def until(self, words: str) -> re.Match[bytes]:
        """Until the screen has shown what fits this pattern; what came up to there is not looked at again."""
        deadline, pattern = time.monotonic() + DEADLINE_S, re.compile(words.encode(), re.DOTALL)
        while (found := pattern.search(self._unread)) is None:
            if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{words!r} did not come: {self._unread[-2_000:]!r}")
            self._unread += os.read(self.master, 65_536)
        self._unread = self._unread[found.end() :]
        return found

    def ends(self) -> tuple[int, bytes]:
        """Its exit code, as a shell has it, and what was still shown."""
        found = self.until(r"(.*)\[ended (\d+)\]")
        return int(found[2]), found[1]

    def signal(self, number: signal.Signals) -> None:
        """To the program alone."""
        (program,) = self._programs()
        os.kill(program, number)

    def _programs(self) -> list[int]:
        pid = self._shell.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
