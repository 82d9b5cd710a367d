"""What a person sees of an open shell, for tests: everything that it has written so far, and a wait for what is to come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from serai_backends.api import Shell

DEADLINE_S = 60


class Screen:
    """A context manager that closes its shell."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.seen = bytearray()
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shell.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for data in self.shell.output():
                self.seen += data
                self._news.set()
        finally:
            self._news.set()

    async def until(self, wanted: str) -> str:
        """What it has written when `wanted` is in it; that and what came before are gone afterwards."""
        async with asyncio.timeout(DEADLINE_S):
            while (at := self.seen.find(wanted.encode())) < 0:
                assert not self._reader.done(), f"it ended without {wanted!r}: {self.seen.decode(errors='replace')!r}"
                self._news.clear()
                await self._news.wait()
        text = self.seen[: at + len(wanted)].decode(errors="replace")
        del self.seen[: at + len(wanted)]
        return text

    async def type(self, text: str) -> None:
        await self.shell.write(text.encode())

    async def end(self) -> tuple[int | None, str]:
        """Exit code and what was left to be seen, when it has ended by itself. Raises what `output` raised."""
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.shield(self._reader)
        return self.shell.exit_code, self.seen.decode(errors="replace")
