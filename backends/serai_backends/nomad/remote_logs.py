"""Logs where the jobs' folders are not shared with the server: what Nomad has of them, as long as it has it.

Nomad's copy may lack bytes (facts: nomad-tried §6), so this is for sites that cannot share a file system; `serai doctor` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serai_backends.common.time import sleep_or
from serai_backends.errors import JobNotThere
from serai_backends.nomad import names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from serai_backends.model import LogChunk, Stream
    from serai_backends.nomad.ground import Ground
    from serai_backends.nomad.view import View

_LOOK_AGAIN_S = 1.0
_STILL = 2
"""Looks in a row without a new byte, after the end, that make the output whole: Nomad's log comes a little later than the end is told."""


class RemoteLogs:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def read(
        self, view: View, rank: int, stream: Stream, offset: int, *, tail: int | None, follow: bool, ended: Callable[[], bool]
    ) -> AsyncGenerator[LogChunk]:
        still = 0
        while True:
            self._ground.board.check_open()
            over, alloc_id, before = ended(), view.ranks[rank].alloc_id, offset
            if alloc_id:
                try:
                    if tail is not None:
                        size = await self._ground.client.log_size(alloc_id, names.MAIN, stream)
                        offset, tail = max(offset, size - tail), None
                    async for chunk in self._ground.client.log(alloc_id, names.MAIN, stream, offset):
                        offset = chunk.offset + len(chunk.data)
                        yield chunk
                except JobNotThere:
                    if over:
                        return
            if not follow:
                return
            still = still + 1 if over and offset == before else 0
            if still >= _STILL or (over and not alloc_id):
                return
            await self._wait(view.record.job_id)

    async def _wait(self, job_id: str) -> None:
        """Until something is told of the job, or a second is over."""
        changed = self._ground.board.subscribe(job_id)
        try:
            await sleep_or(self._ground.clock, _LOOK_AGAIN_S, changed)
        finally:
            self._ground.board.unsubscribe(changed, job_id)
