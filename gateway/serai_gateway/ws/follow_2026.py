"""The follow of today's Core: one on a socket, begun by its only message (facts today §8).

Core reads nothing but the payload of each message and shows it to the user, so what goes wrong is told as a line of the log. A binary
message would end the user's view, and so does our close: it comes when Core has had time to see the job's end.
"""

from __future__ import annotations

from contextlib import aclosing

import structlog

from serai_gateway.http import ClientGone
from serai_gateway.tasks import until_first
from serai_gateway.ws import frames
from serai_gateway.ws.following import Following
from serai_gateway.ws.frames import LogPayload
from serai_gateway.ws.socket import NORMAL, POLICY, Socket
from serai_gateway.ws.telling import told
from serai_gateway.ws.unproven import WORDS, Unproven

_log = structlog.stdlib.get_logger("serai_gateway.ws.follow")


class OneFollow:
    """Of one socket, whose handshake showed that it is Core's."""

    def __init__(self, socket: Socket, following: Following, user: str | None, waiting: Unproven) -> None:
        """`waiting`: those of Core's sockets whose message has not come yet."""
        self._socket = socket
        self._following = following
        self._user = user
        self._waiting = waiting
        self._stream_id = ""

    async def run(self) -> None:
        """Until either side closes."""
        job_id = await self._job()
        if job_id is not None:
            await until_first(self._until_closed(), self._follow(job_id), self._following.keep_alive(self._socket))

    async def _job(self) -> str | None:
        """The job to follow; None = the socket has ended, or nothing came that names one."""
        try:
            async with self._waiting.admit():
                while (message := await self._socket.receive()) is not None:
                    frame = frames.read_frame(message)
                    asked = frames.read_follow(frame) if frame is not None and self._following.is_follow(frame) else None
                    if frame is not None and isinstance(asked, frames.FollowInit):
                        self._stream_id = frame.stream_id
                        return asked.job.id
                    _log.info("a message of Core is no follow", wrong=asked if isinstance(asked, str) else "another call, or no frame")
        except TimeoutError:
            await self._socket.close(POLICY, WORDS)
        return None

    async def _until_closed(self) -> None:
        while await self._socket.receive() is not None:
            pass  # Core has nothing more to say

    async def _follow(self, job_id: str) -> None:
        log = self._following.log(job_id, self._user)
        try:
            with self._following.places.one():
                async with aclosing(log.pieces()) as pieces:
                    async for piece in pieces:
                        await self._say(piece.rank, piece.text, stderr=piece.stderr)
                await self._following.core_knows(log)
        except ClientGone:
            raise
        except Exception as error:
            await self._say(
                0, f"The output cannot be shown: {told(error, 'a follow ended with an error', job_id=job_id).why}\n", stderr=True
            )
        await self._socket.close(NORMAL)

    async def _say(self, rank: int, text: str, *, stderr: bool) -> None:
        payload = LogPayload(self._stream_id, rank, *((None, text) if stderr else (text, None)))
        await self._socket.send(frames.message(self._stream_id, payload))
