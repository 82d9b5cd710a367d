"""One connection to an open shell: what it says goes in, what the program writes comes out, each way as it comes.

What is said is read by a task of its own, which ends with the connection, so that nobody's typing waits for the program's output.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from serai.sessions.v1 import sessions_service_pb2 as pb
from serai_backends.model import TerminalSize

from serai_server.clock import Clock
from serai_server.sessions import shell_requests
from serai_server.sessions.open_shell import Ending, OpenShell

_REDRAW_S = 0.05
"""Between the two sizes that have a program draw again: with none, it would see the second one only, which it has already."""


async def connected(
    shell: OpenShell, requests: AsyncIterator[pb.ShellRequest], clock: Clock, *, resumed: bool, redraw: bool
) -> AsyncGenerator[pb.ShellResponse]:
    """From `opened` to `exited`; the shell is attached. `redraw`: have full-screen programs draw again. Raises InvalidRequest for what is
    said wrongly."""
    taking = asyncio.create_task(_take(shell, requests))
    taking.add_done_callback(lambda _: shell.news.set())
    tasks = [taking]
    if redraw:
        tasks.append(asyncio.create_task(_redraw(shell, clock)))
    try:
        yield pb.ShellResponse(opened=pb.ShellOpened(session=shell.session.message(), resumed=resumed))
        while True:
            if taking.done() and not taking.cancelled():
                taking.result()
            if data := shell.output():
                yield pb.ShellResponse(output=data)
            elif shell.ending is not None:
                break
            else:
                shell.news.clear()
                await shell.news.wait()
        yield pb.ShellResponse(exited=_exited(shell.ending))
        shell.told = True  # not before it was taken: whoever is cut off here comes back and hears it
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(requests, AsyncGenerator):
            await requests.aclose()  # its reader may have been anywhere


async def _take(shell: OpenShell, requests: AsyncIterator[pb.ShellRequest]) -> None:
    """Until the client says no more; the program goes on then."""
    async for request in requests:
        said = shell_requests.typed(request)
        if isinstance(said, TerminalSize):
            await shell.resize(said)
        else:
            await shell.write(said)


async def _redraw(shell: OpenShell, clock: Clock) -> None:
    await shell.shrink()
    await clock.sleep(_REDRAW_S)
    await shell.restore()


def _exited(ending: Ending) -> pb.ShellExited:
    return pb.ShellExited(exit_code=ending.exit_code, why=ending.why)
