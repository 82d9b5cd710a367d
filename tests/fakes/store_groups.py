"""Several writes in one transaction of the store, for tests of what they do to each other."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator

from serai_server.store.batch import Batch
from serai_server.store.link import Link
from serai_server.store.model import Committed
from serai_server.store.sql_store import SqlStore


@contextlib.contextmanager
def one_group(store: SqlStore) -> Generator[None]:
    """All writes queued inside are one group: the owner thread is held up until the end of the block."""
    go, held_up = threading.Event(), threading.Event()

    def hold(_: Batch, __: Link) -> tuple[None, Committed]:
        held_up.set()
        go.wait()
        return None, Committed()

    store._owner.submit((), hold)
    held_up.wait()
    try:
        yield
    finally:
        go.set()


async def outcomes(store: SqlStore, *calls: Callable[[], Coroutine[object, object, object]]) -> list[object]:
    """What each call, all in one group, answers or raises."""
    with one_group(store):
        tasks = [asyncio.create_task(call()) for call in calls]  # pyright: ignore[reportArgumentType] - all are coroutines
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)
