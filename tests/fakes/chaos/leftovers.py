"""What a Serai that has nothing to do any more has left on the machine: processes, mounts, groups, networks, folders of jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serai_backends.local import limits

_DEADLINE_S = 20.0


async def leftovers(folder: Path) -> list[str]:
    """In words; empty = nothing is left. What is just going is waited for."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while (left := await asyncio.to_thread(look, folder)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    return left


def look(folder: Path) -> list[str]:
    return [*_processes(folder), *_mounts(folder), *_groups(folder), *_job_folders(folder), *_networks()]


def _processes(folder: Path) -> list[str]:
    """A job's process sees a part of the folder in its own table of mounts, or was called with its path."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes()
            is_job = str(folder / "state").encode() in command or str(folder).encode() in (process / "mountinfo").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if is_job:
            found.append(f"process {process.name} {command.replace(bytes(1), b' ').decode(errors='replace')[:120]}")
    return found


def _mounts(folder: Path) -> list[str]:
    return [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


def _groups(folder: Path) -> list[str]:
    start = limits.prefix(str(folder / "state" / "local"))
    return [
        f"group {group}" for parent in limits.own_folders().values() for group in Path(parent).glob(f"{start}*") if Path(parent).is_dir()
    ]


def _job_folders(folder: Path) -> list[str]:
    return [f"folder of job {entry.name}" for entry in (folder / "state" / "local" / "jobs").iterdir()]


def _networks() -> list[str]:
    """No cable between jobs has an end in the machine's own network; what others have there (veth…) is theirs."""
    return [f"device {device.name}" for device in Path("/sys/class/net").iterdir() if device.name.startswith("peer")]
