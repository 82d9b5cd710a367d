# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH123, PTH208
"""Suspend and resume a job: SIGSTOP and SIGCONT to every process of the supervisor's pid namespace.

Only bubblewrap's outer processes go on: they hold nothing of the job and have to tell when a sandbox ends meanwhile. The sandboxes' pid 1
is stopped too (a program may have put code of its own into it), so a program that somebody ends meanwhile cannot be reaped: `release`
lets its pid 1 do that.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from serai_backends.local.supervisor.replica import Replica

_STANDING = frozenset(b"TtDZXx")
"""States of a process that does nothing: stopped, stopped by a tracer (which is stopped too), ended. D: in a system call that no signal
interrupts, such as vfork while the child is stopped; its own SIGSTOP takes it before it is in its program again."""


class Pause:
    """What was asked for, and what is so."""

    def __init__(self) -> None:
        self.wanted = False
        self.reached = False
        self._seen: frozenset[int] = frozenset()
        self._released: set[int] = set()

    @property
    def pending(self) -> bool:
        return self.wanted and not self.reached

    def start(self) -> None:
        self.wanted, self.reached, self._seen = True, False, frozenset()
        self._released.clear()

    def step(self, replicas: Iterable[Replica]) -> bool:
        """Stop what runs. True = every process stands, and did so a round ago: none was born in between."""
        spared = {replica.outer for replica in replicas}
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGSTOP)
        for pid in spared:
            _tell(pid, signal.SIGCONT)
        pids = frozenset(int(name) for name in os.listdir("/proc") if name.isdigit()) - {1} - spared
        stable, self._seen = pids == self._seen, pids
        return stable and all(_stands(pid) for pid in pids)

    def release(self, replicas: Iterable[Replica]) -> None:
        """A program that ended: its sandbox may go on to say so; one that does not is ended by the next call."""
        for replica in replicas:
            if replica.ended or replica.inner is None or not _has_ended(replica.children()):
                continue
            _tell(replica.inner, signal.SIGKILL if replica.inner in self._released else signal.SIGCONT)
            self._released.add(replica.inner)

    def end(self) -> None:
        self.wanted = self.reached = False
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGCONT)


def _tell(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _state(path: str) -> int:
    with open(path, "rb") as file:
        return file.read().rsplit(b") ", 1)[1][0]


def _stands(pid: int) -> bool:
    """Every thread: the first one may have ended while others go on."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return all(_state(f"/proc/{pid}/task/{task}/stat") in _STANDING for task in os.listdir(f"/proc/{pid}/task"))
    return False


def _has_ended(pids: list[int]) -> bool:
    """Whether the program (second process of the sandbox's pid namespace) waits to be reaped."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            facts = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
            if facts.get("NSpid", "").split()[-1:] == ["2"]:
                return facts.get("State", "").strip().startswith("Z")
    return False
