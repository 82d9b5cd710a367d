"""Follows of Core of 2021: many on one socket, each begun by a frame of its own that carries Core's token (facts 2021 §3.2-§3.4).

The streams of a socket share its pace: Core reads all of them from one connection, one message of each in turn, so a Core that reads
slowly slows all the follows of that user and nothing piles up here. A follow whose job is silent holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from serai.core.v1 import errors_pb2

from serai_gateway.auth import AuthError
from serai_gateway.errors import TABLE, GatewayError
from serai_gateway.http import ClientGone
from serai_gateway.tasks import cancel
from serai_gateway.ws import frames
from serai_gateway.ws.following import Following
from serai_gateway.ws.frames import Frame, LogPayload
from serai_gateway.ws.log import Log
from serai_gateway.ws.socket import Socket
from serai_gateway.ws.telling import told
from serai_gateway.ws.unproven import Proof

MOST_STREAMS = 100
"""Follows at a time on one socket, which belongs to one user of UCloud."""

_log = structlog.stdlib.get_logger("serai_gateway.ws.follow")


@dataclass(slots=True)
class _Stream:
    """One follow."""

    stream_id: str
    """Of the frame that began it: where its messages go."""
    follow_id: str
    """Chosen here; a cancel names it."""
    task: asyncio.Task[None]


class Follows:
    """Those of one socket."""

    def __init__(self, socket: Socket, following: Following, user: str | None) -> None:
        self._socket = socket
        self._following = following
        self._user = user
        self._streams: dict[str, _Stream] = {}
        """By the id of the frame that began each."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Also those that are saying their last word."""

    async def run(self) -> None:
        """Until either side closes. The end of the socket is the end of its follows."""
        keeping = asyncio.create_task(self._keep_alive())
        try:
            await self._following.unproven.serve(self._socket, self._take)
        finally:
            await cancel([keeping, *self._tasks])

    async def _take(self, message: str | bytes, proof: Proof) -> None:
        frame = frames.read_frame(message)
        if frame is None:
            proof.in_vain += 1  # dropped, as the reference does
            return
        if not self._following.is_follow(frame):
            proof.in_vain += 1
            await self._socket.send(frames.unknown_call(frame))
            return
        try:
            self._following.token_check.check(None if frame.bearer is None else b"Bearer " + frame.bearer.encode())
        except (AuthError, UnicodeEncodeError) as error:
            proof.in_vain += 1
            why = str(error) if isinstance(error, AuthError) else "Unauthorized"
            if (left_out := self._following.strangers.line()) is not None:
                _log.info("a follow was refused", why=why, **({"left_out": left_out} if left_out else {}))
            await self._refuse(frame, GatewayError(errors_pb2.ERROR_REASON_UNAUTHENTICATED, why))
            return
        self._following.unproven.prove(proof)
        match frames.read_follow(frame):
            case frames.FollowInit(job):
                await self._begin(frame, job.id)
            case frames.FollowCancel(follow_id):
                await self._cancel(frame, follow_id)
            case wrong:
                await self._refuse(frame, GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, wrong))

    async def _begin(self, frame: Frame, job_id: str) -> None:
        stream_id = frame.stream_id
        if stream_id in self._streams:
            return  # an answer would be taken for the end of the one that is there
        if len(self._streams) >= MOST_STREAMS:
            why = f"This connection follows {MOST_STREAMS} jobs already; close some, or open another connection"
            await self._refuse(frame, GatewayError(errors_pb2.ERROR_REASON_RATE_LIMITED, why))
            return
        follow_id = str(uuid.uuid4())
        task = asyncio.create_task(self._follow(stream_id, follow_id, job_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._streams[stream_id] = _Stream(stream_id, follow_id, task)

    async def _cancel(self, frame: Frame, follow_id: str) -> None:
        """Both streams get their last word: the follow's own and the cancel's. A follow that is not there is one that has ended."""
        found = next((stream for stream in self._streams.values() if stream.follow_id == follow_id), None)
        if found is not None:
            await cancel([found.task])
            if self._streams.pop(found.stream_id, None) is not None:
                await self._socket.send(frames.response(found.stream_id, LogPayload(follow_id)))
        await self._socket.send(frames.response(frame.stream_id, LogPayload("")))

    async def _follow(self, stream_id: str, follow_id: str, job_id: str) -> None:
        try:
            try:
                with self._following.places.one():
                    await self._show(stream_id, follow_id, self._following.log(job_id, self._user))
                last = frames.response(stream_id, LogPayload(follow_id))
            except ClientGone:
                raise
            except Exception as error:
                last = _refusal(stream_id, told(error, "a follow ended with an error", job_id=job_id))
            del self._streams[stream_id]
            await self._socket.send(last)
        except ClientGone:
            pass  # the socket's own reader ends everything

    async def _show(self, stream_id: str, follow_id: str, log: Log) -> None:
        """Everything but the last word."""
        send = self._socket.send
        await send(frames.message(stream_id, LogPayload(follow_id)))
        async with aclosing(log.pieces()) as pieces:
            async for piece in pieces:
                payload = LogPayload(follow_id, piece.rank)
                if piece.stderr:
                    payload.stderr = piece.text
                else:
                    payload.stdout = piece.text
                await send(frames.message(stream_id, payload))
        await self._following.core_knows(log)

    async def _refuse(self, frame: Frame, error: GatewayError) -> None:
        await self._socket.send(_refusal(frame.stream_id, error))

    async def _keep_alive(self) -> None:
        with contextlib.suppress(ClientGone):
            await self._following.keep_alive(self._socket)


def _refusal(stream_id: str, error: GatewayError) -> str:
    row = TABLE[error.row.reason]
    return frames.response(stream_id, frames.ErrorPayload(error.why, row.error_code), row.http_status)
