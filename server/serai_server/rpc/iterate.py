"""Streams that are closed when their reader leaves.

An `async for` that is left early does not close its iterator; the garbage collector would, some time later and in another task. A
handler's clean-up belongs to the end of its call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


async def converted(items: AsyncIterator[Item], make: Callable[[Item], Made]) -> AsyncGenerator[Made, None]:
    """`make` of each item; closing this closes `items`."""
    try:
        async for item in items:
            yield make(item)
    finally:
        # Not every iterator is a generator, and only those can be closed.
        if isinstance(items, AsyncGenerator):
            await items.aclose()
