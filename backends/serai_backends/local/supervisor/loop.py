# pathlib would cost each supervisor 5 ms and its memory
# ruff: noqa: PTH110, PTH116
"""The supervisor's loop: starts the replicas and records what happens. Pid 1 of the job's pid namespace.

Being pid 1 makes the promise of ENDED easy: `kill(-1)` reaches every process of the job and nothing else, `waitpid` sees each of
them go, and when this process dies the kernel ends them all. Order of every change: journal, synced; then subscribers are told.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress

from serai_backends.common import files
from serai_backends.local import journal
from serai_backends.local.supervisor import namespaces
from serai_backends.local.supervisor.control import Control
from serai_backends.local.supervisor.doors import Doors
from serai_backends.local.supervisor.events import Events
from serai_backends.local.supervisor.inputs import remove_points
from serai_backends.local.supervisor.pause import Pause, release
from serai_backends.local.supervisor.plan import CANCEL
from serai_backends.local.supervisor.processes import tree_bytes
from serai_backends.local.supervisor.replica import Replica, write_shared
from serai_backends.local.supervisor.shells import Shells

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from serai_backends.local.limits import Group
    from serai_backends.local.supervisor.plan import Plan, Spec

_STARTING_POLL_MS = 1
"""While programs are being executed there is no event to wait for (see Replica.is_executed); it takes some milliseconds."""
_SUSPENDING_POLL_MS = 5
_SUSPENDED_CHECK_S = 0.5
_STARTED_AT_LATEST_S = 2.0
_LOOK_S = 5.0
"""How often to look for programs that ended and whose sandbox does not say so: a program can trace its pid 1, and leave it stopped."""
_NOT_STILL = "it did not keep still while it was suspended"
_MEMORY_CHECK_S = 1.0


class Supervisor:
    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        *,
        job_fd: int,
        journal_fd: int,
        listener: socket.socket,
        logs: list[tuple[int, int]],
        groups: list[Group],
        points: list[str],
        hosts: list[str],
        seccomp: bytes,
    ) -> None:
        self._spec, self._plan, self._seccomp = spec, plan, seccomp
        self._job_fd, self._journal_fd = job_fd, journal_fd
        self._replicas = [Replica(rank, log_fds, groups[rank] if groups else None) for rank, log_fds in enumerate(logs)]
        self._points, self._hosts = points, hosts
        self._spawned = 0
        self._starting: list[Replica] = []
        self._spawned_at_s = 0.0
        self._stopping = False
        self._cause = self._why = ""
        self._kill_at_s: float | None = None
        self._memory_check_at_s = time.monotonic() + _MEMORY_CHECK_S
        self._pause = Pause()
        self._pause_check_at_s = 0.0
        self._look_at_s = time.monotonic() + _LOOK_S
        self._by_pid: dict[int, Replica] = {}
        self._events = Events()
        self._control = Control(listener, self._events, len(logs), self)
        self._shells = Shells(
            spec, plan, self._replicas, seccomp=seccomp, control=self._control, events=self._events, refusal=self._no_shells
        )
        self._control.offer("shell", self._shells)
        self._doors = Doors(plan["block"], self._replicas, control=self._control, events=self._events)
        self._control.offer("connect", self._doors)
        self._lines: list[journal.Line] = []
        self._no_files = resource.getrlimit(resource.RLIMIT_NOFILE)

    def run(self, no_files: tuple[int, int]) -> None:
        """Until every process of the job is gone and that is written down. `no_files`: the limit that replicas get."""
        self._no_files = self._shells.no_files = no_files
        try:
            write_shared(self._spec, self._plan, self._hosts)
            bwrap = os.stat(self._plan["bwrap"])
        except Exception as error:  # whatever it is: nothing has run, and nobody else would say why
            self._stop("start_failed", f"{type(error).__name__}: {error}", "sandbox_failed")
            self._finish()
            return
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._events.add(wake_read, lambda: _drain(wake_read))
        self._control.listen()
        while not all(replica.ended for replica in self._replicas):
            self._events.wait(self._timeout_ms())
            self._reap()
            self._check_executed(bwrap)
            self._check_deadline()
            self._check_pause()
            self._check_ends()
            self._check_memory()
            self._shells.check()
            self._doors.check()
            self._spawn_next()
            self._commit()
        self._finish()

    def _finish(self) -> None:
        self._sweep()
        self._clear_points()
        self._lines.append(journal.done(self._now_ms(), self._cause, self._why))
        self._commit()

    def _now_ms(self) -> int:
        return journal.now_ms(self._plan["clock_offset_ms"])

    def _timeout_ms(self) -> int:
        if self._spawned < len(self._replicas) and not self._stopping:
            return 0
        if self._starting:
            return _STARTING_POLL_MS
        if self._pause.pending:
            return _SUSPENDING_POLL_MS
        memory_at_s = self._memory_check_at_s if self._plan["soft_memory"] else None
        pause_at_s = self._pause_check_at_s if self._pause.wanted else None
        beside = (self._shells.due_s, self._doors.due_s)
        due = [at for at in (self._kill_at_s, memory_at_s, pause_at_s, self._look_at_s, *beside) if at is not None]
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1)

    def _spawn_next(self) -> None:
        """One replica a round, so that messages are heard in between."""
        if self._stopping or self._spawned == len(self._replicas):
            return
        if files.exists(self._job_fd, CANCEL):
            self._stop("canceled")
            return
        replica = self._replicas[self._spawned]
        self._spawned += 1
        try:
            replica.spawn(self._spec, self._plan, self._seccomp, self._no_files)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            replica.ending = ("start_failed", f"the replica could not be started: {said}", "sandbox_failed")
            self._end(replica)
            return
        assert replica.outer is not None and replica.status_fd is not None  # noqa: S101 - for the type checker
        self._by_pid[replica.outer] = replica
        self._events.add(replica.status_fd, lambda: self._read_status(replica))
        self._starting.append(replica)
        self._spawned_at_s = time.monotonic()

    def _read_status(self, replica: Replica) -> None:
        fd = replica.status_fd
        if fd is None:
            return
        more = replica.read_status()
        if replica.inner is not None:
            self._by_pid.setdefault(replica.inner, replica)
        if not more:
            self._events.remove(fd)

    def _reap(self) -> None:
        """Also orphans: the sandbox's pid 1 becomes our child when bubblewrap's outer process ends before it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            replica = self._by_pid.pop(pid, None)
            if replica is None:
                self._shells.reaped(pid, status)
                continue
            if pid == replica.outer:
                self._outer_gone(replica, status)
            else:
                replica.inner_gone = True
            if replica.outer_code is not None and replica.inner_gone:
                self._end(replica)

    def _outer_gone(self, replica: Replica, status: int) -> None:
        replica.outer_code = os.waitstatus_to_exitcode(status)
        self._read_status(replica)
        if replica.inner is None:
            replica.inner_gone = True
            return
        # bubblewrap reaped pid 1 itself, or has just left it to us; then SIGCHLD is on the way
        replica.kill(signal.SIGKILL)
        if not os.path.exists(f"/proc/{replica.inner}"):
            replica.inner_gone = True
            self._by_pid.pop(replica.inner, None)

    def _check_executed(self, bwrap: os.stat_result) -> None:
        if not self._starting:
            return
        late = time.monotonic() - self._spawned_at_s > _STARTED_AT_LATEST_S
        for replica in list(self._starting):
            if replica.inner is not None and (late or replica.is_executed(bwrap)):
                self._note_start(replica)

    def _note_start(self, replica: Replica) -> None:
        if replica in self._starting:
            self._starting.remove(replica)
        if not replica.started:
            replica.started = True
            self._lines.append(journal.start(self._now_ms(), replica.rank))

    def _end(self, replica: Replica) -> None:
        if replica.exit_code is not None:
            self._note_start(replica)
        if replica in self._starting:
            self._starting.remove(replica)
        replica.ended = True
        line = replica.line(self._now_ms())
        replica.close()
        self._lines.append(line)
        if line.get("end") == "start_failed" and not self._stopping:
            cause, why = line.get("cause", ""), line.get("why", "")
            self._stop("start_failed", cause if why else f"rank {replica.rank}: {cause}", why)

    def _stop(self, how: str, cause: str = "", why: str = "") -> None:
        """End everything that has not ended, and start nothing more."""
        self._stopping, self._cause, self._why = True, cause, why
        for replica in self._replicas[self._spawned :]:
            if not replica.ended:
                replica.ending = (how, cause, why)
                self._end(replica)
        for replica in self._replicas[: self._spawned]:
            if not replica.ended and replica.ending is None:
                replica.ending = (how, cause, why)
        self._kill_all()

    def cancel(self, grace_ms: int) -> None:
        kill_at_s = time.monotonic() + grace_ms / 1000
        if grace_ms <= 0 or self._spawned < len(self._replicas):
            self._stop("canceled")
            return
        if self._kill_at_s is None or kill_at_s < self._kill_at_s:
            self._kill_at_s = kill_at_s
        for replica in self._replicas:
            if not replica.ended and replica.ending is None:
                replica.ending = ("canceled", "", "")
                replica.kill(signal.SIGTERM)
        self._stopping = True
        self.resume()

    def suspend(self) -> None:
        if not self._stopping and not self._pause.wanted and all(replica.started for replica in self._replicas):
            self._shells.stop_starting()
            self._pause.start()

    def _no_shells(self) -> str:
        return "the job is suspended: open a shell when it runs again" if self._pause.wanted else ""

    def _check_pause(self) -> None:
        """Go on stopping; later see to it that it stays so, and that ends are seen."""
        if not self._pause.wanted or (self._pause.reached and time.monotonic() < self._pause_check_at_s):
            return
        self._pause_check_at_s = time.monotonic() + _SUSPENDED_CHECK_S
        now_ms = self._now_ms()
        if self._pause.reached:
            if not self._pause.check(self._replicas, now_ms):
                self._not_still()
                return
        elif self._pause.step(self._replicas, now_ms):
            self._lines.append(journal.suspend(now_ms))
        release(self._replicas, in_pause=True)

    def _check_ends(self) -> None:
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + _LOOK_S
            if not self._pause.wanted:
                release(self._replicas, in_pause=False)

    def _not_still(self) -> None:
        """What computed while it was free of charge is charged, from the last moment at which it is known to have stood still."""
        self._lines.append(journal.resume(self._pause.good_at_ms))
        self._pause.wanted = self._pause.reached = False
        self._stop("signaled", _NOT_STILL)

    def resume(self) -> None:
        """Written down first: nothing runs that is not counted."""
        if self._pause.reached:
            now_ms = self._now_ms()
            self._lines.append(journal.resume(now_ms if self._pause.check(self._replicas, now_ms) else self._pause.good_at_ms))
            self._commit()
        if self._pause.wanted:
            self._pause.end(self._replicas)
            self._shells.go_on()

    def _check_deadline(self) -> None:
        if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
            self._kill_at_s = None
            self._kill_all()

    def _kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        for replica in self._replicas:
            replica.freeze(False)

    def _sweep(self) -> None:
        """Nothing of the job is left after this."""
        self._kill_all()
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _clear_points(self) -> None:
        """Before the end is told: who reads the job's folder then finds no empty mount points in it."""
        if self._points:
            work_fd = os.open(f"{namespaces.VIEW}/work", files.DIRECTORY)
            remove_points(work_fd, self._points)
            os.close(work_fd)

    def _check_memory(self) -> None:
        """Where there are no cgroups: end a replica that holds more than it asked for. Soft: it may hold more for a second."""
        limit = self._spec["memory_bytes"]
        if not self._plan["soft_memory"] or not limit or time.monotonic() < self._memory_check_at_s:
            return
        self._memory_check_at_s = time.monotonic() + _MEMORY_CHECK_S
        for replica in self._replicas:
            if replica.inner is None or replica.ended or replica.ending is not None:
                continue
            if sum(map(tree_bytes, (replica.inner, *self._shells.roots(replica.rank)))) > limit:
                replica.ending = ("out_of_memory", "the replica held more memory than it asked for", "")
                replica.kill(signal.SIGKILL)

    def _commit(self) -> None:
        """Write down what is new, then tell the subscribers."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        journal.append(self._journal_fd, lines)
        self._control.tell_change()


def _drain(fd: int) -> None:
    with suppress(BlockingIOError):
        os.read(fd, 4096)
