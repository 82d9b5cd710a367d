"""Suspend and resume a job: SIGSTOP and SIGCONT to every process of the supervisor's pid namespace, and where there are cgroups of
version 2 their freezer.

Signals alone do not hold a program that wants to run: a timer of its own may send it SIGCONT. The freezer holds it. Where there is none,
and in any case, the CPU time of the job's processes is watched: who uses some does not stand still.

Bubblewrap's outer processes are not stopped: they hold nothing of the job and have to tell when a sandbox ends meanwhile. The sandboxes'
pid 1 is stopped (a program may have put code of its own into it), so a program that somebody ends meanwhile cannot be reaped: `release`
lets its pid 1 do that.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from serai_backends.local.supervisor.processes import all_pids, has_ended, is_stopped, look, program_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from serai_backends.local.supervisor.replica import Replica

_TICKS_FOR_NOTHING = 3
"""CPU time (1/100 s) of all processes together from which on a job did not stand still: below it is what the kernel may have left to do,
and what it costs to be woken by somebody else and stopped again."""
_AWAKE_CHECKS = 2
"""Checks in a row at which a process does not stand: once may be somebody else's SIGCONT."""


class Pause:
    """What was asked for, and what is so."""

    def __init__(self) -> None:
        self.wanted = False
        self.reached = False
        self.good_at_ms = 0
        """Until when nothing of the job moved: the last check that found that."""
        self._seen: frozenset[int] = frozenset()
        self._before: dict[int, int] = {}
        """CPU time of each process when all of them stood."""
        self._used = 0
        self._awake = 0

    @property
    def pending(self) -> bool:
        return self.wanted and not self.reached

    def start(self) -> None:
        self.wanted, self.reached, self._seen = True, False, frozenset()

    def step(self, replicas: Iterable[Replica], now_ms: int) -> bool:
        """Stop what runs. True = every process stands, and did so a round ago: none was born in between. The pause is reached."""
        _stop_all(replicas)
        pids = _others(replicas)
        stable, self._seen = pids == self._seen, pids
        looks = {pid: look(pid) for pid in pids} if stable else {}
        if not stable or not all(seen is not None and seen[0] for seen in looks.values()):
            return False
        for replica in replicas:
            replica.freeze(True)
        self._before = {pid: seen[1] for pid, seen in looks.items() if seen is not None}
        self.reached, self.good_at_ms, self._used, self._awake = True, now_ms, 0, 0
        return True

    def check(self, replicas: Iterable[Replica], now_ms: int) -> bool:
        """Whether the job has kept still since the pause was reached; stops again what does not."""
        pids = _others(replicas)
        looks = {pid: seen for pid in pids if (seen := look(pid)) is not None}
        awake = not all(stands for stands, _ in looks.values())
        frozen = awake and all(replica.ended or replica.is_frozen() for replica in replicas)
        _stop_all(replicas)
        used = sum(max(after - self._before.get(pid, after), 0) for pid, (_, after) in looks.items())
        moved, self._used = used > self._used, max(used, self._used)
        self._awake = self._awake + 1 if awake and not frozen else 0
        if self._used >= _TICKS_FOR_NOTHING or self._awake >= _AWAKE_CHECKS or not pids <= self._before.keys():
            return False
        if not moved and not self._awake:
            self.good_at_ms = now_ms
        return True

    def end(self, replicas: Iterable[Replica]) -> None:
        self.wanted = self.reached = False
        for replica in replicas:
            replica.freeze(False)
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGCONT)


def release(replicas: Iterable[Replica], *, in_pause: bool) -> None:
    """A program that ended: its sandbox may go on to say so (it stands in a pause, or because the program traced it and ended); one that
    does not is ended by the next call. Outside of a pause also one that was left standing after it had reaped the program: in a pause
    that looks like one that has not started it yet."""
    for replica in replicas:
        if replica.ended or replica.inner is None:
            continue
        if has_ended(replica.inner):
            replica.freeze(False)
        elif (state := program_state(replica.children())) == "Z" or (not state and not in_pause and is_stopped(replica.inner)):
            replica.freeze(False)
            _tell(replica.inner, signal.SIGKILL if replica.released else signal.SIGCONT)
            replica.released = True


def _stop_all(replicas: Iterable[Replica]) -> None:
    spared = {replica.outer for replica in replicas}
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGSTOP)
    for pid in spared:
        _tell(pid, signal.SIGCONT)


def _others(replicas: Iterable[Replica]) -> frozenset[int]:
    """The processes of the job that have to stand."""
    return all_pids() - {1} - {replica.outer for replica in replicas}


def _tell(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
