"""Blocking steps on threads, so that a cancelled caller leaves no step half seen."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from serai_backends.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Threads:
    def __init__(self, count: int, backend: str = "local") -> None:
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=f"serai-{backend}")
        self._backend, self._closed = backend, False

    async def run(self, step: Callable[[], _T]) -> _T:
        """The result of `step`, which must be short. A cancelled caller waits for its end too. Raises BackendUnavailable for an OSError."""
        if self._closed:
            raise BackendUnavailable("the backend is closed")
        future = asyncio.get_running_loop().run_in_executor(self._pool, step)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # nobody else asks for it
            raise
        except OSError as error:
            raise BackendUnavailable(f"the {self._backend} backend cannot use its folders: {error}") from error

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False)
