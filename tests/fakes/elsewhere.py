"""What is served by a loop in another thread: the command line blocks the test's own while it waits for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

STARTS_S = 20.0
ANSWERS_S = 20.0

_T = TypeVar("_T")


@dataclass(kw_only=True)
class Elsewhere:
    """Base of what runs there. It is made in its loop; the methods here are for the test's thread."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def do(self, work: Coroutine[object, object, _T]) -> _T:
        """The answer of a coroutine that runs there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(ANSWERS_S)

    def stop(self) -> None:
        """In order, as SIGTERM does. Stopped already: done."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.stopping.set)


_Served = TypeVar("_Served", bound=Elsewhere)


@contextlib.contextmanager
def elsewhere(serving: AbstractAsyncContextManager[_Served]) -> Generator[_Served]:
    """Serves until the end of the block or `stop`. What fails while it starts, runs or ends is raised here."""
    ready: Future[_Served] = Future()
    ended: Future[None] = Future()

    async def serve() -> None:
        async with serving as served:
            ready.set_result(served)
            await served.stopping.wait()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            # Whoever waits must not wait for what has failed to start.
            (ended if ready.done() else ready).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=work, daemon=True)  # one that never gets ready shall not hold the process
    thread.start()
    served = ready.result(STARTS_S)
    try:
        yield served
    finally:
        served.stop()
        thread.join()
        ended.result()
