"""The state folder of the local backend and the folder of each job in it: names, durable steps, and what they say together.

state_dir/lock                     held by the one server that uses the folder
state_dir/jobs/{job id}/spec.json  what was submitted: the job is taken on
                       cancel      cancel was asked for; alone in a folder: before the job was submitted
                       plan.json   how this machine runs it
                       lock        held by the supervisor as long as it lives; by the server while it writes a job off
                       begun       the job may have run: it is never started again
                       journal     what happened (see journal.py); with a `done` line the job has ended
                       points      mount points of inputs in the job's own folder, noted before they are made
                       ctl         the supervisor's control socket
                       supervisor.log
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serai_backends.common import files
from serai_backends.common.submission import is_job_id
from serai_backends.errors import BackendUnavailable
from serai_backends.local import journal, limits
from serai_backends.local.supervisor.inputs import clear_points
from serai_backends.local.supervisor.plan import BEGUN, CANCEL, PLAN, SPEC, read_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serai_backends.local.journal import Line
    from serai_backends.local.supervisor.plan import Begun, Plan, Spec

_LOCK_TRIES, _STATE_LOCK_TRIES, _LOCK_PAUSE_S = 500, 200, 0.01


@dataclass(frozen=True, slots=True)
class Cancel:
    grace_ms: int


class JobFolder:
    """The folder of one job. Methods block for a short time; those that say "durable" have synced when they return."""

    def __init__(self, jobs: Path, job_id: str) -> None:
        """`job_id` was checked by `submission.is_job_id`."""
        self.path = jobs / job_id
        self.job_id = job_id

    def open(self) -> int:
        return os.open(self.path, files.DIRECTORY)

    def _make(self) -> None:
        """Durable. 0711: the supervisor looks for `cancel` after it gave its user up; state_dir itself is closed to others."""
        try:
            self.path.mkdir(mode=0o711)
        except FileExistsError:
            return
        parent = os.open(self.path.parent, files.DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _write(self, name: str, data: bytes) -> None:
        fd = self.open()
        try:
            files.write_atomic(fd, name, data)
        finally:
            os.close(fd)

    def _read(self, name: str) -> bytes | None:
        try:
            fd = self.open()
        except FileNotFoundError:
            return None
        try:
            return files.read_file(fd, name)
        finally:
            os.close(fd)

    def save_spec(self, spec: Spec) -> None:
        """Durable: from here on the job is taken on."""
        self._make()
        self._write(SPEC, json.dumps(spec).encode())

    def spec(self) -> Spec | None:
        data = self._read(SPEC)
        return read_spec(data) if data is not None else None

    def save_plan(self, plan: Plan) -> None:
        self._write(PLAN, json.dumps(plan).encode())

    def plan(self) -> Plan | None:
        data = self._read(PLAN)
        return json.loads(data) if data is not None else None

    def save_cancel(self, grace_ms: int) -> None:
        """Durable."""
        self._make()
        self._write(CANCEL, json.dumps({"grace_ms": grace_ms}).encode())

    def cancel(self) -> Cancel | None:
        data = self._read(CANCEL)
        return Cancel(grace_ms=int(json.loads(data)["grace_ms"])) if data is not None else None

    def begun(self) -> Begun | None:
        data = self._read(BEGUN)
        return json.loads(data) if data is not None else None

    def lines(self, offset: int = 0) -> tuple[list[Line], int]:
        """The whole lines of the journal from byte `offset` on, and the offset after them."""
        try:
            with (self.path / journal.NAME).open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        return journal.parse(data), offset + data.rfind(b"\n") + 1

    def close_if_over(self, at_ms: int, how: str, cause: str, why: str = "") -> bool:
        """Write the job off, durably, unless a supervisor is alive: every rank without an end gets `how`. Already ended: done.
        A job whose ranks have all ended was over then, and not when somebody found that its supervisor is gone.

        False = the lock is held, so somebody else writes.
        """
        fd = self.open()
        try:
            lock = files.try_lock(fd)
            if lock is None:
                return False
            try:
                lines = journal.parse(files.read_file(fd, journal.NAME) or b"")
                if journal.has_end(lines):
                    return True
                spec: Spec = json.loads(files.read_file(fd, SPEC) or b"{}")
                ended = {line.get("rank"): line.get("at", at_ms) for line in lines if line.get("k") == "end"}
                if len(ended) == spec["replicas"]:
                    at_ms = max(ended.values())
                more = [journal.end(at_ms, rank, how, cause=cause, why=why) for rank in range(spec["replicas"]) if rank not in ended]
                more.append(journal.done(at_ms, cause, why))
                journal_fd = journal.open_journal(fd)
                try:
                    journal.append(journal_fd, more)
                finally:
                    os.close(journal_fd)
                return True
            finally:
                os.close(lock)
        finally:
            os.close(fd)

    def clear_points(self) -> None:
        """Mount points that a killed supervisor left in the job's folder. After its last process only. Raises nothing."""
        spec, plan = self.spec(), self.plan()
        if spec is not None and plan is not None and spec["mounts"]:
            fd = self.open()
            try:
                clear_points(fd, spec, plan)
            finally:
                os.close(fd)

    def is_locked(self) -> bool:
        """Whether a launcher or supervisor is alive."""
        fd = self.open()
        try:
            lock = files.try_lock(fd)
        finally:
            os.close(fd)
        if lock is None:
            return True
        os.close(lock)
        return False

    def remove_groups(self, tree: dict[str, str], start: str) -> None:
        """What is left of the job's groups; nothing while a launcher or supervisor is alive: its groups are empty too, before its programs
        are in them and after those have ended, and it needs them then."""
        try:
            fd = self.open()
        except FileNotFoundError:  # forgotten: nobody starts it any more
            limits.remove_all(tree, f"{start}{self.job_id}+")
            return
        try:
            lock = files.try_lock(fd)
        finally:
            os.close(fd)
        if lock is not None:
            limits.remove_all(tree, f"{start}{self.job_id}+")
            os.close(lock)

    def log_tail(self) -> str:
        """The last line that the launcher or supervisor wrote, for words about a failure."""
        data = (self._read("supervisor.log") or b"")[-2000:].decode(errors="replace").strip()
        return data.rpartition("\n")[2]

    def remove(self) -> None:
        """Forget the job. Raises BackendUnavailable while something of it still lives.

        Under the job's lock and with the specification first: a kill in the middle leaves a folder without a specification, which
        nobody starts. A late launcher of an earlier server either does not get the lock or finds no specification.
        """
        try:
            fd = self.open()
        except FileNotFoundError:
            return
        try:
            lock = self._lock_soon(fd)
            try:
                self.clear_points()
                with suppress(FileNotFoundError):
                    os.unlink(SPEC, dir_fd=fd)
                shutil.rmtree(self.path, ignore_errors=True)
            finally:
                os.close(lock)
        finally:
            os.close(fd)

    def _lock_soon(self, fd: int) -> int:
        """The job's lock, for which the supervisor of an ended job is waited for: it lives some ms longer than its last word."""
        for _ in range(_LOCK_TRIES):
            lock = files.try_lock(fd)
            if lock is not None:
                return lock
            time.sleep(_LOCK_PAUSE_S)
        raise BackendUnavailable(f"job {self.job_id} has ended and its supervisor has not")


