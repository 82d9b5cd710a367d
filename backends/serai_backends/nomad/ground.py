"""What the parts of the Nomad backend stand on, made once when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from serai_backends.common.board import Board
    from serai_backends.common.threads import Threads
    from serai_backends.common.time import Clock
    from serai_backends.nomad.client import NomadClient
    from serai_backends.nomad.jobfile import JobFolders
    from serai_backends.nomad.records import Records
    from serai_backends.nomad.settings import NomadSettings


@dataclass(frozen=True, slots=True)
class Ground:
    settings: NomadSettings
    client: NomadClient
    records: Records
    board: Board
    threads: Threads
    folders: JobFolders
    clock: Clock
    """Ours: limits and bills are made of its times."""
    wall: Callable[[], int]
    """The wall clock in ms, which nodes have too."""

    spawn: Callable[[Coroutine[object, object, None]], None]
    """Has something done in the background that ends with the backend."""

    def ours(self, node_ms: int) -> int:
        """A time of a node's clock in ours."""
        return node_ms + self.clock.now_ms() - self.wall()
