"""The life of one server process, and its end between any two of its steps.

Everything by which a process touches the world goes through `cross`: its store, its backend, Core, its own event log. At the crossing
that was drawn the power goes out: nobody gets an answer any more and no write is committed. What is left of the process is then thrown
away by cancelling it, whose clean-up can change nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from serai_server.store import open as store_open
from serai_server.store.api import Listener, Store, StoreUnavailable
from serai_server.store.license_api import LicenseStore
from serai_server.store.session_api import SessionStore
from serai_server.store.sqlite import SqliteLink
from serai_server.store.token_api import TokenStore


class Power:
    def __init__(self) -> None:
        self.on = True
        self.left: int | None = None
        """Crossings until it goes out; None = it does not."""
        self._inside = 0
        self._changed = asyncio.Event()
        self._changed.set()

    @property
    def busy(self) -> bool:
        """Somebody waits for another thread."""
        return self.on and self._inside > 0

    async def calm(self) -> None:
        """Until nobody does, or the power is out."""
        await self._changed.wait()

    def cut(self) -> None:
        self.on = False
        self._changed.set()

    async def cross(self) -> None:
        if self.on and self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.cut()
        if not self.on:
            await asyncio.Event().wait()

    async def through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """A call that another thread answers: the power may go out before it is made, and before its answer is heard."""
        await self.cross()
        self._inside += 1
        self._changed.clear()
        try:
            answer = await call()
        finally:
            self._inside -= 1
            if not self._inside:
                self._changed.set()
        await self.cross()
        return answer


class _PoweredStore:
    """A store whose every call goes through `Power.through`."""

    def __init__(self, store: Store | LicenseStore | SessionStore | TokenStore, power: Power) -> None:
        self._store = store
        self._power = power

    @property
    def licenses(self) -> _PoweredStore:
        return _PoweredStore(cast(Store, self._store).licenses, self._power)

    @property
    def sessions(self) -> _PoweredStore:
        return _PoweredStore(cast(Store, self._store).sessions, self._power)

    @property
    def tokens(self) -> _PoweredStore:
        return _PoweredStore(cast(Store, self._store).tokens, self._power)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method: Callable[..., Awaitable[Any]] = getattr(self._store, name)

        async def call(*values: Any, **named: Any) -> Any:
            return await self._power.through(lambda: method(*values, **named))

        return call


def powered_open_store(power: Power) -> Callable[..., contextlib.AbstractAsyncContextManager[Any]]:
    """In the place of `open_store`, for a process with this power."""

    @contextlib.asynccontextmanager
    async def opened(url: str, listener: Listener, **named: Any) -> AsyncGenerator[Any]:
        async with store_open.open_store(url, lambda told: listener(told) if power.on else None, **named) as store:
            yield _PoweredStore(store, power)

    return opened


def powered_link(power: Power) -> type[SqliteLink]:
    """In the place of `SqliteLink`: without power nothing is committed any more.

    And nothing waits for the disk: processes end here, never the machine, and of that no disk would notice anything.
    """

    class Powered(SqliteLink):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._power = power

        def connect(self) -> bool:
            fresh = super().connect()
            if fresh:
                self.execute("PRAGMA synchronous=OFF")
            return fresh

        def commit(self) -> None:
            if not self._power.on:
                raise StoreUnavailable("the power is out")
            super().commit()

    return Powered
