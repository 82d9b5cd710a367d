"""Core's follows as they were recorded, replayed over a bare WebSocket; what comes back is hashed for each rank and stream.

2021: derived from the types of that time (`golden/frames-2021`); 2026: recorded from a running Core (`golden/frames-2026`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.raw_websocket import RawWebSocket, raw_websocket

GOLDEN = Path(__file__).parents[1] / "golden"
PIECE = 4096
"""Bytes of each fragment of Core of 2026 (facts today §8)."""


def recorded(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@dataclass
class Heard:
    """What a client got of one follow."""

    digests: dict[tuple[int, str], Any] = field(default_factory=dict[tuple[int, str], Any])
    bytes: int = 0
    """Of output, as UTF-8."""
    messages: int = 0
    longest: int = 0
    """Bytes of output in one message."""
    end: Any = None
    """2021: the response frame."""

    def add(self, payload: Any) -> None:
        for stream in ("stdout", "stderr"):
            text = payload.get(stream)
            if text is not None:
                data = text.encode()
                self.digests.setdefault((payload["rank"], stream), hashlib.sha256()).update(data)
                self.bytes += len(data)
                self.longest = max(self.longest, len(data))
        self.messages += 1

    def hexdigests(self) -> dict[tuple[int, str], str]:
        return {place: digest.hexdigest() for place, digest in sorted(self.digests.items())}


def frame_2021(provider: str, stream_id: str, job: Any, bearer: str) -> Any:
    """The recorded `init` with this job in place of the recorded one's id."""
    frame = recorded("frames-2021/derived-follow-1-init.frame.json")
    frame["payload"]["job"] |= job
    return frame | {"call": f"jobs.provider.{provider}.follow", "streamId": stream_id, "bearer": bearer}


async def follow_2021(port: int, provider: str, job_id: str, bearer: str) -> Heard:
    """To its end; the socket goes without a close, as Core's does."""
    heard = Heard()
    async with raw_websocket(port, f"/ucloud/jobs.provider.{provider}/websocket", {"UCloud-Username": "user"}) as socket:
        await socket.text(frame_2021(provider, "7", {"id": job_id}, bearer))
        while (frame := await socket.next()) is not None:
            if frame.get("streamId") != "7" or not isinstance(frame.get("payload"), dict):
                continue  # a ping: dropped for what it lacks
            if frame["type"] == "response":
                heard.end = frame
                break
            heard.add(frame["payload"])
    return heard


async def begin_2026(socket: RawWebSocket, provider: str, job_id: str) -> None:
    """The only message that Core sends, in its pieces."""
    message = recorded("frames-2026/WS_follow.json")["firstMessage"]
    message["payload"]["job"]["id"] = job_id
    await socket.text(message | {"call": f"jobs.provider.{provider}.follow"}, pieces=PIECE)


async def follow_2026(port: int, provider: str, job_id: str, bearer: str) -> Heard:
    """Until the provider closes. Every text is a piece of log to this Core, also one that has no payload."""
    heard = Heard()
    headers = {"User-Agent": "Go-http-client/1.1", "Authorization": f"Bearer {bearer}"}
    async with raw_websocket(port, f"/ucloud/jobs.provider.{provider}/websocket?usernameHint=dXNlcg==", headers) as socket:
        await begin_2026(socket, provider, job_id)
        while (frame := await socket.next()) is not None:
            heard.add(frame.get("payload") or {"rank": 0})
        heard.end = socket.code
    return heard
