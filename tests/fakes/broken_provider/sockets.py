"""Follows and shells of the provider."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any, cast

from aiohttp import WSMsgType, web

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.programs import Run
from fakes.broken_provider.reading import Refusal

if TYPE_CHECKING:
    from fakes.broken_provider.provider import BrokenProvider


class Sockets:
    def __init__(self, provider: BrokenProvider) -> None:
        self._provider = provider
        self._fault = provider.fault

    # --- follows ----------------------------------------------------------------------------------------------------------------------

    async def follow(self, request: web.Request) -> web.StreamResponse:
        if self._provider.todays and self._fault is not Fault.OPEN_FOLLOW:
            try:
                self._provider.tokens.check(request.headers.get("Authorization"))
            except Refusal as error:
                return web.json_response({"why": error.why, "errorCode": None}, status=error.status)
        socket = web.WebSocketResponse(max_msg_size=65_536 if self._fault is Fault.SHORT_MESSAGES else 1 << 24)
        await socket.prepare(request)
        streams: dict[str, asyncio.Task[None]] = {}
        """By the follow's own id."""
        try:
            async for message in socket:
                frame = _frame(message.data) if message.type is WSMsgType.TEXT else None
                if frame is None:
                    if self._fault is Fault.GARBAGE_ENDS:
                        break
                    continue
                await self._take(socket, frame, streams)
        finally:
            for task in streams.values():
                task.cancel()
            await asyncio.gather(*streams.values(), return_exceptions=True)
        return socket

    async def _take(self, socket: web.WebSocketResponse, frame: dict[str, Any], streams: dict[str, asyncio.Task[None]]) -> None:
        stream_id, payload = frame["streamId"], frame["payload"]
        if not self._provider.todays and self._fault is not Fault.OPEN_FOLLOW:
            try:
                self._provider.tokens.check(f"Bearer {frame.get('bearer')}")
            except Refusal as error:
                await _respond(socket, stream_id, {"why": error.why, "errorCode": None}, 401)
                return
        if not frame["call"].endswith(".follow"):
            await _respond(socket, stream_id, {}, 404)
            return
        if payload.get("type") == "cancel":
            await self._cancel(socket, stream_id, payload.get("streamId"), streams)
            return
        run = self._provider.runs.get(payload["job"]["id"])
        if run is None:
            await _respond(socket, stream_id, {"why": "no such job", "errorCode": None}, 404)
            if self._provider.todays:
                await socket.close()
            return
        follow_id = str(uuid.uuid4())
        streams[follow_id] = asyncio.create_task(self._show(socket, stream_id, follow_id, run, len(streams)))

    async def _cancel(self, socket: web.WebSocketResponse, stream_id: str, follow_id: str, streams: dict[str, asyncio.Task[None]]) -> None:
        task = streams.pop(follow_id, None)
        if task is not None and self._fault is not Fault.CANCEL_UNHEARD:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._fault is not Fault.CANCEL_UNHEARD:
            await _respond(socket, stream_id, {"streamId": "", "rank": -1}, 200)

    async def _show(self, socket: web.WebSocketResponse, stream_id: str, follow_id: str, run: Run, before: int) -> None:
        named = {} if self._fault is Fault.NO_FOLLOW_ID else {"streamId": follow_id}
        # The second follow of a socket writes to the first one's stream.
        to = str(int(stream_id) - 1) if self._fault is Fault.STREAMS_MIXED and before else stream_id
        with contextlib.suppress(ConnectionError):
            try:
                sent = 0
                while True:
                    async with run.changed:
                        await run.changed.wait_for(lambda sent=sent: len(run.pieces) > sent or run.settled)
                    for rank, name, text in run.pieces[sent:]:
                        sent += 1
                        payload = named | {"rank": rank, "stdout": None, "stderr": None} | {name: text}
                        await socket.send_json({"type": "message", "streamId": to, "payload": payload})
                    if run.settled and sent == len(run.pieces):
                        break
            except asyncio.CancelledError:
                if not socket.closed:
                    await _respond(socket, stream_id, {"streamId": follow_id, "rank": -1}, 200)
                raise
            if self._fault is Fault.NO_LAST_WORD:
                await asyncio.Event().wait()
            await _respond(socket, stream_id, {"streamId": follow_id, "rank": -1}, 500 if self._fault is Fault.LAST_WORD_500 else 200)
            if self._provider.todays:
                await socket.close()

    # --- shells -----------------------------------------------------------------------------------------------------------------------

    async def shell(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        process: asyncio.subprocess.Process | None = None
        reading: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                frame = _frame(message.data) if message.type is WSMsgType.TEXT else None
                if frame is None:
                    continue
                stream_id, payload = frame["streamId"], frame["payload"]
                if payload.get("type") == "initialize":
                    if payload.get("sessionIdentifier") not in self._provider.sessions and self._fault is not Fault.ANY_SECRET:
                        await _respond(socket, stream_id, {"why": "Unknown shell session", "errorCode": None}, 404)
                        continue
                    pipe = asyncio.subprocess.PIPE
                    process = await asyncio.create_subprocess_exec("/bin/sh", stdin=pipe, stdout=pipe, start_new_session=True)
                    await socket.send_json({"type": "message", "streamId": stream_id, "payload": {"type": "initialize"}})
                    reading = asyncio.create_task(_output(socket, stream_id, process))
                elif process is None or process.stdin is None:
                    await _respond(socket, stream_id, {"why": "no shell", "errorCode": None}, 404)
                else:
                    process.stdin.write(str(payload.get("data", "")).replace("\r", "\n").encode())
                    await _respond(socket, stream_id, {"type": "ack"}, 200)
        finally:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            if reading is not None:
                await asyncio.gather(reading, return_exceptions=True)
        return socket


async def _output(socket: web.WebSocketResponse, stream_id: str, process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(4096):
        if not socket.closed:
            payload = {"type": "data", "data": piece.decode("utf-8", "replace")}
            await socket.send_json({"type": "message", "streamId": stream_id, "payload": payload})


async def _respond(socket: web.WebSocketResponse, stream_id: str, payload: dict[str, Any], status: int) -> None:
    await socket.send_json({"type": "response", "streamId": stream_id, "payload": payload, "status": status})


def _frame(text: str) -> dict[str, Any] | None:
    try:
        frame: object = json.loads(text)
    except ValueError:
        return None
    if not isinstance(frame, dict):
        return None
    found = cast("dict[str, Any]", frame)
    good = isinstance(found.get("call"), str) and isinstance(found.get("streamId"), str) and isinstance(found.get("payload"), dict)
    return found if good else None
