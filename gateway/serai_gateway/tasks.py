"""Several things at once for one connection, where the end of one is the end of all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable


async def until_first(*work: Coroutine[object, object, None]) -> None:
    """Runs all of it until one piece ends; the others are cancelled. Raises what the one that ended raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(tasks)
    for task in done:
        task.result()


async def cancel(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Ends tasks and waits for their end. What they raise meanwhile is not told."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
