"""Target `grpc`: every method over a socket of its own, as programs call them. An input is one call with its messages and metadata, or the
bytes of a connection that are hardly HTTP/2.

Half of them go to the server's own socket, half to the tools' door, with good tokens of each role, with bad ones and with none. Rules: no
INTERNAL, UNKNOWN or DATA_LOSS; an answer in time; nothing in the log that nobody expected; no growth.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor
from serai.access.v1 import access_pb2
from serai.tokens.v1 import tokens_service_pb2 as tokens_pb2
from serai.tokens.v1 import tokens_service_pb2_grpc

from fuzz.dispatching import ANSWERS, METADATA, Shapes, shapes
from fuzz.messages import Messages
from fuzz.site import site
from fuzz.tally import Tally
from fuzz.trees import Trees

_WRONG = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_OF_THE_CLIENT = "Internal error from Core"
"""grpc.aio says so here, when a call ends while it still writes; nothing came from the server."""
_AT_A_TIME = 16
_HANG_S = 30.0
_STREAM_S = 0.1
"""A stream is left after so long."""
_ODD: list[tuple[str, str | bytes]] = [("x-bin", b"\0\xff" * 9), ("authorization", "Bearer x"), ("x", "y" * 3_000), ("serai-user", "x")]
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_H2 = [
    _PREFACE + b"\0\0\0\4\0\0\0\0\0",  # SETTINGS
    _PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\6\0\0\0\0\0" + b"\0" * 8,  # PING
    _PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x04\1\4\0\0\0\1" + b"\x82\x86\x84\x41",  # HEADERS, cut short
    _PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff" * 3,  # WINDOW_UPDATE over the limit
    _PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\3\0\0\0\0\1\0\0\0\0" * 300,  # RST_STREAM of nothing
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01" + b"\0" * 200,
]


def run(inputs: int, seed: int) -> Tally:
    tally = Tally("grpc", seed)
    asyncio.run(_run(tally, inputs))
    return tally.end()


async def _run(tally: Tally, inputs: int) -> None:
    async with site(tally) as (serai, watch), AsyncExitStack() as stack:
        own, door = serai.socket, serai.folder / "state" / "tools.sock"
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(f"unix:{place}")) for place in (own, door)]
        shown = await _tokens(channels[0])

        async def call(chance: random.Random) -> None:
            caller = _Caller(chance, channels, shown, (own, door))
            while tally.inputs < inputs and not tally.full and serai.alive:
                await caller.one(tally)
                if tally.inputs % 50 == 0:
                    watch.look(tally.inputs)

        async with asyncio.TaskGroup() as group:
            for at in range(_AT_A_TIME):
                group.create_task(call(random.Random(f"{tally.seed} {at}")))


async def _tokens(channel: grpc.aio.Channel) -> list[str]:
    """Good ones, one of each kind."""
    service = tokens_service_pb2_grpc.TokensServiceStub(channel)
    kinds = [(access_pb2.ROLE_VIEWER, ""), (access_pb2.ROLE_VIEWER, "p"), (access_pb2.ROLE_OPERATOR, ""), (access_pb2.ROLE_ADMIN, "")]
    made = [await service.Create(tokens_pb2.CreateRequest(name=str(role), role=role, project=project)) for role, project in kinds]
    return [one.secret for one in made]


class _Caller:
    """Makes calls and judges their answers."""

    def __init__(self, chance: random.Random, channels: list[grpc.aio.Channel], shown: list[str], places: tuple[Path, Path]) -> None:
        self._chance = chance
        self._channels = channels
        self._shown = shown
        self._places = places
        self._messages = Messages(chance)
        self._trees = Trees(chance, [b'{"a": 1}'])
        self._methods: list[tuple[str, Descriptor, Shapes]] = [
            (path, takes, shape) for path, (takes, shape) in shapes().items() if not path.endswith(("/Add", "/SetAddresses"))
        ]

    async def one(self, tally: Tally) -> None:
        if self._chance.random() < 0.03:
            await self._bytes(tally)
            return
        path, takes, shape = self._chance.choice(self._methods)
        if self._chance.random() < 0.02:
            path = self._chance.choice([path + "x", "/x/y", "/", "/serai.jobs.v1.JobsService/", "//"])
        at_door = self._chance.random() < 0.5
        metadata = self._metadata(at_door=at_door)
        requests = [self._messages.request(takes) for _ in range(self._chance.choice([0, 1, 2, 4]) if shape[0] else 1)]
        content = b"\n".join([path.encode(), repr(list(metadata)).encode(), *requests])
        code = grpc.StatusCode.OK
        try:
            async with asyncio.timeout(_HANG_S):
                await self._call(self._channels[at_door], path, shape, requests, metadata)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if error.details() == _OF_THE_CLIENT:
                code = grpc.StatusCode.CANCELLED
            elif code in _WRONG:
                tally.find(f"{code.name}: {error.details()}", content)
        except TimeoutError:
            tally.find(f"no answer within {_HANG_S:g} s", content)
        tally.add(code.name)

    def _metadata(self, *, at_door: bool) -> tuple[tuple[str, str | bytes], ...]:
        chance = self._chance
        given: Mapping[str, str] = chance.choice(METADATA)
        pairs: list[tuple[str, str | bytes]] = [*given.items()]
        if at_door and chance.random() < 0.9:
            token = chance.choice(self._shown)
            if chance.random() < 0.1:
                at = chance.randrange(len(token))
                token = chance.choice([token[:at], token[:at] + "x" + token[at + 1 :], token + "x", "serai__", "é".encode().hex()])
            pairs.append(("authorization", chance.choice(["Bearer ", "Bearer ", "Bearer ", "bearer ", "Basic ", ""]) + token))
        if chance.random() < 0.05:
            pairs.append(
                chance.choice([("x-bin", b"\0\xff" * 9), ("authorization", "Bearer x"), ("x", "y" * 3_000), ("serai-caller", "core")])
            )
        return tuple(pairs)

    async def _call(
        self, channel: grpc.aio.Channel, path: str, shape: Shapes, requests: list[bytes], metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        match shape:
            case (False, False):
                await channel.unary_unary(path)(requests[0], metadata=metadata)
            case (False, True):
                await _some(cast("Stream", channel.unary_stream(path)(requests[0], metadata=metadata)))
            case _:
                await _some(cast("Stream", channel.stream_stream(path)(_each(requests), metadata=metadata)))

    async def _bytes(self, tally: Tally) -> None:
        """Of a connection that a client library would not make."""
        content = self._trees.bytes(self._chance.choice(_H2))
        try:
            reader, writer = await asyncio.open_unix_connection(self._chance.choice(self._places))
            writer.write(content)
            writer.write_eof()
            async with asyncio.timeout(_HANG_S):
                while await reader.read(65_536):
                    pass
            writer.close()
        except TimeoutError:
            tally.find("the server keeps a connection that its client has left", content)
        except OSError:
            pass  # it is ended from the other side
        tally.add("bytes")


Stream = grpc.aio.UnaryStreamCall[bytes, bytes] | grpc.aio.StreamStreamCall[bytes, bytes]


async def _some(call: Stream) -> None:
    """A few of its answers."""
    try:
        async with asyncio.timeout(_STREAM_S):
            for _ in range(ANSWERS):
                if await call.read() is grpc.aio.EOF:
                    return
    except TimeoutError:
        pass
    finally:
        call.cancel()


async def _each(requests: list[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
