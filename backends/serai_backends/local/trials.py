"""Folders beside `jobs` in which a trial job runs (see probe.py), and what becomes of those whose maker was killed.

A trial's folder is locked by its maker for as long as it runs, so one that can be locked has lost it: its job is ended and it is removed,
when a server is opened on the state folder. Its groups are then empty and go as those of other jobs do.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.common import files
from serai_backends.local.adopt import open_process
from serai_backends.local.folder import all_folders

if TYPE_CHECKING:
    from collections.abc import Generator

PREFIX = "trial-"
_JOBS = "jobs"
_STALE_S = 600
"""A younger folder without jobs may be that of a maker who has not locked it yet."""
_GONE_S = 10.0


@contextmanager
def trial_folder(state_dir: Path | None) -> Generator[Path]:
    """A locked folder with `jobs` and `drives` in it, removed at the end. None = among the machine's temporary ones. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=state_dir) as name:
        scratch = Path(name)
        lock = _try_lock(scratch)
        try:
            # after the lock: who finds them finds it as well
            (scratch / _JOBS).mkdir()
            (scratch / "drives").mkdir()
            yield scratch
        finally:
            if lock is not None:
                os.close(lock)


def clear_trials(state_dir: Path) -> None:
    """End and remove the trials of makers that were killed. Raises OSError."""
    for scratch in state_dir.glob(f"{PREFIX}*"):
        if not (scratch / _JOBS).is_dir():
            if time.time() - scratch.lstat().st_mtime > _STALE_S:
                shutil.rmtree(scratch, ignore_errors=True)
            continue
        lock = _try_lock(scratch)
        if lock is None:
            continue  # a `check` that runs now
        try:
            _end_jobs(scratch / _JOBS)
            shutil.rmtree(scratch, ignore_errors=True)
        finally:
            os.close(lock)


def _try_lock(scratch: Path) -> int | None:
    fd = os.open(scratch, files.DIRECTORY)
    try:
        return files.try_lock(fd)
    finally:
        os.close(fd)


def _end_jobs(jobs: Path) -> None:
    """The supervisor is pid 1 of its job: all of it goes with it."""
    for folder in all_folders(jobs):
        begun = folder.begun()
        process = open_process(begun) if begun is not None else None
        if process is not None:
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], _GONE_S)
            finally:
                os.close(process)
