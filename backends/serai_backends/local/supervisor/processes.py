# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH123, PTH208
"""What /proc says about the job's processes; all of it may be gone a moment later."""

from __future__ import annotations

import os
from contextlib import suppress

_STANDING = frozenset(b"TtDZXx")
"""States of a process that does nothing: stopped, stopped by a tracer (which is stopped too), ended. D: in a system call that no signal
interrupts, such as vfork while the child is stopped; its own SIGSTOP takes it before it is in its program again."""
_STOPPED = frozenset(b"Tt")
_ENDED = frozenset(b"ZXx")
_EXITING = 0x4
"""PF_EXITING of the kernel: it gives its memory back, and never sees its program again."""


def _facts(path: str) -> list[bytes]:
    """Of a stat file, from the state (field 3) on."""
    with open(path, "rb") as file:
        return file.read().rsplit(b") ", 1)[1].split()


def all_pids() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())


def look(pid: int) -> tuple[bool, int] | None:
    """Whether it stands, every thread of it (the first one may have ended while others go on), and the CPU time of all its threads, also of
    those that have ended. Of an ended process only what its program used: whoever ends a large one makes the kernel work. None = gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        facts = _facts(f"/proc/{pid}/stat")
        over = facts[0][0] in _ENDED or bool(int(facts[6]) & _EXITING)
        used = int(facts[11]) + (0 if over and int(facts[17]) <= 1 else int(facts[12]))
        if int(facts[17]) <= 1:
            return _is_standing(facts), used
        return all(_is_standing(_facts(f"/proc/{pid}/task/{task}/stat")) for task in os.listdir(f"/proc/{pid}/task")), used
    return None


def _is_standing(facts: list[bytes]) -> bool:
    return facts[0][0] in _STANDING or bool(int(facts[6]) & _EXITING)


def _state(pid: int) -> int | None:
    """None = it is gone."""
    try:
        return _facts(f"/proc/{pid}/stat")[0][0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def has_ended(pid: int) -> bool:
    state = _state(pid)
    return state is None or state in _ENDED


def is_stopped(pid: int) -> bool:
    """By a signal or by a tracer; not one that has ended."""
    return _state(pid) in _STOPPED


def program_state(pids: list[int]) -> str:
    """Of the program (second process of the sandbox's pid namespace): "Z" = it waits to be reaped; "" = it is not there, any more or yet.
    `pids`: the children of the sandbox's pid 1."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            facts = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
            if facts.get("NSpid", "").split()[-1:] == ["2"]:
                return facts.get("State", "").strip()[:1]
    return ""


def tree_bytes(pid: int) -> int:
    """Memory of a process and all that descend from it: proportional set sizes, in bytes."""
    total, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    waiting += [int(word) for word in file.read().split()]
        except OSError:  # it has ended
            continue
    return total


def session_members(session: int) -> set[int]:
    """Pids of the processes whose session that is."""
    found: set[int] = set()
    for pid in all_pids():
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(_facts(f"/proc/{pid}/stat")[3]) == session:
                found.add(pid)
    return found
