"""A user of 2021 who looks at a job's log, and Core for them (facts 2021 §3.4).

Core asks only while it has the job as RUNNING and looks at that each second; a provider that ends the stream earlier is asked again, from
the beginning. When the user leaves or the job ends, Core closes the user's socket, with all that is on it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from serai_devcore.follow_sockets import FollowSocket, Heard
from serai_devcore.jobs import Job
from serai_devcore.provider import Provider
from serai_devcore.wire import Json, JsonObject, dump

if TYPE_CHECKING:
    from serai_devcore.calls import Calls

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 0.1
RUNNING = "RUNNING"


@dataclass(slots=True)
class Follow2021:
    """One user's look at one job."""

    core: Calls
    job: Job
    provider: Provider
    username: str
    at_most: int
    messages: list[Json] = field(default_factory=list[Json])
    """Payloads, in order."""
    inits: list[bytes] = field(default_factory=list[bytes])
    """Frames that were sent, without their token."""
    end: Heard | None = None
    """The provider's last word; None = there was none."""

    async def run(self, listen_s: float) -> None:
        """Until the provider ends it for good, the job is not running any more, `at_most` messages came or `listen_s` is over. OSError,
        InvalidHandshake when the provider cannot be reached."""
        try:
            async with asyncio.timeout(listen_s):
                while self.job.state != RUNNING:
                    if self.job.final:
                        return  # Core asks nobody for the log of a finished job
                    await self.core.clock.sleep(LOOK_EVERY_S)
                await self._watch()
        except TimeoutError:
            pass

    async def _watch(self) -> None:
        while self.job.state == RUNNING and len(self.messages) < self.at_most:
            socket = await self._socket()
            stream_id = self.core.follow_sockets.new_id()
            try:
                await self._stream(socket, stream_id)
            finally:
                socket.streams.pop(stream_id, None)
                if self.end is None:
                    await socket.close()
            if self.end is None or self.end.status is None or self.end.status >= 400:
                return
            await self.core.clock.sleep(AGAIN_AFTER_S)

    async def _socket(self) -> FollowSocket:
        name = self.provider.path_name or self.provider.id
        url = self.provider.url.rstrip("/").replace("http", "ws", 1) + f"/ucloud/jobs.provider.{name}/websocket"
        try:
            return await self.core.follow_sockets.get(url, self.username, timeout_s=self.core.settings.provider_timeout_s)
        except TimeoutError as error:  # not that of `run`, which cancels
            raise OSError("no answer to the handshake in time") from error

    async def _stream(self, socket: FollowSocket, stream_id: str) -> None:
        self.end = None
        heard = socket.streams[stream_id] = asyncio.Queue()
        name = self.provider.path_name or self.provider.id
        payload: JsonObject = {"type": "init", "job": self.core.document_of(self.job)}
        frame: JsonObject = {"call": f"jobs.provider.{name}.follow", "streamId": stream_id, "payload": payload, "bearer": None}
        frame |= {"causedBy": None, "project": None}
        self.inits.append(dump(frame))
        try:
            await socket.connection.send(dump(frame | {"bearer": self.provider.issuer.core_token()}), text=True)
        except ConnectionClosed:
            return
        looking = asyncio.create_task(self._until_not_running())
        try:
            while len(self.messages) < self.at_most:
                coming = asyncio.create_task(heard.get())
                await asyncio.wait({coming, looking}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                word = coming.result()
                if word.status is not None:
                    self.end = word
                    return
                self.messages.append(word.payload)
        finally:
            looking.cancel()

    async def _until_not_running(self) -> None:
        while self.job.state == RUNNING:
            await self.core.clock.sleep(LOOK_EVERY_S)
