"""Following a job as Core does. Today's dials the provider and sends one fragmented message; that of 2021: `follow_2021`.

today §8: token in the handshake, `usernameHint` in the query, first frame 4096 bytes and then continuations; Core says nothing else ever.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from serai_devcore.calls import Calls
from serai_devcore.follow_2021 import Follow2021
from serai_devcore.outcomes import Outcome
from serai_devcore.records import Direction
from serai_devcore.wire import Generation, Json, JsonObject, dump

FRAME = 4096
SWITCHING = 101


@dataclass(frozen=True, slots=True)
class Followed:
    """How it went."""

    status: int
    """101 = the provider took it; 0 = nobody answered or was asked; else the refusal's."""
    answer: Json
    """The refusal's body: JSON or text; None = there was none."""
    messages: tuple[Json, ...] = ()
    """`payload` of each message; a message that is none is kept whole."""
    closed: bool = False
    """The provider ended it."""
    problem: str = ""
    end: Json = None
    """2021: the payload of the provider's last word; None = there was none."""
    inits: int = 1
    """2021: how often Core asked for the log, from its beginning each time."""

    def to_json(self) -> JsonObject:
        messages: list[Json] = list(self.messages)
        return {
            "status": self.status,
            "answer": self.answer,
            "messages": messages,
            "closed": self.closed,
            "problem": self.problem or None,
            "end": self.end,
            "inits": self.inits,
        }


async def follow(core: Calls, job_id: str, *, username: str = "user", listen_s: float = 5.0, at_most: int = 1000) -> Followed | Outcome:
    """Follow until the provider ends it, `at_most` messages came or `listen_s` is over. An Outcome = Core refused by itself."""
    job = core.known_job(job_id)
    no = await core.refusal_for(job, "logs")
    if no is not None:
        return no
    provider = core.provider_named(job.provider)
    if core.generation is Generation.G2021:
        return await _follow_2021(core, Follow2021(core, job, provider, username, at_most), listen_s)
    name = provider.path_name or provider.id
    hint = base64.urlsafe_b64encode(username.encode()).decode()
    path = f"/ucloud/jobs.provider.{name}/websocket"
    url = provider.url.rstrip("/").replace("http", "ws", 1) + f"{path}?usernameHint={hint}"
    headers = {"Authorization": f"Bearer {provider.issuer.core_token()}"}
    payload: JsonObject = {"type": "init", "job": core.document_of(job)}
    init = dump({"call": f"jobs.provider.{name}.follow", "streamId": "ignored", "payload": payload, "bearer": "", "project": None})
    at_ms = core.clock.now_ms()
    try:
        async with connect(
            url,
            additional_headers=headers,
            user_agent_header="Go-http-client/1.1",
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=core.settings.provider_timeout_s,
            close_timeout=1,
        ) as socket:
            await socket.send([init[start : start + FRAME] for start in range(0, len(init), FRAME)], text=True)
            messages, closed = await _listen(socket, listen_s, at_most)
        told = Followed(SWITCHING, None, tuple(messages), closed)
    except InvalidStatus as error:
        told = Followed(error.response.status_code, _json_or_text(bytes(error.response.body)))
    except ConnectionClosed:
        told = Followed(SWITCHING, None, (), closed=True)
    except (OSError, TimeoutError, InvalidHandshake) as error:
        told = Followed(0, None, problem=f"the provider cannot be reached: {error}")
    core.requests.add(
        at_ms=at_ms,
        direction=Direction.TO_PROVIDER,
        method="GET",
        path=path,
        query=f"usernameHint={hint}",
        headers=headers,
        body=init,
        status=told.status,
        answer=dump(told.to_json()),
        note=told.problem,
    )
    return told


async def _follow_2021(core: Calls, look: Follow2021, listen_s: float) -> Followed:
    at_ms = core.clock.now_ms()
    problem = ""
    try:
        await look.run(listen_s)
    except InvalidStatus as error:
        return Followed(error.response.status_code, _json_or_text(bytes(error.response.body)))
    except (OSError, InvalidHandshake) as error:
        problem = f"the provider cannot be reached: {error}"
    end, asked = look.end, len(look.inits)
    if not asked and not problem:
        problem = f"Core asks the provider only while a job is RUNNING; this one is {look.job.state}"
    status = SWITCHING if end is None or end.status is None or end.status < 400 else end.status
    told = Followed(
        status if asked else 0, None, tuple(look.messages), end is not None, problem, None if end is None else end.payload, asked
    )
    for init in look.inits:
        core.requests.add(
            at_ms=at_ms,
            direction=Direction.TO_PROVIDER,
            method="GET",
            path=f"/ucloud/jobs.provider.{look.provider.path_name or look.provider.id}/websocket",
            query="",
            headers={"UCloud-Username": look.username},
            body=init,
            status=told.status,
            answer=dump(told.to_json()),
            note=problem,
        )
    return told


async def _listen(socket: ClientConnection, listen_s: float, at_most: int) -> tuple[list[Json], bool]:
    """Messages, and whether the provider closed. A binary message ends the session (today §8)."""
    messages: list[Json] = []
    try:
        async with asyncio.timeout(listen_s):
            while len(messages) < at_most:
                message = await socket.recv()
                if isinstance(message, bytes):
                    return messages, False
                value = _json_or_text(message.encode())
                messages.append(value["payload"] if isinstance(value, dict) and "payload" in value else value)
    except TimeoutError:
        return messages, False
    except ConnectionClosed:
        return messages, True
    return messages, False


def _json_or_text(raw: bytes) -> Json:
    if not raw:
        return None
    try:
        return cast("Json", json.loads(raw))
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")
