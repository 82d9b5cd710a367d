"""The shells that are open in replicas: ended when they are closed, when their replica ends, and when the backend is closed.

A shell is a program in the task's own container or chroot, as its user, with its environment: `jobfile/scripts.py` has the script by which
it becomes that. What Nomad's exec does not do is in `client/shells.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import structlog

from serai_backends.errors import BackendUnavailable, JobNotThere
from serai_backends.nomad import names
from serai_backends.nomad.jobfile import scripts
from serai_backends.nomad.records import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from serai_backends.model import TerminalSize
    from serai_backends.nomad.client.shells import NomadShell
    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.view import View

log = structlog.get_logger("serai.nomad")
ENTER = ("/bin/sh", f"/{scripts.LOCAL}/{scripts.SHELL}")
_LAST_WORDS_S = 1.0
"""After its replica has ended, for the driver to tell the end of a shell. Not all do (facts: nomad-tried §7)."""
_NEWS_S = 5.0
"""After the connection broke, for Nomad to tell that the replica has ended: then that is why."""
_AGAIN_S, _TIMES = 5.0, 60
"""Between two tries to end a program whose node cannot be reached, and how many there are."""
_CLOSE_S = 10.0


class ReplicaShell:
    """A Shell of serai_backends.api. Made by `ReplicaShells.open`."""

    def __init__(self, shells: ReplicaShells, shell: NomadShell, view: View, rank: int) -> None:
        self._shells, self._shell, self._view, self._rank = shells, shell, view, rank
        self._alloc_id = view.ranks[rank].alloc_id
        self._is_over = asyncio.Event()
        self._watch = asyncio.create_task(self._cut_when_over())
        self._closed = False

    @property
    def over(self) -> bool:
        """Its replica has ended: nothing of the shell runs."""
        rank = self._view.ranks[self._rank]
        return self._view.record.stage is Stage.ENDED or rank.over or rank.alloc_id != self._alloc_id

    @property
    def exit_code(self) -> int | None:
        return self._shell.exit_code

    async def output(self) -> AsyncGenerator[bytes]:
        async with aclosing(self._shell.output()) as output:
            try:
                async for data in output:
                    yield data
            except (BackendUnavailable, JobNotThere):
                if not self._closed and not await self._was_that_the_end():
                    raise

    async def _was_that_the_end(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWS_S):
                await self._is_over.wait()
        return self.over

    async def write(self, data: bytes) -> None:
        await self._shell.write(data)

    async def resize(self, size: TerminalSize) -> None:
        await self._shell.resize(size)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watch.cancel()
        try:
            await self._shell.end()
        except BackendUnavailable:
            self._shells.end_later(self._shell, self)
        finally:
            self._shells.closed(self)

    async def _cut_when_over(self) -> None:
        board, job_id = self._shells.ground.board, self._view.record.job_id
        changed = board.subscribe(job_id)
        try:
            while not self.over:
                changed.clear()
                await changed.wait()
        finally:
            board.unsubscribe(changed, job_id)
        self._is_over.set()
        await self._shells.ground.clock.sleep(_LAST_WORDS_S)
        await self._shell.cut()


class ReplicaShells:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._open: set[ReplicaShell] = set()
        self._opening: set[asyncio.Task[ReplicaShell]] = set()
        self._work: set[asyncio.Task[None]] = set()

    async def open(self, view: View, rank: int, argv: tuple[str, ...], size: TerminalSize) -> ReplicaShell:
        """See OpensShells.open_shell. Cancelled, it is opened all the same and closed again: half of it could not be ended."""
        if len(self._open) + len(self._opening) >= self.ground.settings.shells:
            words = f"{self.ground.settings.shells} shells are open, and Nomad takes no more connections from here"
            raise BackendUnavailable(f"{words}: close one, or ask the operator to raise backend.nomad.shells")
        opening = asyncio.ensure_future(self._start(view, rank, argv, size))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._unwanted)
            raise

    async def _start(self, view: View, rank: int, argv: tuple[str, ...], size: TerminalSize) -> ReplicaShell:
        try:
            shell = await self.ground.client.exec(view.ranks[rank].alloc_id, names.MAIN, argv, size, ENTER)
        except JobNotThere:
            raise JobNotThere(view.record.job_id) from None
        made = ReplicaShell(self, shell, view, rank)
        self._open.add(made)
        return made

    def _unwanted(self, opening: asyncio.Task[ReplicaShell]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._spawn(opening.result().close())

    def closed(self, shell: ReplicaShell) -> None:
        self._open.discard(shell)

    def end_later(self, shell: NomadShell, opened: ReplicaShell) -> None:
        """Its node could not be reached: what runs there goes on until it can."""
        self._spawn(self._end_later(shell, opened))

    async def _end_later(self, shell: NomadShell, opened: ReplicaShell) -> None:
        for _ in range(_TIMES):
            await self.ground.clock.sleep(_AGAIN_S)
            if opened.over:
                break
            try:
                await shell.end_again()
            except BackendUnavailable as error:
                log.warning("nomad.shell_lives", why=str(error))
            else:
                break

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def close(self) -> None:
        """All of them, and those that are being opened; not for long."""
        for opening in self._opening:
            opening.add_done_callback(self._unwanted)
        for shell in tuple(self._open):
            self._spawn(shell.close())
        try:
            async with asyncio.timeout(_CLOSE_S):
                while waiting := {*self._opening, *self._work}:
                    await asyncio.wait(waiting)
        except TimeoutError:
            pass
        finally:
            left = {*self._opening, *self._work}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
