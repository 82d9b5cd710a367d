"""The hub of open shells: who may open one, who comes back to it, and when it is over.

A shell that was opened by a session outlives its connection for a while, so that a cut is no loss; one that an operator's tool opened
ends with its connection, for there is nothing by which to come back. Nothing is stored: when the server is killed its shells are gone, and
their sessions are over at the next start.

A program is started by a task of the shell, not of the connection: who is cut off meanwhile comes back to it as to any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from types import TracebackType
from typing import Self

import structlog
from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.api import OpensShells, Shell
from serai_backends.common.time import sleep_or
from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.model import TerminalSize

from serai_server.clock import Clock
from serai_server.errors import BackendDown, Forbidden, Unsupported, WrongState
from serai_server.jobs.registry import Registry as Jobs
from serai_server.sessions import shell_requests
from serai_server.sessions.connection import connected
from serai_server.sessions.open_shell import OpenShell
from serai_server.sessions.service import ShellSessions
from serai_server.sessions.session import Session
from serai_server.store.api import StoreError
from serai_server.store.model import JobRecord, State

log = structlog.get_logger("serai.sessions")

_CLOSE_S = 5.0
"""For what is still open when the hub is left."""
_STOPPING = "the provider's server is being stopped; open a new shell when it is back"
_SUSPENDED = "the job is suspended; open a new shell when it goes on"
_ELSEWHERE = (
    "this shell is open in another window; close it there, or open a new one in UCloud; "
    "if its connection has just broken, try again in half a minute"
)
_NOT_NOW = "the provider's server is being stopped; try again when it is back"


class ShellHub:
    """Use as `async with`; leaving ends every shell."""

    def __init__(self, *, backend: OpensShells | None, sessions: ShellSessions, jobs: Jobs, clock: Clock, detached_ms: int) -> None:
        """`backend` None = it opens no shells. `detached_ms`: for how long a shell stays without a connection. How many there may be is
        counted by `sessions`, each of which has one."""
        self._backend = backend
        self._sessions = sessions
        self._jobs = jobs
        jobs.on_change(self._job_changed)
        self._clock = clock
        self._detached_ms = detached_ms
        self._shells: dict[str, OpenShell] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop(0.0)
        # Each is closed by a task of its own; what takes too long is left to the backend.
        closed = asyncio.Event()
        closing = asyncio.ensure_future(asyncio.gather(*self._tasks, return_exceptions=True))
        closing.add_done_callback(lambda _: closed.set())
        await sleep_or(self._clock, _CLOSE_S, closed)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)

    def __len__(self) -> int:
        """Shells that are open, those that are being opened included."""
        return len(self._shells)

    async def shell(self, requests: AsyncIterator[pb.ShellRequest], *, holder: bool) -> AsyncGenerator[pb.ShellResponse]:
        """One connection, from `open` to `exited`. `holder`: the caller has a session's secret, and may not name a program.

        Raises InvalidRequest, SessionUnknown, Forbidden, WrongState, BackendDown and StoreUnavailable, and for a program what opening a
        session raises.
        """
        opening = shell_requests.opening(await anext(aiter(requests), pb.ShellRequest()))
        size = shell_requests.opening_size(opening)
        if opening.HasField("program") and holder:
            raise Forbidden("this call needs a session's secret")
        shell, resumed = await self._shell(opening, size)
        try:
            await self._started(shell)
            redraw = resumed and size in (None, shell.size)
            if size is not None and size != shell.size:
                await shell.resize(size)
            async with aclosing(connected(shell, requests, self._clock, resumed=resumed, redraw=redraw)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._detached(shell)

    async def stop(self, grace_s: float) -> None:
        """Ends every shell, and gives who is attached so long to hear of it. From now on none is opened."""
        self._stopping = True
        for shell in [*self._shells.values()]:
            self._end(shell, _STOPPING)
        if grace_s:
            await sleep_or(self._clock, grace_s, self._none_left)

    # Opening, and coming back.

    async def _shell(self, opening: pb.ShellOpen, size: TerminalSize | None) -> tuple[OpenShell, bool]:
        """The shell, attached, and whether it was there already."""
        if self._stopping:
            raise BackendDown(_NOT_NOW)
        if self._backend is None:
            raise Unsupported("this provider does not open shells of jobs")
        if opening.HasField("program"):
            session = await self._sessions.for_program(opening.program.job_id, opening.program.rank)
            return self._open(self._backend, session, opening, size), False
        session = self._sessions.shell_of(opening.secret)
        known = self._shells.get(session.id)
        if known is None:
            return self._open(self._backend, session, opening, size), False
        if known.attached:
            raise WrongState(_ELSEWHERE)
        self._come_back(known)
        return known, True

    def _open(self, backend: OpensShells, session: Session, opening: pb.ShellOpen, size: TerminalSize | None) -> OpenShell:
        try:
            self._check_suspended(session)
        except WrongState as error:
            if opening.HasField("program"):
                self._sessions.end(session, str(error))  # nobody else has it; a user's is good again when the job goes on
            raise
        shell = OpenShell(session, size or shell_requests.DEFAULT_SIZE, self._clock, program=opening.HasField("program"))
        self._shells[session.id] = shell
        self._none_left.clear()
        session.attached = True
        shell.start = self._spawn(self._start(backend, shell, tuple(opening.program.argv)))
        return shell

    async def _start(self, backend: OpensShells, shell: OpenShell, argv: tuple[str, ...]) -> None:
        session = shell.session
        try:
            await self._begin(shell)
            running = await backend.open_shell(session.job_id, session.rank, argv, shell.size)
        except asyncio.CancelledError:
            shell.closed = True
            self._end(shell, _NOT_NOW)  # no effect when it was cancelled by its end
            raise
        except Exception as error:
            self._not_started(shell, error)
            raise
        shell.started(running)
        self._spawn(self._live(shell, running))
        _log("shell.opened", shell, program=shell.program)

    async def _begin(self, shell: OpenShell) -> None:
        await self._sessions.begin(shell.session)
        shell.begun = True
        if shell.ending is not None:
            raise asyncio.CancelledError  # it was ended meanwhile

    def _not_started(self, shell: OpenShell, error: Exception) -> None:
        """Nothing runs. What is passing leaves the session to be tried again; a program's is nobody else's."""
        self._forget_timer(shell)
        self._remove(shell)
        shell.session.attached = False
        _log("shell.not_started", shell, why=type(error).__name__)
        if shell.program or not isinstance(error, (StoreError, BackendUnavailable)) or shell.ending is not None:
            self._sessions.end(shell.session, "its shell could not be started")
        elif isinstance(error, BackendUnavailable):
            self._sessions.not_started(shell.session)

    async def _started(self, shell: OpenShell) -> None:
        """Once it is, or it was ended before. Raises what went wrong."""
        if shell.start is None:
            return
        await asyncio.wait([shell.start])  # who waits may be cut off; the start goes on
        if not shell.start.cancelled() and (error := shell.start.exception()) is not None:
            if isinstance(error, JobNotThere):
                raise WrongState(f"rank {shell.session.rank} of job {shell.session.job_id} does not run") from error
            raise error

    def _check_suspended(self, session: Session) -> None:
        record = self._jobs.get(session.job_id)
        if record is not None and record.state == State.SUSPENDED:
            raise WrongState(f"job {session.job_id} is suspended: resume it first")

    def _come_back(self, shell: OpenShell) -> None:
        self._forget_timer(shell)
        shell.attach()
        shell.session.attached = True
        _log("shell.resumed", shell)

    # Leaving, and the end.

    async def _live(self, shell: OpenShell, running: Shell) -> None:
        try:
            await shell.live(running)
        finally:
            self._settle(shell)

    def _detached(self, shell: OpenShell) -> None:
        shell.detach()
        if self._shells.get(shell.session.id) is not shell:
            return  # it could not be started, and its session may have another one by now
        shell.session.attached = False
        if shell.program:
            self._end(shell, "its connection has ended")
        elif not shell.told and not self._stopping and (shell.ending is None or not shell.ending.why):
            shell.timer = self._spawn(self._wait(shell))
            _log("shell.detached", shell)
        self._settle(shell)

    async def _wait(self, shell: OpenShell) -> None:
        await self._clock.sleep(self._detached_ms / 1_000)
        shell.timer = None
        self._end(shell, f"nobody came back to it within {self._detached_ms / 1_000:g} s")

    def _end(self, shell: OpenShell, why: str) -> None:
        shell.end(why)
        if shell.start is not None and shell.begun:
            shell.start.cancel()
        self._settle(shell)

    def _job_changed(self, now: JobRecord, before: JobRecord | None) -> None:
        del before
        if now.state == State.SUSPENDED:
            for shell in [shell for shell in self._shells.values() if shell.session.job_id == now.id]:
                self._end(shell, _SUSPENDED)

    def _forget_timer(self, shell: OpenShell) -> None:
        if shell.timer is not None:
            shell.timer.cancel()
            shell.timer = None

    def _settle(self, shell: OpenShell) -> None:
        """Lets go of a shell that has ended when nobody is there, or may still come, to hear of it."""
        if shell.ending is not None and shell.ending.why:
            self._forget_timer(shell)  # its session is over: nobody can come back
        if shell.ending is not None and shell.closed and not shell.attached and shell.timer is None:
            self._remove(shell)
            why = shell.ending.why or "its program has ended"
            _log("shell.closed", shell, exit_code=shell.ending.exit_code, why=why)
            self._sessions.end(shell.session, why)

    def _remove(self, shell: OpenShell) -> None:
        self._shells.pop(shell.session.id, None)
        if not self._shells:
            self._none_left.set()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _log(event: str, shell: OpenShell, **more: object) -> None:
    session = shell.session
    log.info(event, session=session.id, job=session.job_id, rank=session.rank, user=session.row.user or None, **more)