def open_state(state_dir: Path) -> tuple[Path, int]:
    """The folder of jobs, made when missing, and the descriptor that holds the state folder's lock.

    Raises OSError, and BackendUnavailable when another server has the lock.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    jobs = state_dir / "jobs"
    jobs.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(state_dir, files.DIRECTORY)
    try:
        lock = _state_lock(fd, state_dir)
    finally:
        os.close(fd)
    return jobs, lock


def _state_lock(fd: int, state_dir: Path) -> int:
    """A server that was killed while it started a process has left the lock to that process, for the ms until it executes its program."""
    for _ in range(_STATE_LOCK_TRIES):
        lock = files.try_lock(fd)
        if lock is not None:
            return lock
        time.sleep(_LOCK_PAUSE_S)
    raise BackendUnavailable(f"another server uses the state folder {state_dir}")


def all_folders(jobs: Path) -> Iterator[JobFolder]:
    for entry in os.scandir(jobs):
        if is_job_id(entry.name) and entry.is_dir(follow_symlinks=False):
            yield JobFolder(jobs, entry.name)


def clear_groups(jobs: Path, tree: dict[str, str], start: str) -> None:
    """Remove the groups that jobs of earlier servers left. `start`: the prefix of the state folder."""
    for job_id in limits.owners(tree, start):
        if is_job_id(job_id):
            JobFolder(jobs, job_id).remove_groups(tree, start)
