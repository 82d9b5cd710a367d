"""Shells: programs on a terminal beside a replica's own, each for one connection of the control socket.

    {"op":"shell","rank":0,"argv":[…],"columns":80,"rows":24}     argv: [] = the first of bash, zsh, fish and sh
answers {"ok":true} with the terminal's master, and when the program has ended {"exit":CODE} (128 + N for signal N);
or {"error":…}, with "gone":true when no such replica runs.

The end of the connection (its server closed it, or was killed) is a hang-up: SIGHUP to every process of the terminal's session, a short
grace, SIGKILL. A master is kept here as well, so that the kernel does not do the first step by itself in a pause, where its SIGCONT would
have the program compute. A shell whose replica ends is ended by the kernel with the replica's pid namespace; that waits until we have
reaped it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress

from serai_backends.local.supervisor import inside
from serai_backends.local.supervisor.processes import session_members
from serai_backends.local.supervisor.replica import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serai_backends.local.supervisor.control import Control
    from serai_backends.local.supervisor.events import Events
    from serai_backends.local.supervisor.plan import Plan, Spec
    from serai_backends.local.supervisor.replica import Replica

MOST = 32
"""Shells of one job at a time."""
_START_S = 5.0
_GRACE_S = 1.0
_MESSAGE_BYTES = 4096
_LARGEST_SIDE = 0xFFFF


class _Shell:
    """From the fork of the process that makes it to the end of its session."""

    def __init__(self, connection: int, rank: int, maker: int, channel: socket.socket) -> None:
        self.connection: int | None = connection
        self.rank, self.maker = rank, maker
        self.channel: socket.socket | None = channel
        """While it is being started."""
        self.pid: int | None = None
        self.master: int | None = None
        self.error: str | None = None
        self.due_s: float | None = time.monotonic() + _START_S
        """When it is killed: it has not started by then, or has not followed the hang-up."""

    def kill(self, number: int) -> None:
        """To its session; to its maker as well, while that lives."""
        targets: set[int] = {self.pid} if self.pid is not None else set()
        if self.pid is not None:
            with suppress(OSError):  # without descriptors nobody can be looked for; the kernel hangs up as well
                targets = session_members(self.pid) | (targets if self.channel is not None else set())
        if self.channel is not None:
            targets |= {self.maker}
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def is_over(self) -> bool:
        """Nothing of it is left that its end would still have to kill; its program has ended."""
        with suppress(OSError):
            return self.pid is not None and self.channel is None and not session_members(self.pid)
        return False

    def close_master(self) -> None:
        if self.master is not None:
            os.close(self.master)
            self.master = None


class Shells:
    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        replicas: Sequence[Replica],
        *,
        seccomp: bytes,
        control: Control,
        events: Events,
        refusal: Callable[[], str],
    ) -> None:
        """`refusal`: why no shell can be opened now in any replica; empty = it can."""
        self._spec, self._plan, self._replicas, self._seccomp = spec, plan, replicas, seccomp
        self._control, self._events, self._refusal = control, events, refusal
        self._shells: list[_Shell] = []
        self.no_files: tuple[int, int] = (0, 0)
        """The limit that replicas get."""

    @property
    def due_s(self) -> float | None:
        """When `check` has to be called at the latest."""
        return min((shell.due_s for shell in self._shells if shell.due_s is not None), default=None)

    def roots(self, rank: int) -> list[int]:
        """Processes that count as the replica's and do not descend from it."""
        return [shell.pid for shell in self._shells if shell.rank == rank and shell.pid is not None]

    # What a connection asks for

    def ask(self, fd: int, message: dict[str, object]) -> None:
        rank, argv, size = _understood(message)
        if not 0 <= rank < len(self._replicas) or not self._replicas[rank].started or self._replicas[rank].ended:
            self._control.answer(fd, {"error": f"rank {rank} does not run", "gone": True})
            return
        visit = inside.Visit(argv, environment(self._spec, self._plan) | {"TERM": "xterm-256color"}, size)
        words = self._refusal() or self._crowded(fd)
        if words:
            self._control.answer(fd, {"error": words})
            return
        try:
            self._start(fd, self._replicas[rank], visit)
        except OSError as error:
            self._control.answer(fd, {"error": f"the shell could not be started: {error.strerror}"})

    def _crowded(self, fd: int) -> str:
        if any(shell.connection == fd for shell in self._shells):
            return "this connection has a shell"
        return f"the job has {MOST} open shells, which is the most: close one" if len(self._shells) >= MOST else ""

    def _start(self, fd: int, replica: Replica, visit: inside.Visit) -> None:
        """Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            maker = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if maker == 0:
            inside.go(
                theirs,
                replica,
                visit,
                plan=self._plan,
                seccomp=self._seccomp,
                replicas=len(self._replicas),
                no_files=self.no_files,
            )
        theirs.close()
        ours.setblocking(False)
        shell = _Shell(fd, replica.rank, maker, ours)
        self._shells.append(shell)
        self._events.add(ours.fileno(), lambda: self._hear(shell))

    def dropped(self, fd: int) -> None:
        for shell in self._shells:
            if shell.connection == fd:
                shell.connection = None
                if not self._refusal():
                    self._hang_up(shell)
                # else: in a pause nothing of it may run; see `go_on`

    def go_on(self) -> None:
        """The pause has ended: what was hung up meanwhile."""
        for shell in self._shells:
            if shell.connection is None and shell.due_s is None:
                self._hang_up(shell)

    # The way of a shell

    def _hear(self, shell: _Shell) -> None:
        """What those say that start it."""
        while shell.channel is not None:
            try:
                data, fds, _, _ = socket.recv_fds(shell.channel, _MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", list[int]()
            if data:
                self._heard(shell, data, fds)
            else:
                self._started(shell)

    @staticmethod
    def _heard(shell: _Shell, data: bytes, fds: list[int]) -> None:
        """Must not raise: the supervisor's end is the end of its job."""
        try:
            facts: dict[str, str | int] = json.loads(data)
            if "pid" not in facts:
                shell.error = str(facts["error"])
                return
            shell.pid = int(facts["pid"])
            shell.master = fds[0]
        except (ValueError, KeyError, IndexError) as error:  # cut off, or the descriptor was lost on the way
            shell.error = f"what it said was lost: {type(error).__name__}"
            if shell.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(shell.pid, signal.SIGKILL)

    def _started(self, shell: _Shell) -> None:
        """Nobody is left who could say that it failed."""
        assert shell.channel is not None  # noqa: S101 - for the type checker
        self._events.remove(shell.channel.fileno())
        shell.channel.close()
        shell.channel = None
        if shell.pid is None or shell.master is None or shell.error is not None:
            words = shell.error or "it ended before it had begun"
            self._tell(shell, {"error": f"the shell could not be started: {words}"})
            self._forget(shell)
            return
        shell.due_s = None
        self._tell(shell, {"ok": True}, [shell.master])
        if shell.connection is None:
            self._hang_up(shell)

    def _tell(self, shell: _Shell, facts: dict[str, object], passed: Sequence[int] = ()) -> None:
        if shell.connection is not None:
            self._control.answer(shell.connection, facts, passed)

    def _forget(self, shell: _Shell) -> None:
        shell.close_master()
        if shell in self._shells:
            self._shells.remove(shell)

    def _hang_up(self, shell: _Shell) -> None:
        """Also of one that is being started: it gets no time."""
        shell.kill(signal.SIGHUP if shell.channel is None else signal.SIGKILL)
        shell.close_master()
        shell.due_s = time.monotonic() + _GRACE_S

    def reaped(self, pid: int, status: int) -> None:
        """A process that is no replica's has ended; it may be a shell's, also one of which we have not heard yet."""
        for shell in list(self._shells):
            self._hear(shell)
        for shell in list(self._shells):
            if shell.pid == pid:
                code = os.waitstatus_to_exitcode(status)
                self._tell(shell, {"exit": code if code >= 0 else 128 - code})
                if shell.due_s is None or shell.is_over():
                    self._forget(shell)

    def check(self) -> None:
        """Kill what is due."""
        now_s = time.monotonic()
        for shell in list(self._shells):
            if shell.due_s is None or now_s < shell.due_s:
                continue
            shell.kill(signal.SIGKILL)
            if shell.channel is None:
                self._forget(shell)
            else:
                shell.error = shell.error or "it did not start in time"
                shell.due_s = now_s + _GRACE_S

    def stop_starting(self) -> None:
        """The job is about to stand still: what is being made now would not come to an end."""
        for shell in self._shells:
            if shell.channel is not None:
                shell.error = "the job is being suspended"
                shell.kill(signal.SIGKILL)


def _understood(message: dict[str, object]) -> tuple[int, list[str], tuple[int, int]]:
    """Rank, program, columns and rows. Raises KeyError, TypeError, ValueError."""
    rank, columns, rows, argv = message["rank"], message["columns"], message["rows"], message["argv"]
    if not isinstance(rank, int) or not isinstance(columns, int) or not isinstance(rows, int) or not isinstance(argv, list):
        raise TypeError
    words: list[object] = argv  # pyright: ignore[reportUnknownVariableType]  # JSON: looked at below
    if not all(0 < side <= _LARGEST_SIDE for side in (columns, rows)):
        raise ValueError
    return rank, [str(word) for word in words], (columns, rows)
