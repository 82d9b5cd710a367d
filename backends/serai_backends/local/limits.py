# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH102, PTH106, PTH110, PTH118, PTH119, PTH123, PTH208
"""Hard limits by cgroups, version 1 and 2, where this process may make groups below its own; only the standard library.

Each replica gets a group of its own, made by root before the supervisor gives its user up. A replica moves itself into it, by descriptors
that root opened, before bubblewrap starts. Groups stay below the caller's own path; the server removes them when the job has ended.
"""

from __future__ import annotations

import contextlib
import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT_FOR = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"}
UNIFIED = "unified"
"""Key of the one folder of version 2 in a tree."""
FREEZER = "freezer"
"""Key of a folder of version 2 in a tree of version 1: its groups have no limits, they are only frozen. (The freezer of version 1 is not
used: it holds SIGKILL back, so ends would not be seen.)"""
_FREEZE = "cgroup.freeze"
_PERIOD_US = 100_000


def own_folders() -> dict[str, str]:
    """Folder of this process' own group by controller: `memory`, `cpu`, `pids` (version 1), `unified` (version 2). Absent = not mounted."""
    mine: dict[str, str] = {}
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for name in controllers.split(",") if controllers else [UNIFIED]:
                mine[name] = path
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            root, point = before.split(" ")[3:5]
            if kind not in {"cgroup", "cgroup2"}:
                continue
            for name in [UNIFIED] if kind == "cgroup2" else options.strip().split(","):
                inside = os.path.relpath(mine.get(name, root), root)
                if name in mine and not inside.startswith(".."):
                    found[name] = os.path.normpath(os.path.join(point, inside))
    return found


def usable() -> dict[str, str]:
    """The parent folders in which this process can make groups with limits; tried by making one. Empty = none."""
    found = own_folders()
    tree: dict[str, str] = {}
    for name, key in ROOT_FOR.items():
        if name in found and _can_make(found[name], key):
            tree[name] = found[name]
    if not tree and UNIFIED in found:
        with contextlib.suppress(OSError):
            _write(f"{found[UNIFIED]}/cgroup.subtree_control", "+memory +cpu +pids")
        if _can_make(found[UNIFIED], "memory.max"):
            tree[UNIFIED] = found[UNIFIED]
    elif tree and UNIFIED in found and _can_make(found[UNIFIED], _FREEZE):
        tree[FREEZER] = found[UNIFIED]
    return tree


def _can_make(parent: str, key: str) -> bool:
    path = f"{parent}/serai-probe-{os.getpid()}"
    try:
        os.mkdir(path)
    except OSError:
        return False
    try:
        return os.access(f"{path}/{key}", os.W_OK)
    finally:
        os.rmdir(path)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def prefix(state_dir: str) -> str:
    """First part of the names of all groups of one state folder: two servers on a machine do not meet."""
    return f"serai-{zlib.crc32(os.path.realpath(state_dir).encode()):08x}-"


class Group:
    """The group of one replica: in every hierarchy one folder. Closed by `close`; the folders are removed by `remove_all`."""

    def __init__(self, tree: dict[str, str], name: str, *, memory_bytes: int, cpu: int, pids: int) -> None:
        """Raises OSError."""
        self._procs: list[int] = []
        self._oom: int | None = None
        self._freezer: int | None = None
        self._events: int | None = None
        values = {
            "memory": [("memory.limit_in_bytes", memory_bytes), ("memory.memsw.limit_in_bytes", memory_bytes)],
            "cpu": [("cpu.cfs_period_us", _PERIOD_US), ("cpu.cfs_quota_us", cpu * _PERIOD_US)],
            "pids": [("pids.max", pids)],
            UNIFIED: [
                ("memory.max", memory_bytes),
                ("memory.swap.max", 0),
                ("cpu.max", f"{cpu * _PERIOD_US} {_PERIOD_US}"),
                ("pids.max", pids),
            ],
            FREEZER: [],
        }
        for controller, parent in tree.items():
            folder = f"{parent}/{name}"
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)
            os.mkdir(folder)
            for key, value in values[controller]:
                # no memory asked for = no limit; swap accounting and single controllers may be absent
                if (memory_bytes or not key.startswith("memory")) and os.path.exists(f"{folder}/{key}"):
                    _write(f"{folder}/{key}", str(value))
            self._procs.append(os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            counter = {"memory": "memory.oom_control", UNIFIED: "memory.events"}.get(controller)
            if counter and os.path.exists(f"{folder}/{counter}"):
                self._oom = os.open(f"{folder}/{counter}", os.O_RDONLY | os.O_CLOEXEC)
            if os.path.exists(f"{folder}/{_FREEZE}"):
                self._freezer = os.open(f"{folder}/{_FREEZE}", os.O_WRONLY | os.O_CLOEXEC)
                self._events = os.open(f"{folder}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def join(self) -> None:
        """This process enters; the rights are those of whoever opened the files."""
        for fd in self._procs:
            os.write(fd, b"0")

    def out_of_memory_kills(self) -> int:
        return _count(self._oom, b"oom_kill")

    def freeze(self, wanted: bool) -> None:
        """Raises nothing: where it does not work, the job is stopped by signals alone, and watched."""
        if self._freezer is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._freezer, b"1" if wanted else b"0", 0)

    def is_frozen(self) -> bool:
        return _count(self._events, b"frozen") == 1

    def close(self) -> None:
        for fd in (*self._procs, self._oom, self._freezer, self._events):
            if fd is not None:
                os.close(fd)
        self._procs = []
        self._oom = self._freezer = self._events = None


def _count(fd: int | None, wanted: bytes) -> int:
    """The number after a name in a file of lines `name number`; 0 = there is none."""
    if fd is None:
        return 0
    for line in os.pread(fd, 4096, 0).splitlines():
        name, _, value = line.partition(b" ")
        if name == wanted:
            return int(value)
    return 0


def _groups(tree: dict[str, str], start: str) -> Iterator[str]:
    for parent in tree.values():
        with contextlib.suppress(FileNotFoundError):
            yield from (f"{parent}/{name}" for name in os.listdir(parent) if name.startswith(start))


def owners(tree: dict[str, str], start: str) -> set[str]:
    """Ids of the jobs that have groups whose names begin with `start`, the prefix of a state folder."""
    return {os.path.basename(folder).removeprefix(start).rpartition("+")[0] for folder in _groups(tree, start)}


def remove_all(tree: dict[str, str], start: str) -> int:
    """Remove the empty groups whose names begin with `start`; the number of those that are still in use."""
    left = 0
    for folder in list(_groups(tree, start)):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            left += 1
    return left
