"""A process that seals two vendors' keys in a real store and rotates the key file, until it kills itself at the step that it was told.

python -m fakes.rotation_victim FOLDER STEP     STEP is one of STEPS
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from serai_server.clock import SystemClock
from serai_server.licenses.servers.registry import running_servers
from serai_server.licenses.servers.vault import Vault
from serai_server.licenses.servers.watcher import Pacing
from serai_server.store.open import open_store

from fakes.license_servers import server

STEPS = ("before", "file written", "in the transaction", "resealed", "read back", "old keys dropped")
KEYS = {"solver": b"key of the solver", "mesher": b"key of the mesher"}


async def answers(_host: str, _port: int) -> None:
    """A network in which everything is there."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Vault):
    """Dies at a step of the rotation."""

    def __init__(self, file: Path, step: str) -> None:
        super().__init__(file)
        self._step = step
        self._resealed = 0

    def begin_rotation(self, *, first: bool) -> None:
        if self._step == "before":
            die()
        super().begin_rotation(first=first)
        if self._step == "file written":
            die()

    def reseal(self, server: str, sealed: bytes) -> bytes:
        anew = super().reseal(server, sealed)
        self._resealed += 1
        if self._step == "in the transaction" and self._resealed == len(KEYS):
            die()
        return anew

    def end_rotation(self) -> None:
        if self._step == "read back":
            die()
        super().end_rotation()
        if self._step == "old keys dropped":
            die()


async def main(folder: Path, step: str) -> None:
    async with (
        open_store(f"sqlite:///{folder / 'serai.db'}", lambda _: None) as store,
        running_servers(
            store.licenses, SystemClock(), key_file=folder / "licenses.key", pacing=Pacing(), probe_timeout_ms=1_000, connect=answers
        ) as servers,
    ):
        for name, key in KEYS.items():
            await servers.add(server(name), key)
        servers._vault = Mortal(folder / "licenses.key", step)
        if step == "resealed":
            servers._reload = _died
        await servers.rotate()


async def _died() -> None:
    die()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
